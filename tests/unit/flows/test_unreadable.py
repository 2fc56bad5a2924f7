"""Records that nobody can read: told once, however often the broker delivers them."""

from datetime import timedelta
from typing import Any

import orjson
import pytest

from orchestrator.testing.rows import QUARANTINED
from schemas.changes import WorkerJoined
from schemas.envelope import Envelope, Message
from schemas.topics import AUDIT_ENTRIES, HR_EVENTS, QUARANTINE
from tests.unit.flows.fakes import NOW
from tests.unit.flows.resolving import Office

BROKEN = Message(HR_EVENTS, b"w1", b'{"worker_id": ', (("ce_id", b"e1"),))


async def test_a_record_that_is_delivered_again_is_in_quarantine_once() -> None:
    """Its process died before it had committed the offset."""
    office = Office(None)
    for _ in range(2):
        await office.tell(BROKEN)
    assert told(office) == (1, 1)
    assert len(office.store.tables.table(QUARANTINED)) == 1


async def test_another_record_at_the_same_place_is_told_as_well() -> None:
    """The topic was made anew."""
    office = Office(None)
    await office.tell(BROKEN)
    await office.tell(BROKEN._replace(value=b"{"))
    assert told(office) == (2, 2)


def event(subject: str = "w1", **attributes: Any) -> Message:
    """An event whose id says whom it is about."""
    given = {"id": "w1:joined:1", "source": "hr/a", "type": WorkerJoined.TYPE, "time": NOW, **attributes}
    return Message(HR_EVENTS, b"", orjson.dumps({"worker_id": "w1"}), Envelope(**given, subject=subject).headers())


@pytest.mark.parametrize(
    ("code", "record"),
    [
        ("from_the_future", event(time=NOW + timedelta(days=2))),
        ("unknown_version", event(type="jml.worker.joined.v9")),
        ("unknown_type", event(type="com.example.other")),
        ("invalid", event()),
        ("invalid", event(subject="")),
        ("invalid", event()._replace(value=b"{")),
    ],
)
async def test_an_envelope_that_could_be_read_says_which_event_it_was_and_whose(code: str, record: Message) -> None:
    office = Office(None)
    await office.tell(record)
    (kept,) = office.store.tables.table(QUARANTINED).values()
    assert (kept.code, kept.event_id) == (code, "hr/a#w1:joined:1")
    (entry,) = entries(office)
    assert entry["actor"] == "hr/a"
    assert entry["event_id"] == "hr/a#somebody:joined:1", "the log has no name for the person"


async def test_an_event_of_which_nothing_says_whom_it_names_is_not_named_in_the_log() -> None:
    office = Office(None)
    await office.tell(event(subject="")._replace(value=b"{"))
    (entry,) = entries(office)
    assert "event_id" not in entry


async def test_an_event_that_was_refused_may_come_again_when_it_can_be_read() -> None:
    """Its id is not taken: a clock that was wrong is set right, a version becomes known."""
    office = Office(None)
    early = office.event("worker.joined", "w1", start_date="2026-01-01")
    headers = tuple((name, b"2100-01-01T00:00:00Z" if name == "ce_time" else value) for name, value in early.headers)
    await office.tell(early._replace(headers=headers))
    await office.tell(early)
    assert [one["kind"] for one in entries(office)][:2] == ["event_quarantined", "event_received"]


def entries(office: Office) -> list[dict[str, Any]]:
    """What the log says."""
    return [orjson.loads(one.value) for one in office.publisher.published if one.topic == AUDIT_ENTRIES]


def told(office: Office) -> tuple[int, int]:
    """How often the log says so, and how many records are in the quarantine topic."""
    published = office.publisher.published
    entries = [orjson.loads(one.value)["kind"] for one in published if one.topic == AUDIT_ENTRIES]
    return entries.count("event_quarantined"), sum(one.topic == QUARANTINE for one in published)
