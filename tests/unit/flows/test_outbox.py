"""The outbox publisher: a broker that is down costs time and order stays; what it cannot finish, the relay does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.domain.retry import Backoff
from orchestrator.errors import BrokerUnavailable, JmlError
from orchestrator.flows import outbox as outbox_module
from orchestrator.flows.outbox import ABANDONED_AFTER, QUEUED_SEGMENTS, OutboxPublisher, publish_leftovers
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES
from tests.unit.flows.fakes import NOW, FakeOutboxStore, FakePublisher, rounds, until


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_BACKOFF", Backoff(base=0.001, most=0.01))


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def store() -> FakeOutboxStore:
    return FakeOutboxStore()


@pytest.fixture
async def outbox(publisher: FakePublisher, store: FakeOutboxStore) -> AsyncIterator[OutboxPublisher]:
    outbox = OutboxPublisher(publisher, store)
    outbox.start()
    yield outbox
    await outbox.drain(0)


def message(number: int) -> Message:
    return Message("scim.crm.provision", b"w1", b"%d" % number)


async def handed_in(outbox: OutboxPublisher, store: FakeOutboxStore, *numbers: int) -> None:
    for number in numbers:
        messages = [message(number)]
        await outbox.submit(store.add(number, messages), messages)


async def test_segments_are_published_in_their_order_and_forgotten(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    await handed_in(outbox, store, 1, 2, 3)
    await until(lambda: not store.segments)
    assert publisher.published == [message(1), message(2), message(3)]


async def test_a_transaction_without_messages_is_nothing_to_publish(
    outbox: OutboxPublisher, publisher: FakePublisher
) -> None:
    await outbox.submit(None, [])
    await outbox.drain()
    assert publisher.tries == 0


async def test_a_broker_that_comes_back_gets_everything_in_order(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    publisher.refusals = 3
    await handed_in(outbox, store, 1, 2, 3)
    await until(lambda: not store.segments)
    assert publisher.tries > 3
    assert publisher.published == [message(1), message(2), message(3)]


async def test_what_arrived_in_spite_of_an_error_is_sent_again(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    """Publishing twice is harmless, losing is not."""
    publisher.refusals, publisher.arriving = 1, 1
    await handed_in(outbox, store, 1)
    await until(lambda: not store.segments)
    assert publisher.published == [message(1), message(1)]


async def test_whoever_saves_waits_while_too_much_is_on_its_way(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    publisher.refusals = 10**9
    numbers = range(1, 2 * QUEUED_SEGMENTS + 2)  # as many on their way, as many in line, and one
    handing = asyncio.create_task(handed_in(outbox, store, *numbers))
    await rounds()
    assert not handing.done()
    publisher.refusals = 0
    await handing
    await until(lambda: not store.segments)
    assert publisher.published == [message(number) for number in numbers]


async def test_evidence_waits_for_company_and_a_command_does_not(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "COMPANY_SECONDS", 60.0)
    entries = [Message(AUDIT_ENTRIES, b"", b"%d" % number) for number in range(3)]
    for number in range(2):
        await outbox.submit(store.add(number, entries[number : number + 1]), entries[number : number + 1])
        await rounds()
    assert publisher.published == entries[:1], "the second one waits"
    await outbox.submit(store.add(2, entries[2:]), entries[2:])
    await handed_in(outbox, store, 3)
    await until(lambda: not store.segments)
    assert publisher.published == [*entries, message(3)]
    assert publisher.tries == 2


async def test_evidence_does_not_wait_until_nobody_can_save_any_more(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "COMPANY_SECONDS", 60.0)
    entries = [Message(AUDIT_ENTRIES, b"", b"%d" % number) for number in range(QUEUED_SEGMENTS + 1)]
    async with asyncio.timeout(5):
        for number, entry in enumerate(entries):
            await outbox.submit(store.add(number, [entry]), [entry])
            await rounds()
        await until(lambda: not store.segments)
    assert publisher.published == entries


async def test_draining_publishes_what_is_left(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    publisher.refusals = 2
    await handed_in(outbox, store, 1, 2)
    await outbox.drain()
    assert publisher.published == [message(1), message(2)]
    assert not store.segments
    await outbox.drain()


async def test_draining_gives_up_on_a_broker_that_stays_down(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    publisher.refusals = 10**9
    await handed_in(outbox, store, 1)
    async with asyncio.timeout(2):
        await outbox.drain(0.05)
    assert list(store.segments) == [1], "for the relay"


async def test_a_store_that_cannot_forget_is_not_a_failure(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    store.outages = 1
    await handed_in(outbox, store, 1)
    await until(lambda: publisher.published)
    await handed_in(outbox, store, 2)
    await until(lambda: 2 not in store.segments)
    assert list(store.segments) == [1], "for the relay"
    assert not outbox.failed.done()


async def test_a_defect_is_told(
    outbox: OutboxPublisher, publisher: FakePublisher, store: FakeOutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(messages: object) -> None:
        raise JmlError("no such topic")

    monkeypatch.setattr(publisher, "publish", broken)
    await handed_in(outbox, store, 1)
    assert str(await outbox.failed) == "no such topic"
    async with asyncio.timeout(2):
        await outbox.drain()


async def test_the_relay_publishes_what_was_abandoned_and_nothing_younger(
    publisher: FakePublisher, store: FakeOutboxStore
) -> None:
    store.add(1, [message(1)], NOW - ABANDONED_AFTER - timedelta(seconds=2))
    store.add(2, [message(2)], NOW - ABANDONED_AFTER - timedelta(seconds=1))
    store.add(3, [message(3)], NOW)
    assert await publish_leftovers(store, publisher, SimulatedClock(NOW)) == 2
    assert publisher.published == [message(1), message(2)]
    assert list(store.segments) == [3]


async def test_the_relay_keeps_what_the_broker_refuses(publisher: FakePublisher, store: FakeOutboxStore) -> None:
    store.add(1, [message(1)], NOW - 2 * ABANDONED_AFTER)
    publisher.refusals = 1
    with pytest.raises(BrokerUnavailable):
        await publish_leftovers(store, publisher, SimulatedClock(NOW))
    assert list(store.segments) == [1]
