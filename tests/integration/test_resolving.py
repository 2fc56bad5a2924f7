"""Events in, persons, commands, timers and audit entries out, through a broker and a store that are real.

On the embedded broker with SQLite, and on Apache Kafka with PostgreSQL where they are at hand.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from orchestrator.flows.expire import timer_event
from orchestrator.ports import Timer
from schemas.changes import MAX_TEXT
from schemas.envelope import MAX_BODY_BYTES, Message
from schemas.topics import HR_EVENTS, IDP_EVENTS, QUARANTINE, lane_topic
from tests.integration.pipeline import (
    APP,
    NOW,
    Pipeline,
    configuration,
    embedded,
    event,
    eventually,
    fresh_topics,
    joined,
    pipeline,
)

pytestmark = pytest.mark.parametrize(
    ("bootstrap", "database_url"),
    [
        pytest.param("embedded", "sqlite", id="embedded"),
        pytest.param("kafka", "postgres", id="kafka", marks=[pytest.mark.kafka, pytest.mark.postgres]),
    ],
    indirect=True,
)

HEADERS = {
    "ce_specversion": b"1.0",
    "ce_id": b"e1",
    "ce_source": b"hr/test",
    "ce_type": b"jml.worker.joined.v1",
    "ce_time": b"2026-03-02T08:15:00Z",
    "content-type": b"application/json",
}
JOINER = {"worker_id": "bad", "start_date": "2026-01-05", "attributes": {"user_name": "bad"}}


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "embedded":
        with embedded() as address:
            yield address
        return
    yield request.getfixturevalue("own_kafka")


@pytest.fixture
async def line(
    request: pytest.FixtureRequest, bootstrap: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Pipeline]:
    """All roles but the connector."""
    config = configuration(bootstrap, database_url, tmp_path / "audit")
    database = Database(database_url)
    await migrate(database)
    await database.close()
    if "kafka" in request.node.callspec.id:
        await fresh_topics(config)
    async with pipeline(config, "resolver", "scheduler", "auditor", "relay", clock=SimulatedClock(NOW)) as line:
        yield line


def headers(**changed: bytes | None) -> list[tuple[str, bytes | None]]:
    """The headers of a good event but for some; None leaves one out."""
    names = {name.replace("ce_", "").replace("content-type", "content"): name for name in HEADERS}
    values = {**HEADERS, **{names[name]: value for name, value in changed.items()}}
    return [(name, value) for name, value in values.items() if value is not None]


def body(**changed: Any) -> bytes:
    return orjson.dumps({**JOINER, **changed})


POISON: dict[str, tuple[bytes | None, list[tuple[str, bytes | None]], str, str]] = {
    "undecodable bytes": (b"\xff\xfe{", headers(), "invalid", "Invalid JSON"),
    "cut off": (body()[:20], headers(), "invalid", "Invalid JSON"),
    "no event at all": (b"hello", [], "missing_attribute", "specversion"),
    "a structured event that is no JSON": (
        b"\x80",
        [("content-type", b"application/cloudevents+json")],
        "undecodable",
        "not JSON",
    ),
    "tombstone": (None, headers(), "tombstone", "no body"),
    "wrong version of CloudEvents": (body(), headers(specversion=b"0.3"), "unknown_version", "0.3"),
    "wrong version of the type": (body(), headers(type=b"jml.worker.joined.v9"), "unknown_version", "v9"),
    "unknown type": (body(), headers(type=b"com.example.other"), "unknown_type", "com.example.other"),
    "no id": (body(), headers(id=None), "missing_attribute", "id"),
    "no worker id": (orjson.dumps({"start_date": "2026-01-05"}), headers(), "invalid", "worker_id"),
    "no time": (body(), headers(time=None), "missing_attribute", "time"),
    "time that is a name": (body(), headers(time=b"Ada"), "bad_time", "RFC 3339"),
    "version that is a name": (body(), headers(specversion=b"Ada 0.3"), "unknown_version", "1.0 is"),
    "type that is a name": (body(), headers(type=b"Ada.Lovelace@example.com"), "unknown_type", "form"),
    "header with a name that is not UTF-8": (body(), [*headers(), ("ce_Ada", b"\xff")], "undecodable", "UTF-8"),
    "time without zone": (body(), headers(time=b"2026-03-02T08:15:00"), "bad_time", "no time zone"),
    "end before the start": (body(contract_end="2026-01-04"), headers(), "invalid", "before start_date"),
    "unknown field": (body(startdate="2026-01-05"), headers(), "invalid", "startdate"),
    "NUL in a name": (body(attributes={"given_name": "A\x00da"}), headers(), "invalid", "NUL"),
    "NUL in the id": (body(), headers(id=b"e\x00"), "undecodable", "NUL"),
    "too long": (body(attributes={"title": "x" * (MAX_TEXT + 1)}), headers(), "invalid", "title"),
    "header that is not UTF-8": (body(), headers(id=b"\xff\xfe"), "undecodable", "ce_id"),
}


async def test_what_nobody_can_read_is_set_aside_with_its_reason_and_the_rest_flows_on(line: Pipeline) -> None:
    places = {}
    for number, (name, (value, told, _, _)) in enumerate(POISON.items()):
        places[name] = await line.send_raw(value, told)
        # The same key, so that it stands behind the bad one in the same partition.
        await line.send(Message(**{**_fields(joined(f"w{number}")), "key": b"bad"}))

    for number in range(len(POISON)):
        assert (await line.account(f"w{number}")) is not None
    for name, (value, _, code, reason) in POISON.items():
        kept = await line.quarantined(places[name])
        assert kept.value == value, name
        assert kept.key == b"bad"
        assert (name, kept.code) == (name, code)
        assert reason in kept.reason, name
        assert "Ada" not in kept.reason

    published = {dict(one.headers)["quarantine-record"].decode(): one for one in await _quarantine(line, len(POISON))}
    for name, (value, original, code, _) in POISON.items():
        record = published["/".join(map(str, places[name]))]
        assert record.value == (value or b""), name
        assert dict(record.headers)["quarantine-code"].decode() == code
        assert {(key, header) for key, header in original if header is not None} <= set(record.headers)
    audited = await eventually(lambda: _audited(line, "event_quarantined", len(POISON)))
    assert {one["details"]["record"] for one in audited} == published.keys()


async def test_a_message_of_five_megabytes_is_set_aside_whole(line: Pipeline) -> None:
    large = orjson.dumps({**JOINER, "attributes": {"title": "x" * (5 << 20)}})
    place = await line.send_raw(large, headers(), topic=IDP_EVENTS)
    await line.send(joined("w1"))
    kept = await line.quarantined(place)
    assert (kept.code, kept.value) == ("too_large", large)
    assert str(MAX_BODY_BYTES) in kept.reason
    (record,) = await _quarantine(line, 1)
    assert record.value == large
    assert await line.account("w1") is not None


async def test_headers_that_are_none_of_ours_do_not_matter(line: Pipeline) -> None:
    """FastStream's own parser would lose the whole batch (ag2ai/faststream issue 2458)."""
    odd: list[tuple[str, bytes | None]] = [("x-null", None), ("x-bytes", b"\xff\xfe"), ("x-empty", b"")]
    await line.send_raw(body(worker_id="w1"), [*headers(), *odd], key=None)
    await line.send_raw(body(worker_id="w2"), [*odd, *headers(id=b"e2")], key=b"\xff\x00")
    assert await line.account("w1") is not None
    assert await line.account("w2") is not None


async def test_names_in_any_script_go_through_unchanged(line: Pipeline) -> None:
    name = "\u202eנור‮ بن \U0001f469\u200d\U0001f4bb e\u0301"
    await line.send(joined("w1", attributes={"display_name": name}))
    account = await line.account("w1")
    assert account is not None
    assert account.resource["displayName"] == name
    (command,) = await line.records(lane_topic(APP, "provision"), at_least=1)
    assert orjson.loads(command.value)["resource"]["displayName"] == name


async def test_what_is_strange_but_readable_ends_on_the_timeline(line: Pipeline) -> None:
    moved = event("worker.moved", {"worker_id": "nobody", "attributes": {"title": "Lead"}}, event_id="move-1")
    left = event("worker.left", {"worker_id": "w1", "last_day": "2025-12-31"}, event_id="left-1", at=NOW + timedelta(1))
    circle = [
        joined(person, attributes={"manager_id": manager}) for person, manager in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    await line.send(moved, joined("w1"), left, *circle)

    assert (await line.resolved("move-1"))["details"]["status"] == "unknown"
    assert await line.account("nobody") is None, "nobody has heard of an engagement"
    assert (await line.resolved("left-1"))["details"]["status"] == "left", "an end before the start is an end"
    assert await _state(line, "w1") == "inactive"

    async def in_a_circle() -> list[str]:
        found = [one for one in await line.told() if (one.get("details") or {}).get("problem") == "manager_cycle"]
        return sorted({one["person_id"] for one in found})

    assert await eventually(in_a_circle)
    assert await line.account("c") is not None, "a circle of managers stops nothing"


async def test_an_event_that_comes_twice_is_one_event(line: Pipeline) -> None:
    await line.send(joined("w1"), joined("w1"))
    await line.send(joined("w1"))
    await eventually(lambda: _audited(line, "event_duplicated", 2))
    account = await line.account("w1")
    assert account is not None
    assert account.revision == 1
    assert len(await line.records(lane_topic(APP, "provision"), at_least=1)) == 1


async def test_the_order_in_which_events_arrive_does_not_matter(line: Pipeline) -> None:
    """What was stated last counts, whatever came last; what came too late is superseded and says so."""
    move = {"worker_id": "w1", "effective": "2026-02-01"}
    first = event(
        "worker.moved", {**move, "attributes": {"title": "First"}}, event_id="m1", at=NOW + timedelta(hours=1)
    )
    second = event(
        "worker.moved", {**move, "attributes": {"title": "Second"}}, event_id="m2", at=NOW + timedelta(hours=2)
    )
    await line.send(second, first, joined("w1"))
    await line.resolved("join-w1")
    account = await line.account("w1")
    assert account is not None
    assert account.resource["title"] == "Second"


async def test_an_identity_provider_may_know_a_person_by_the_address_only(line: Pipeline) -> None:
    await line.send(joined("w1"), joined("w2", attributes={"email": "shared@example.com"}))
    await line.send(joined("w3", attributes={"email": "shared@example.com"}))
    await line.resolved("join-w3")
    await line.resolved("join-w1")
    for number, email in enumerate(("W1@Example.com", "shared@example.com", "unknown@example.com")):
        blocked = event("idp.account_disabled", {"email": email}, event_id=f"idp-{number}", at=NOW, topic=IDP_EVENTS)
        await line.send(blocked)
    codes = {}
    for number in (1, 2):
        entry = await line.resolved(f"idp-{number}")
        codes[number] = entry["details"]["code"]
    assert codes == {1: "ambiguous_correlation", 2: "uncorrelated"}
    await line.resolved("idp-0")
    states = {person: (await line.account(person)) for person in ("w1", "w2", "w3")}
    assert {person: account and account.state for person, account in states.items()} == {
        "w1": "inactive",
        "w2": "active",
        "w3": "active",
    }


async def test_an_identity_provider_may_speak_of_a_joiner_of_the_same_moment(line: Pipeline) -> None:
    await line.send(
        joined("w1"),
        event("idp.account_disabled", {"email": "w1@example.com"}, event_id="idp-1", at=NOW, topic=HR_EVENTS),
    )
    assert (await line.resolved("idp-1"))["kind"] == "person_resolved"


async def test_a_contract_ends_by_the_scheduler(line: Pipeline) -> None:
    await line.send(joined("w1", kind="contractor", contract_end="2026-03-31"))
    view = await line.person("w1")
    assert [(one.kind, one.due.isoformat()) for one in view.timers] == [("contract_end", "2026-04-01T00:00:00+00:00")]
    line.clock.advance_to(NOW + timedelta(days=29))
    await line.resolved("join-w1")
    assert await _state(line, "w1") == "active"
    line.clock.advance_to(NOW + timedelta(days=30))
    await eventually(lambda: _is(line, "w1", "inactive"))
    kinds = await eventually(lambda: _kinds(line, "w1", "timer_fired"))
    assert {"timer_set", "timer_fired"} <= kinds
    commands = await line.records(lane_topic(APP, "deprovision"), at_least=1)
    assert [orjson.loads(one.value)["kind"] for one in commands] == ["deactivate"]


async def test_a_timer_goes_with_what_set_it(line: Pipeline) -> None:
    """A contract that is extended ends later; one that becomes permanent does not end."""
    await line.send(joined("w1", contract_end="2026-03-31"), joined("w2", contract_end="2026-03-31"))
    await line.resolved("join-w2")
    extended = {"worker_id": "w1", "contract_end": "2026-06-30"}
    permanent = {"worker_id": "w2", "contract_end": None}
    later = NOW + timedelta(hours=1)
    await line.send(
        event("worker.contract_changed", extended, event_id="c1", at=later),
        event("worker.contract_changed", permanent, event_id="c2", at=later),
    )
    await line.resolved("c1")
    await line.resolved("c2")
    line.clock.advance_to(NOW + timedelta(days=60))
    assert [one.due.date().isoformat() for one in (await line.person("w1")).timers] == ["2026-07-01"]
    assert (await line.person("w2")).timers == []
    assert len(await eventually(lambda: _audited(line, "timer_cancelled", 2))) == 2
    line.clock.advance_to(NOW + timedelta(days=150))
    await eventually(lambda: _is(line, "w1", "inactive"))
    assert await _state(line, "w2") == "active"
    fired = [one for one in await line.told() if one["kind"] == "timer_fired"]
    assert [one["person_id"] for one in fired] in ([], ["w1"])  # the log may be a moment behind


async def test_a_scheduler_whose_clock_is_ahead_does_not_cost_the_real_end(line: Pipeline) -> None:
    """Its early event decides nothing, and the one at the right time must not be taken for a duplicate of it."""
    await line.send(joined("w1", contract_end="2026-03-02"))
    (timer,) = (await line.person("w1")).timers
    await line.send(timer_event(Timer("w1", timer.kind, timer.due, timer.event_id, timer.rule)))
    await line.resolved(f"w1/contract_end/{timer.due:%Y-%m-%dT%H:%M:%S.%fZ}", source="jml/scheduler")
    assert await _state(line, "w1") == "active"
    line.clock.advance_to(timer.due)
    await eventually(lambda: _is(line, "w1", "inactive"))


async def test_every_step_is_in_the_log_once_and_without_gaps(line: Pipeline) -> None:
    people = [f"w{number}" for number in range(40)]
    await line.send(*(joined(person, contract_end="2026-03-31") for person in people))
    left = [
        event("worker.left", {"worker_id": one, "last_day": "2026-03-01"}, event_id=f"left-{one}")
        for one in people[:20]
    ]
    await line.send(*left, *left)
    await eventually(lambda: _persons(line, active=20, left=20))
    line.clock.advance_to(NOW + timedelta(days=60))
    await eventually(lambda: _persons(line, left=40))
    expected = {"event_received": 60, "timer_fired": 20, "timer_cancelled": 20, "command_issued": 80}
    found: dict[str, int] = {}

    async def complete() -> bool:
        found.clear()
        for one in line.entries():
            timers_own = one["kind"] == "event_received" and one["actor"] == "scheduler"
            if one["kind"] in expected and not timers_own:
                found[one["kind"]] = found.get(one["kind"], 0) + 1
        return found == expected

    await eventually(complete)
    numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
    for one in line.entries():
        numbers[one["writer"], one["epoch"]].append(one["sequence"])
    assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values())
    issued = [(one["subject"], one["revision"]) for one in line.entries() if one["kind"] == "command_issued"]
    assert len(issued) == len(set(issued))
    timeline = [one.kind for one in (await line.person("w0")).timeline if one.kind != "event_duplicated"]
    assert timeline[:4] == ["event_received", "person_resolved", "command_issued", "timer_set"]


def _fields(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in ("topic", "key", "value", "headers")}


async def _persons(line: Pipeline, **standing: int) -> bool:
    status = await line.store.status()
    return status.persons == standing and status.outbox_segments == 0


async def _quarantine(line: Pipeline, number: int) -> list[Any]:
    return await line.records(QUARANTINE, at_least=number)


async def _audited(line: Pipeline, kind: str, number: int) -> list[dict[str, Any]]:
    found = [one for one in line.entries() if one["kind"] == kind]
    return found if len(found) >= number else []


async def _kinds(line: Pipeline, person_id: str, wanted: str) -> set[str]:
    kinds = {one.kind for one in (await line.person(person_id)).timeline}
    return kinds if wanted in kinds else set()


async def _state(line: Pipeline, person_id: str) -> str:
    account = await line.account(person_id)
    return account.state if account else "none"


async def _is(line: Pipeline, person_id: str, state: str) -> bool:
    await asyncio.sleep(0)
    return await _state(line, person_id) == state
