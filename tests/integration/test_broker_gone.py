"""Connections to the broker that end while somebody uses them, and clients of it that end in silence."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.metadata import MetadataRequest

from orchestrator.adapters.event_loop import new_event_loop
from orchestrator.adapters.kafka import consuming, publishing
from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from orchestrator.config import KafkaConfig
from orchestrator.errors import BrokerUnavailable, Unreachable
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES
from tests.unit.cli.console import NOBODY


@pytest.fixture
def bootstrap() -> Iterator[str]:
    broker = EmbeddedBroker()
    broker.start()
    yield broker.bootstrap
    broker.stop()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaProducer]:
    """The producers that are made, with little patience for them."""
    made = []

    def make(**options: Any) -> AIOKafkaProducer:
        made.append(AIOKafkaProducer(**options))
        return made[-1]

    monkeypatch.setattr(publishing, "AIOKafkaProducer", make)
    monkeypatch.setattr(publishing, "CONFIRM_SECONDS", 0.5)
    monkeypatch.setattr(publishing, "CLOSE_SECONDS", 0.1)
    return made


@pytest.fixture
async def publisher(bootstrap: str) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(bootstrap)
    yield publisher
    await publisher.close()


async def test_what_is_never_confirmed_is_published_anew_by_another_producer(
    publisher: KafkaPublisher, bootstrap: str, made: list[AIOKafkaProducer]
) -> None:
    await publisher.publish([message("before")])
    made[0]._sender.sender_task.cancel()  # as if it had ended in silence: nothing of it is ever confirmed or refused
    lost = await asyncio.gather(*(publisher.publish([message("lost")]) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in lost] == [BrokerUnavailable] * 3
    assert all("some may have arrived" in str(one) and "and try again" in str(one) for one in lost)
    await publisher.publish([message("after")])
    assert len(made) == 2
    assert await values(bootstrap, 2) == [b"before", b"after"]


async def test_what_fails_late_does_not_end_the_producer_that_came_after(
    publisher: KafkaPublisher, made: list[AIOKafkaProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    await publisher.publish([message("before")])
    made[0]._sender.sender_task.cancel()
    early = asyncio.create_task(publisher.publish([message("early")]))
    await asyncio.sleep(0)  # it has its deadline
    monkeypatch.setattr(publishing, "CONFIRM_SECONDS", 1.5)
    late = asyncio.create_task(publisher.publish([message("late")]))
    with pytest.raises(BrokerUnavailable):
        await early
    await publisher.publish([message("between")])
    with pytest.raises(BrokerUnavailable):
        await late
    await publisher.publish([message("after")])
    assert len(made) == 2


async def test_a_consumer_that_refuses_to_read_for_ever_ends_its_process(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "GIVE_UP_SECONDS", 0)
    consumers = consuming.Consumers(bootstrap, KafkaConfig(), alone=True)
    consumers.subscribe([AUDIT_ENTRIES], "jml.auditor", nothing)
    await consumers.start()
    try:
        subscriber: Any = consumers.broker.subscribers[0]

        def dead() -> None:
            raise KafkaError("Unexpected error during coordination")

        monkeypatch.setattr(subscriber.consumer._coordinator, "check_errors", dead)  # as when its task has ended
        error = await asyncio.wait_for(consumers.failed, 30)
    finally:
        await consumers.stop()
    assert isinstance(error, BrokerUnavailable)
    assert "reading audit.entries is refused" in str(error)


async def test_who_publishes_while_nobody_listens_is_told_that_nothing_was_sent_and_what_to_do() -> None:
    publisher = KafkaPublisher(NOBODY)
    with pytest.raises(BrokerUnavailable) as gone:
        await publisher.publish([message("one"), message("two")])
    told = f"Kafka at {NOBODY} did not confirm 2 messages (KafkaConnectionError), none of them was sent: start it, or"
    assert str(gone.value).startswith(told)
    assert str(gone.value).endswith("and try again")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TopicAuthorizationFailedError("hr.events"), ("refuses 1 messages", "TopicAuthorizationFailed")),
        (UnknownTopicOrPartitionError(), ("did not confirm 1 messages", "run `jml topics create`")),
        (KafkaTimeoutError(), ("did not confirm 1 messages", "some may have arrived", "start it")),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_what_a_broker_that_is_there_does_not_take_has_another_remedy(
    publisher: KafkaPublisher, monkeypatch: pytest.MonkeyPatch, error: KafkaError, words: tuple[str, ...]
) -> None:
    async def send(*_: object) -> None:
        raise error

    monkeypatch.setattr(publisher, "_send", send)
    with pytest.raises(BrokerUnavailable) as refused:
        await publisher.publish([message("one")])
    for word in words:
        assert word in str(refused.value)


async def test_whoever_begins_while_nobody_listens_is_told_what_to_do() -> None:
    consumers = consuming.Consumers(NOBODY, KafkaConfig())
    for begin in (consumers.reach, consumers.start):
        with pytest.raises(Unreachable, match=f"Kafka at {NOBODY} does not answer .*start it, or correct"):
            await begin()
    await consumers.stop()


async def test_whoever_reads_already_waits_for_a_broker_that_goes_away() -> None:
    broker = EmbeddedBroker()
    broker.start()
    consumers = consuming.Consumers(broker.bootstrap, KafkaConfig(), alone=True)
    consumers.subscribe([AUDIT_ENTRIES], "jml.auditor", nothing)
    await consumers.reach()
    await consumers.start()
    broker.stop()
    await asyncio.sleep(1)
    assert not consumers.failed.done()
    await consumers.stop()


async def nothing(_: Any) -> None:
    """What is read here is of no interest."""


def test_a_connection_that_its_peer_has_closed_is_a_connection_error_to_the_client(bootstrap: str) -> None:
    async def request_after_the_end() -> None:
        host, _, port = bootstrap.partition(":")
        connection = await create_conn(host, int(port))
        connection._writer.transport.abort()
        with pytest.raises(KafkaConnectionError):
            while True:  # at each step of the loop, until the client has noticed by itself
                connection.send(MetadataRequest([])).close()
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(request_after_the_end())


def test_streams_work_as_ever_and_break_as_asyncio_has_it() -> None:
    async def talk() -> tuple[bytes, bool]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.writelines([await reader.readline(), b"."])
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            await writer.drain()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ConnectionResetError):
                writer.write(b"too late")
            return answer, writer.is_closing()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(talk()) == (b"hello\n.", True)


def message(value: str) -> Message:
    return Message(AUDIT_ENTRIES, b"", value.encode())


async def values(bootstrap: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(AUDIT_ENTRIES, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()
