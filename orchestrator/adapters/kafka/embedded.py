"""A broker inside the process: librdkafka's mock cluster, real protocol on loopback, for a first run and fast tests.

It keeps nothing on disk, allows one member per group and drops the oldest records of a partition beyond about five
megabytes whether they were read or not. `BoundedPublisher` keeps publishing from outrunning reading by that much.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Producer

from orchestrator.ports import Publisher
from schemas.envelope import Message

KEPT_BYTES = 3 << 20
"""Unread bytes allowed per topic; all of a topic may sit in one partition, which keeps about 5 MB."""
RECORD_OVERHEAD = 400
PARTITIONS = 4
"""Of every topic: what the mock cluster makes of a topic at its first mention."""


class EmbeddedBroker:
    """One mock broker; `bootstrap` is its address while it runs."""

    def __init__(self) -> None:
        self._producer: Producer | None = None
        self.bootstrap = ""

    def start(self) -> None:
        """Start it and learn its address."""
        self._producer = Producer(
            {"bootstrap.servers": "localhost:1", "test.mock.num.brokers": 1, "log_level": 0, "logger": _silent}
        )
        broker = next(iter(self._producer.list_topics(timeout=10).brokers.values()))
        self.bootstrap = f"{broker.host}:{broker.port}"

    def stop(self) -> None:
        """Stop it; everything it held is gone."""
        self._producer = None


class _Silence:
    def log(self, *_: Any) -> None:
        """Say nothing: the mock cluster announces itself as a warning."""


_silent = _Silence()


class Unread:
    """Bytes published to each topic and not read yet, counted inside the process."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        self._changed = asyncio.Condition()
        self.messages = 0

    async def published(self, topic: str, size: int) -> None:
        """Wait until the topic has room, then count; a single message larger than all room passes alone."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._bytes.get(topic, 0) + size <= max(KEPT_BYTES, size))
            self._bytes[topic] = self._bytes.get(topic, 0) + size
            self.messages += 1

    async def read(self, topic: str, messages: int, size: int) -> None:
        """Count as read."""
        async with self._changed:
            self.messages -= messages
            self._bytes[topic] = max(0, self._bytes.get(topic, 0) - size)
            self._changed.notify_all()


class BoundedPublisher:
    """`ports.Publisher` that waits for readers. Only topics that `is_read` names are bounded: others have no reader."""

    def __init__(self, inner: Publisher, unread: Unread, is_read: Callable[[str], bool]) -> None:
        self._inner = inner
        self._unread = unread
        self._is_read = is_read

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in slices that fit, see `ports.Publisher`."""
        held: list[Message] = []
        size = 0
        for message in messages:
            if self._is_read(message.topic):
                weight = weight_of(message.value)
                if held and size + weight > KEPT_BYTES // 4:
                    await self._inner.publish(held)
                    held, size = [], 0
                await self._unread.published(message.topic, weight)
                size += weight
            held.append(message)
        if held:
            await self._inner.publish(held)


def weight_of(value: bytes | None) -> int:
    """What a record counts: its value and what surrounds it."""
    return len(value or b"") + RECORD_OVERHEAD
