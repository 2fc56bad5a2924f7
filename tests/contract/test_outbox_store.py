"""The contract of `ports.OutboxStore`: messages outlive a crash, byte for byte, until somebody says they arrived."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.records import read_segment
from orchestrator.ports import ResolveChanges
from schemas.envelope import Message
from tests.contract.rows import MINUTE, NOW, message, save

messages = st.builds(
    Message,
    topic=st.text(),
    key=st.binary(max_size=50),
    value=st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(), st.binary(max_size=20)), max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(messages, min_size=1, max_size=5))
async def test_every_byte_survives(database: Database, sent: list[Message]) -> None:
    outbox = SqlOutbox(database)
    segment = await save(database, ResolveChanges(outbox=sent))
    assert segment is not None
    assert await outbox.leftover(older_than=NOW + MINUTE, limit=9) == [(segment, sent)]
    await outbox.published([segment])


def test_what_an_earlier_version_left_is_read_too() -> None:
    left = b'[[["ce_id","1"],["ce_type","t\xc3\xa4"]],[["topic","k","{\\"a\\":1}",[1,0]],["other","","",[]]]]'
    assert read_segment(left) == [
        Message("topic", b"k", b'{"a":1}', (("ce_type", "t\xe4".encode("latin-1")), ("ce_id", b"1"))),
        Message("other", b"", b""),
    ]


async def test_leftovers_are_old_and_come_oldest_first(database: Database) -> None:
    outbox = SqlOutbox(database)
    saved = [
        await save(database, ResolveChanges(outbox=[message(str(minute))]), NOW + minute * MINUTE)
        for minute in range(5)
    ]
    leftover = await outbox.leftover(older_than=NOW + 3 * MINUTE, limit=9)
    assert [(segment, one.key) for segment, [one] in leftover] == list(zip(saved, [b"0", b"1", b"2"], strict=False))
    assert [segment for segment, _ in await outbox.leftover(older_than=NOW + 9 * MINUTE, limit=2)] == saved[:2]


async def test_published_segments_are_forgotten_and_only_those(database: Database) -> None:
    outbox = SqlOutbox(database)
    first, second, third = [await save(database, ResolveChanges(outbox=[message()])) for _ in range(3)]
    assert first is not None
    assert third is not None
    await outbox.published([])
    await outbox.published([first, third, third, 999_999])
    assert [segment for segment, _ in await outbox.leftover(older_than=NOW + MINUTE, limit=9)] == [second]


async def test_the_number_of_a_segment_is_never_used_again(database: Database) -> None:
    """A relay and the worker itself may both publish one; the second to forget it must not hit a newer one."""
    outbox = SqlOutbox(database)
    old = await save(database, ResolveChanges(outbox=[message("old")]))
    assert old is not None
    await outbox.published([old])
    new = await save(database, ResolveChanges(outbox=[message("new")]))
    await outbox.published([old])
    assert await outbox.leftover(older_than=NOW + MINUTE, limit=9) == [(new, [message("new")])]
