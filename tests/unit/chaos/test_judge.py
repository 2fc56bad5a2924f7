"""The judge of a chaos run finds every kind of wrong.

A checker that cannot fail proves nothing, so each check is shown a hand-made run in which just its promise is broken.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.chaos.evidence import Blow, Deed, Evidence, Pause
from orchestrator.chaos.judge import CHECKS, QUEUE, judge
from orchestrator.chaos.times import departures, recoveries
from tests.unit.chaos.good_run import (
    DEEDS,
    ENTRIES,
    EVENTS,
    GOOD,
    MOVED,
    NEW,
    OUT,
    START,
    at,
    did,
    entry,
    journal,
    numbered,
    told,
)


def test_a_good_run_has_no_violation() -> None:
    assert judge(GOOD) == []
    assert [one.took for one in departures(GOOD)] == [20.0]


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


def test_a_call_that_came_before_the_wait_was_asked_for_is_early_for_nobody() -> None:
    slow = with_deeds(lambda f: [*f[:6], replace(f[6], at=at(23.5), arrived_at=at(21.9)), f[7]])
    assert list(CHECKS["retry_after_is_kept"](slow)) == []
    late = with_deeds(lambda f: [*f[:6], replace(f[6], at=at(24.5), arrived_at=at(23.5)), f[7]])
    assert list(CHECKS["retry_after_is_kept"](late))


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
