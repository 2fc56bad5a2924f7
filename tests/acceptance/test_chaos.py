"""The chaos run: its judge finds every kind of wrong, its applications write down the truth, and it passes for real.

A checker that cannot fail proves nothing, so each check is shown a hand-made run in which just its promise is broken.
"""

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.bench.quantiles import quantile
from orchestrator.chaos import faults
from orchestrator.chaos.evidence import Blow, Deed, Evidence, Pause, State, deeds
from orchestrator.chaos.faults import Unruly
from orchestrator.chaos.judge import CHECKS, QUEUE, judge
from orchestrator.chaos.page import page
from orchestrator.chaos.plan import Told, expected, make_plan
from orchestrator.chaos.report import Outcome, figures
from orchestrator.chaos.times import departures, recoveries
from orchestrator.demo.servers.plain import Plain, Request, Response
from tests.conftest import KAFKA, POSTGRES

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


# --- a run in which all is well ---------------------------------------------------------------------------------------


def told(number: int, person: str, kind: str, **data: Any) -> Told:
    return Told(f"{person}/{number}", person, kind, START + timedelta(seconds=number), data, float(number))


def joined(person: str) -> Told:
    attributes = {"department": "eng", "title": "Title 0"}
    return told(0, person, "joined", engagement_id="1", start_date=date(2026, 1, 5), attributes=attributes)


def at(seconds: float) -> float:
    return START.timestamp() + seconds


def did(seconds: float, method: str, person: str, before: State | None, after: State | None, **more: Any) -> Deed:
    """A change of the one account that a person has."""
    path = "/Users" if method == "POST" else f"/Users/of-{person}"
    values = {"status": 201 if method == "POST" else 200, "account": f"of-{person}", "caller": "connector-1.1"} | more
    return Deed(at(seconds), method=method, path=path, person=person, before=before, after=after, **values)


def grouped(seconds: float, **members: Any) -> Deed:
    return Deed(at(seconds), "connector-1.1", "PATCH", "/Groups/g", 204, group="dept eng", account="g", **members)


def entry(seconds: float, kind: str, person: str, revision: int | None = None, **more: Any) -> dict[str, Any]:
    instant = (START + timedelta(seconds=seconds)).isoformat()
    app = {"app": "app0", "revision": revision} if revision else {}
    return {"kind": kind, "at": instant, "person_id": person, "writer": "w", "epoch": 1, **app, **more}


def numbered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one | {"sequence": number} for number, one in enumerate(entries, 1)]


def journal(found: list[Deed]) -> list[dict[str, Any]]:
    return [{"method": one.method, "path": f"/scim/v2{one.path}", "status": one.status} for one in found]


NEW, MOVED, OUT = State(True, "Title 0"), State(True, "Title 1"), State(False, "Title 0")
EVENTS = [
    joined("W1"),
    told(1, "W1", "moved", attributes={"title": "Title 1"}),
    joined("W2"),
    told(2, "W2", "left", engagement_id="1", last_day=date(2026, 3, 1)),
]
DEEDS = [
    did(10, "POST", "W1", None, NEW),
    grouped(11, added=("of-W1",)),
    did(12, "PATCH", "W1", NEW, MOVED),
    did(20, "POST", "W2", None, NEW),
    grouped(21, added=("of-W2",)),
    Deed(at(22), "connector-1.1", "GET", "/Users", 429, "429 seconds", at(24)),
    did(25, "PATCH", "W2", NEW, OUT),
    grouped(26, removed=("of-W2",)),
]


def attempt(seconds: float, person: str, revision: int, command: str, call: str) -> list[dict[str, Any]]:
    """A command, its intent and its outcome."""
    state = "inactive" if command == "deactivate" else "active"
    return [
        entry(seconds, "command_issued", person, revision, details={"command": command}),
        entry(seconds + 0.5, "call_intended", person, revision),
        entry(seconds + 3, "command_applied", person, revision, details={"state": state, "calls": [[call, 200]]}),
    ]


ENTRIES = numbered(
    [
        *(entry(5, "event_received", one.person, event_id=f"hr/chaos#{one.id}") for one in EVENTS),
        *(entry(5, "person_resolved", one.person, event_id=f"hr/chaos#{one.id}") for one in EVENTS),
        *attempt(9, "W1", 1, "create", "POST"),
        *attempt(11.5, "W1", 2, "patch", "PATCH"),
        *attempt(19, "W2", 1, "create", "POST"),
        *attempt(24.4, "W2", 2, "deactivate", "PATCH"),
    ]
)
GOOD = Evidence(
    told=EVENTS,
    entries=ENTRIES,
    deeds={"app0": DEEDS},
    journals={"app0": journal(DEEDS)},
    departments={"app0": None},
    judged_at=START + timedelta(seconds=60),
    logs={"connector-1.log": b"started\nall is well\n"},
    canaries=("Canary", "canarytoken"),
)


def test_a_good_run_has_no_violation() -> None:
    assert judge(GOOD) == []
    assert [one.took for one in departures(GOOD)] == [20.0]


# --- and runs in which one thing is wrong -----------------------------------------------------------------------------


def with_deeds(change: Callable[[list[Deed]], list[Deed]]) -> Evidence:
    changed = change(list(DEEDS))
    return replace(GOOD, deeds={"app0": changed}, journals={"app0": journal(changed)})


def with_entries(keep: Callable[[dict[str, Any]], bool], *more: dict[str, Any]) -> Evidence:
    return replace(GOOD, entries=numbered([one for one in ENTRIES if keep(one)] + list(more)))


def always(_: Mapping[str, Any]) -> bool:
    return True


def taken_over(**more: Any) -> Evidence:
    """Another process says that W1 is its own now, and who had it before goes on."""
    other: dict[str, Any] = {"writer": "connector.app0@host-77-abc123"}
    entries = [*ENTRIES, entry(11, "call_intended", "W1", 1, **other)]
    return replace(GOOD, entries=entries, workers={77: "connector-2"}, **more)


def in_line(before_the_leaver: int, after: int) -> Evidence:
    """W2 leaves when so many joiners are in line, some of whom the same process serves first."""
    newcomers = [f"N{number}" for number in range(before_the_leaver + after)]
    issued = [entry(24, "command_issued", one, 1, details={"command": "create"}) for one in newcomers]
    made = [
        did(24.5 + number / 1000 + (number >= before_the_leaver), "POST", one, None, NEW)
        for number, one in enumerate(newcomers)
    ]
    return replace(with_entries(always, *issued), deeds={"app0": sorted([*DEEDS, *made], key=lambda deed: deed.at)})


WRONG: list[tuple[str, str, Evidence]] = [
    ("leavers_are_out", "never deactivated", with_deeds(lambda found: [*found[:6], *found[7:]])),
    ("leavers_are_out", "an account of nobody we know", with_deeds(lambda f: [*f, did(30, "POST", "W9", None, NEW)])),
    ("nobody_is_locked_out", "locked out", with_deeds(lambda f: [*f, did(30, "PATCH", "W1", MOVED, OUT)])),
    ("nobody_is_locked_out", "never created", with_deeds(lambda f: f[3:])),
    ("nobody_is_locked_out", "title of yesterday", with_deeds(lambda f: [f[0], f[1], *f[3:]])),
    (
        "nobody_is_locked_out_meanwhile",
        "for a moment",
        with_deeds(lambda f: [*f, did(30, "PATCH", "W1", MOVED, OUT), did(31, "PATCH", "W1", OUT, MOVED)]),
    ),
    ("groups_are_right", "left in the group", with_deeds(lambda found: found[:-1])),
    ("groups_are_right", "not in the group", with_deeds(lambda f: [f[0], *f[2:]])),
    ("one_account", "POST twice", with_deeds(lambda f: [*f, did(30, "POST", "W1", None, MOVED, account="second")])),
    (
        "leavers_stay_out",
        "in again, out again",
        with_deeds(lambda f: [*f, did(30, "PATCH", "W2", OUT, NEW), did(31, "PATCH", "W2", NEW, OUT)]),
    ),
    (
        "newer_wins",
        "older, then newer again",
        with_deeds(lambda f: [*f, did(30, "PATCH", "W1", MOVED, NEW), did(31, "PATCH", "W1", NEW, MOVED)]),
    ),
    ("events_end_once", "lost", with_entries(lambda one: one.get("event_id") != "hr/chaos#W1/1")),
    (
        "events_end_once",
        "twice",
        with_entries(always, entry(40, "person_resolved", "W1", event_id="hr/chaos#W1/1")),
    ),
    ("events_end_once", "unreadable and nowhere", replace(GOOD, spoiled=1)),
    (
        "events_end_once",
        "quarantined",
        with_entries(always, entry(40, "event_quarantined", "", event_id="hr/chaos#W1/1", details={"record": "x"})),
    ),
    (
        "revisions_end_once",
        "never ended",
        with_entries(lambda one: not (one["kind"] == "command_applied" and one["revision"] == 1)),
    ),
    (
        "revisions_end_once",
        "ended twice",
        with_entries(always, entry(40, "command_superseded", "W1", 1)),
    ),
    ("revisions_end_once", "parked", with_entries(always, entry(40, "command_parked", "W1", 2, details={}))),
    (
        "changes_are_intended",
        "no intent",
        with_entries(lambda one: not (one["kind"] == "call_intended" and one["person_id"] == "W1")),
    ),
    (
        "changes_are_intended",
        "intent of another kind",
        with_entries(lambda one: not (one["kind"] == "call_intended" and one["revision"] == 2)),
    ),
    ("changes_are_intended", "before its intent", with_deeds(lambda f: [replace(f[0], at=at(9.1)), *f[1:]])),
    (
        "successes_are_real",
        "a call that nobody saw",
        with_entries(always, entry(40, "account_verified", "W1", 2, details={"calls": [["PATCH", 200]]})),
    ),
    ("applied_is_true", "never took effect", with_deeds(lambda f: [*f[:6], replace(f[6], after=NEW), f[7]])),
    ("applied_is_true", "only afterwards", with_deeds(lambda f: [*f[:6], replace(f[6], at=at(28)), f[7]])),
    ("sequences_are_gapless", "a gap", replace(GOOD, entries=ENTRIES[:3] + ENTRIES[4:])),
    ("sequences_are_gapless", "twice", replace(GOOD, entries=[*ENTRIES, ENTRIES[-1]])),
    ("retry_after_is_kept", "too early", with_deeds(lambda f: [*f[:6], replace(f[6], at=at(23.5)), f[7]])),
    ("one_owner_at_a_time", "changed by who had it before", taken_over()),
    ("leavers_go_first", "behind the joiners", in_line(QUEUE * 2 // 3, QUEUE // 2)),
    ("nothing_leaks", "a name in a log", replace(GOOD, logs={"relay-1.log": b"ok\nhello canary W1\n"})),
    ("nothing_leaks", "a token in metrics", replace(GOOD, logs={"relay-1 metrics": b'x{t="canarytoken"} 1'})),
    ("witnesses_agree", "an answer without a deed", replace(GOOD, journals={"app0": journal([*DEEDS, DEEDS[0]])})),
    ("nobody_gave_up", "ended by itself", replace(GOOD, exits=("relay-1 ended by itself",))),
]


@pytest.mark.parametrize(("check", "what", "evidence"), WRONG, ids=[f"{check}: {what}" for check, what, _ in WRONG])
def test_the_judge_finds(check: str, what: str, evidence: Evidence) -> None:
    assert list(CHECKS[check](evidence)), what


def test_every_check_is_shown_to_fail() -> None:
    assert {check for check, _, _ in WRONG} == CHECKS.keys()


def test_a_wait_of_one_process_binds_no_other() -> None:
    hurried = with_deeds(lambda f: [*f[:6], replace(f[6], at=at(23.5), caller="connector-2.1"), f[7]])
    assert list(CHECKS["retry_after_is_kept"](hurried)) == []


def test_what_a_process_sends_in_the_moment_it_wakes_up_is_no_broken_fence() -> None:
    late = with_deeds(lambda f: [*f, did(30, "PATCH", "W1", MOVED, NEW), did(31, "PATCH", "W1", NEW, MOVED)])
    assert list(CHECKS["newer_wins"](replace(late, pauses=[Pause("connector-1.1", at(20), at(29.5))]))) == []
    assert list(CHECKS["newer_wins"](replace(late, pauses=[Pause("connector-2.1", at(20), at(29.5))])))
    assert list(CHECKS["newer_wins"](replace(late, pauses=[Pause("connector-1.1", at(20), at(28.5))])))


def test_who_was_frozen_or_struck_may_still_be_at_it() -> None:
    for excuse in (
        {"pauses": [Pause("connector-1.1", at(2), at(9))]},
        {"blows": [Blow("kill", "database", at(2), at(3))]},
    ):
        assert list(CHECKS["one_owner_at_a_time"](taken_over(**excuse))) == []


def test_a_leaver_may_meet_some_joiners_on_the_way() -> None:
    assert list(CHECKS["leavers_go_first"](in_line(QUEUE // 3, QUEUE))) == []
    struck = replace(in_line(QUEUE, QUEUE // 2), blows=[Blow("kill", "broker", at(20), at(24.1))])
    assert list(CHECKS["leavers_go_first"](struck)) == []


def test_a_clock_that_was_ahead_excuses_what_came_early() -> None:
    """A contractor out five minutes before the end, by a resolver whose clock said so."""
    ends = told(2, "W1", "left", engagement_id="1", ends_at=START + timedelta(seconds=320))
    closed = [*DEEDS, did(30, "PATCH", "W1", MOVED, OUT)]
    early = replace(
        GOOD,
        told=[*EVENTS, ends],
        entries=[*ENTRIES, entry(28, "event_received", "W1", event_id=f"hr/chaos#{ends.id}")],
        deeds={"app0": closed},
    )
    assert list(CHECKS["nobody_is_locked_out_meanwhile"](early))
    stepped = Blow("clock", "resolver-1", at(20), at(29), 300)
    assert list(CHECKS["nobody_is_locked_out_meanwhile"](replace(early, blows=[stepped]))) == []
    behind = Blow("clock", "resolver-1", at(20), at(29), -300)
    assert list(CHECKS["nobody_is_locked_out_meanwhile"](replace(GOOD, blows=[behind]))) == []


def test_recovery_is_the_first_work_after_a_blow() -> None:
    writer: dict[str, Any] = {"writer": "resolver@host-77-abc123"}
    entries = [*ENTRIES, entry(33, "person_resolved", "W1", **writer), entry(38, "event_received", "W1", **writer)]
    blows = [
        Blow("kill", "connector-1", at(21), at(23.5)),
        Blow("pause", "resolver-2", at(26), at(30)),
        Blow("kill", "broker", at(34), at(36)),
        Blow("cut", "connector-1 to app0", at(50), at(55)),
    ]
    struck = replace(GOOD, entries=entries, blows=blows, workers={77: "resolver-2"})
    assert recoveries(struck) == {"kill broker": [2.0], "kill connector": [1.5], "pause resolver": [3.0]}


# --- the load ---------------------------------------------------------------------------------------------------------


def test_the_load_is_seeded_and_has_the_shares_it_promises() -> None:
    plan = make_plan(7, 3000, 60, START, "Canary")
    assert plan == make_plan(7, 3000, 60, START, "Canary") != make_plan(8, 3000, 60, START, "Canary")
    events = {one.id: one for one in plan}
    kinds = Counter(one.kind for one in events.values())
    contractors = sum(one.data.get("kind") == "contractor" for one in events.values())
    first: dict[str, list[str]] = {}
    for one in plan:
        if one.id not in first.setdefault(one.person, []):
            first[one.person].append(one.id)
    reordered = sum(ids != sorted(ids) for ids in first.values())
    shares = {
        "contractors": contractors / 3000,
        "leavers": kinds["left"] / 3000,
        "rehires": kinds["rehired"] / 3000,
        "duplicates": len(plan) / len(events) - 1,
        "reordered": reordered / 3000,
    }
    wanted = {"contractors": 0.2, "leavers": 0.3, "rehires": 0.05, "duplicates": 0.1, "reordered": 0.1}
    assert {name: round(share, 1) for name, share in shares.items()} == pytest.approx(wanted, abs=0.051)
    assert all(0 <= one.offset <= 60 for one in plan)


def test_the_expectation_follows_the_instants() -> None:
    ends = START + timedelta(seconds=5)
    story = [
        told(0, "W1", "joined", engagement_id="1", start_date=date(2026, 1, 5), contract_end=date(2026, 3, 2)),
        told(1, "W1", "left", engagement_id="1", ends_at=ends),
        told(2, "W1", "rehired", engagement_id="2", start_date=date(2026, 3, 4)),
    ]
    engaged = [START, ends, datetime(2026, 3, 4, tzinfo=UTC)]
    assert [expected(reversed(story), now)["W1"].engaged for now in engaged] == [True, False, True]
    assert not expected(story[:1], datetime(2026, 3, 3, tzinfo=UTC))["W1"].engaged


# --- applications that misbehave write down the truth -----------------------------------------------------------------


class _Picks(random.Random):
    """Chooses one fault whenever it may happen."""

    wanted = ""

    def random(self) -> float:
        return 0.0

    def choice(self, options: Any) -> Any:
        return self.wanted if self.wanted in options else "" if "500" in options else options[0]


class _Broken:
    """The server with one fault switched on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, unique: bool = True) -> None:
        monkeypatch.setattr(faults, "HANG_SECONDS", 0.2)
        monkeypatch.setattr(faults, "SLOW_START_SECONDS", 0.0)
        self._deeds = folder / "app.deeds.jsonl"
        control = folder / "on"
        control.touch()
        self._plain = Plain()
        self._unruly = Unruly(self._plain, self._deeds, control, "token", "1", unique=unique)
        self._picks = _Picks()
        monkeypatch.setattr(self._unruly, "_chance", self._picks)

    def ask(self, fault: str, method: str, path: str, body: Any = None, caller: str = "token/c-1.1") -> Response:
        """One request while that fault is on."""
        self._picks.wanted = fault
        return asyncio.run(self._ask(method, path, body, caller))

    async def _ask(self, method: str, path: str, body: Any, caller: str) -> Response:
        headers = [(b"authorization", f"Bearer {caller}".encode())]
        request = Request(method, path, {}, headers, orjson.dumps(body) if body else b"", "http://x/scim/v2")
        return await self._unruly(request)

    @property
    def deeds(self) -> list[Deed]:
        return deeds(self._deeds)

    def users(self) -> int:
        return len(self._plain.directory.users.rows)


USER = {"userName": "w1", "externalId": "W1", "active": True, "title": "Title 0"}
DEACTIVATE = {"Operations": [{"op": "replace", "path": "active", "value": False}]}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Broken:
    return _Broken(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("commit then time out", 201), ("500 after commit", 500), ("409 without scimType", 409), ("", 201)],
)
def test_a_create_that_happened_is_written_down_whatever_was_answered(broken: _Broken, fault: str, status: int) -> None:
    answer = broken.ask(fault, "POST", "/Users", USER)
    assert (answer.status, broken.users()) == (status, 1)
    (deed,) = broken.deeds
    assert (deed.person, deed.before, deed.after, deed.fault) == ("W1", None, NEW, fault)
    assert (deed.caller, deed.status, deed.changed) == ("c-1.1", status, True)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("500", 500), ("503", 503), ("hang", 503), ("html page", 503), ("html page for success", 200), ("404 once", 404)],
)
def test_a_change_that_did_not_happen_is_written_down_as_none(broken: _Broken, fault: str, status: int) -> None:
    user = orjson.loads(broken.ask("", "POST", "/Users", USER).body)["id"]
    assert broken.ask(fault, "PATCH", f"/Users/{user}", DEACTIVATE).status == status
    deed = broken.deeds[-1]
    assert (deed.before, deed.after, deed.person, deed.fault, deed.changed) == (NEW, NEW, "W1", fault, False)


def test_faults_that_would_need_a_person_are_bounded(broken: _Broken) -> None:
    user = orjson.loads(broken.ask("", "POST", "/Users", USER).body)["id"]
    for fault, body in (("404 once", USER), ("200 without effect", DEACTIVATE)):
        broken.ask(fault, "PATCH", f"/Users/{user}", DEACTIVATE)
        assert broken.deeds[-1].fault == fault
        broken.ask(fault, "PATCH", f"/Users/{user}", body)
        assert broken.deeds[-1].fault == ""
    assert broken.deeds[-1].after == OUT


@pytest.mark.parametrize(("fault", "header"), [("429 seconds", True), ("429 date", True), ("429 absent", False)])
def test_a_wish_to_wait_is_written_down_with_its_instant(broken: _Broken, fault: str, header: bool) -> None:
    answer = broken.ask(fault, "GET", "/Users")
    (deed,) = broken.deeds
    assert answer.status == 429
    assert any(name == b"retry-after" for name, _ in answer.headers) is header
    assert (deed.allowed_at is not None and 0 < deed.allowed_at - deed.at <= 3) is header


def test_false_as_text(broken: _Broken) -> None:
    user = orjson.loads(broken.ask("", "POST", "/Users", USER | {"active": False}).body)["id"]
    assert orjson.loads(broken.ask("False as text", "GET", f"/Users/{user}").body)["active"] == "False"
    assert orjson.loads(broken.ask("", "GET", f"/Users/{user}").body)["active"] is False


def test_a_stranger_is_refused(broken: _Broken) -> None:
    assert broken.ask("", "POST", "/Users", USER, caller="guessed").status == 401
    assert broken.users() == 0


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_escapes_what_it_shows_and_needs_nothing_else() -> None:
    struck = replace(
        GOOD, blows=[Blow("kill", "<script>-1", at(21), at(23)), Blow("disk", "auditor-1", at(24), at(30))]
    )
    outcome = Outcome(1, struck, ["one_account: <script>"], at(0), at(24.5), at(50), 1.0)
    found = figures(outcome, "jml chaos run --seed 1")
    assert (found["calls"], found["faults"]) == (8, {"429 seconds": 1})
    assert found["deprovision_troubled"]["from_received"]["max"] == 20.0
    assert found["deprovision_calm"]["from_received"] == {"measured": 0}
    shown = page(outcome, found)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert not [address for address in ("http://", "https://", "src=", "href=") if address in shown]


def test_quantiles_are_values_that_were_measured() -> None:
    assert [quantile([1, 2, 3, 4], share) for share in (0.25, 0.5, 0.51, 0.99, 1.0)] == [1, 2, 3, 4, 4]


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Path]:
    """Servers of our own: the names of our topics are fixed, others may use the shared ones, and these get hurt."""
    if not (KAFKA and POSTGRES):
        pytest.skip("needs a real Kafka and PostgreSQL: `make services-up` says what to export")
    folder = tmp_path / "services"
    command = [sys.executable, "-m", "tests.services"]
    try:
        subprocess.run([*command, "up", "--folder", str(folder)], cwd=ROOT, check=True, capture_output=True)
        yield folder / "services.toml"
    finally:
        subprocess.run([*command, "down", "--folder", str(folder)], cwd=ROOT, check=True)


def chaos(*arguments: str, seconds: float) -> tuple[int, Any]:
    """Run `jml chaos` to its end; returns its exit code and what it printed."""
    command = [sys.executable, "-m", "orchestrator.cli", "chaos", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.stdout, done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout)


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_short_run_breaks_no_promise(services: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    size = ("--seed", "11", "--people", "40", "--apps", "3", "--seconds", "25", "--no-rechecks")
    code, found = chaos("run", "--services", str(services), *size, "--report", str(report), seconds=400)
    assert found["violations"] == []
    assert code == 0
    assert found["duplicates_suppressed"] >= found["duplicates_sent"] > 0  # a redelivery is one more
    struck = {blow.partition(" ")[0] for blow in found["blows"]}
    assert {"kill", "pause"} <= struck
    assert len(struck & {"cut", "clock", "disk"}) >= 1
    assert {"kill broker", "kill database"} & found["blows"].keys()
    assert len(found["faults"]) >= 8
    assert found["deprovision_troubled"]["from_received"]["measured"] > 0
    assert found["recovery"]
    assert found["command"].startswith("jml chaos run --kafka")
    assert json.loads((report / "report.json").read_text()) == found
    assert (report / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_mutant_in_real_processes_is_caught_and_its_scene_alone_is_not(services: Path) -> None:
    code, rows = chaos("mutants", "--services", str(services), "--only", "commit-first", seconds=400)
    mutant, control = rows
    assert "events_end_once" in mutant["caught_by"], mutant["violations"][:5]
    assert control["violations"] == []
    assert code == 0
