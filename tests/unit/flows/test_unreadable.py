"""Records that nobody can read: told once, however often the broker delivers them."""

import orjson

from orchestrator.testing.rows import QUARANTINED
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES, HR_EVENTS, QUARANTINE
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


def told(office: Office) -> tuple[int, int]:
    """How often the log says so, and how many records are in the quarantine topic."""
    published = office.publisher.published
    entries = [orjson.loads(one.value)["kind"] for one in published if one.topic == AUDIT_ENTRIES]
    return entries.count("event_quarantined"), sum(one.topic == QUARANTINE for one in published)
