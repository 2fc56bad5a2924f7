"""A broker in memory: topics with partitions, producers, consumer groups with generations and committed offsets.

What the flows have to live with is here: records come again from the committed offset, a rebalance takes partitions
away while their records are being worked on, a member that was silent too long is left out and learns of it when it
wakes up, its commits are refused, and a producer that was told "not confirmed" may have published some of it anyway.
Members are spread by range, as in production, so that the lanes of one account meet in one process.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka import ConsumerRebalanceListener, TopicPartition

from schemas.envelope import Message

REJOIN_SECONDS = 60.0
"""A member that has not given its partitions back by then is left out (`rebalance.timeout.ms`)."""


class Line(Protocol):
    """What lies between a process and the broker. Each method may wait, and may raise BrokerUnavailable."""

    async def produce(self, messages: Sequence[Message]) -> int:
        """Before messages are written; says how many of them arrive."""
        ...

    async def produced(self, *, complete: bool) -> None:
        """After they were written, completely or not; what is raised here leaves the producer in the dark."""
        ...

    async def fetch(self) -> None:
        """Before a batch is fetched."""
        ...

    async def commit(self) -> None:
        """Before offsets are committed."""
        ...

    def mix(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The order in which partitions are fetched: nothing is promised across them."""
        ...


class Quiet:
    """Nothing ever happens, but everybody else may run meanwhile."""

    async def produce(self, messages: Sequence[Message]) -> int:
        """See `Line`."""
        await asyncio.sleep(0)
        return len(messages)

    async def produced(self, *, complete: bool) -> None:
        """See `Line`."""

    async def fetch(self) -> None:
        """See `Line`."""
        await asyncio.sleep(0)

    async def commit(self) -> None:
        """See `Line`."""
        await asyncio.sleep(0)

    def mix(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """See `Line`."""
        return partitions


@dataclass(slots=True)
class MemoryRecord:
    """One record, as Kafka clients hand it out."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


Handle = Callable[[tuple[MemoryRecord, ...]], Awaitable[None]]


class MemoryBroker:
    """The cluster. `partitions` says how many a topic has."""

    def __init__(self, partitions: Callable[[str], int], line: Line | None = None) -> None:
        self.line: Line = line or Quiet()
        self.groups: dict[str, Group] = {}
        self.context = copy_context()  # whoever asks may die: the broker's own timers go on
        self._partitions = partitions
        self._logs: dict[TopicPartition, list[MemoryRecord]] = {}

    def log(self, place: TopicPartition) -> list[MemoryRecord]:
        """The records of one partition."""
        return self._logs.setdefault(place, [])

    def topic(self, name: str) -> list[TopicPartition]:
        """The partitions of a topic."""
        return [TopicPartition(name, number) for number in range(self._partitions(name))]

    async def publish(self, messages: Sequence[Message]) -> None:
        """`ports.Publisher`."""
        arriving = await self.line.produce(messages)
        for message in messages[:arriving]:
            self.append(message)
        await self.line.produced(complete=arriving == len(messages))

    def append(self, message: Message) -> None:
        """Write one record."""
        place = TopicPartition(message.topic, zlib.crc32(message.key) % self._partitions(message.topic))
        log = self.log(place)
        record = MemoryRecord(place.topic, place.partition, len(log), message.key, message.value, message.headers)
        log.append(record)
        for group in self.groups.values():
            group.arrived(place)

    def group(self, name: str) -> "Group":
        """A consumer group."""
        return self.groups.setdefault(name, Group(self))

    def lost(self, owner: Hashable) -> None:
        """A process has not been heard of for the session timeout: its members are left out."""
        for group in self.groups.values():
            for member in [one for one in group.members if one.owner == owner]:
                group.leave(member)

    def lag(self) -> int:
        """Records that no member of their group has ever committed."""
        return sum(
            len(self.log(place)) - group.reached.get(place, 0)
            for group in self.groups.values()
            for topic in group.topics
            for place in self.topic(topic)
        )


class Group:
    """A consumer group as its coordinator, a broker, sees it."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.members: list[MemorySubscription] = []
        self.committed: dict[TopicPartition, int] = {}
        self.reached: dict[TopicPartition, int] = {}
        self.generation = 0
        self.topics: list[str] = []
        self._broker = broker
        self._joined: list[MemorySubscription] = []
        self._rebalancing: asyncio.TimerHandle | None = None

    def arrived(self, place: TopicPartition) -> None:
        """A record was written."""
        for member in self.members:
            if place in member.positions:
                member.wake.set()

    def join(self, member: "MemorySubscription") -> None:
        """A member is ready for the next generation."""
        self.topics = sorted({*self.topics, *member.topics})
        if member not in self.members:
            self.members.append(member)
        if member not in self._joined:
            self._joined.append(member)
        self._rebalance()

    def leave(self, member: "MemorySubscription") -> None:
        """A member leaves, or is left out."""
        if member in self.members:
            self.members.remove(member)
            if member in self._joined:
                self._joined.remove(member)
            member.moved_on.set()
            self._rebalance()

    def keep(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Keep what a member commits, a lower offset too: one that comes late makes records come again."""
        self.committed.update(offsets)
        for place, offset in offsets.items():
            self.reached[place] = max(offset, self.reached.get(place, 0))

    def is_current(self, member: "MemorySubscription") -> bool:
        """Whether the member belongs to the present generation, so that what it commits counts."""
        return member in self.members and member.generation == self.generation

    def _rebalance(self) -> None:
        if self._rebalancing is None:
            self._rebalancing = asyncio.get_running_loop().call_later(
                REJOIN_SECONDS, self._leave_out_late, context=self._broker.context
            )
        for member in self.members:
            if member not in self._joined:
                member.moved_on.set()
        self._complete()

    def _leave_out_late(self) -> None:
        self.members = list(self._joined)
        self._complete()

    def _complete(self) -> None:
        if len(self._joined) < len(self.members) or self._rebalancing is None:
            return
        self._rebalancing.cancel()
        self._rebalancing = None
        self.generation += 1
        joined, self._joined = self._joined, []
        joined.sort(key=lambda member: member.number)
        shares: list[list[TopicPartition]] = [[] for _ in joined]
        for topic in self.topics:
            places = self._broker.topic(topic)
            for place in places:
                if joined:
                    shares[place.partition * len(joined) // len(places)].append(place)
        for member, share in zip(joined, shares, strict=True):
            member.assign(self.generation, share)


@dataclass(eq=False)
class MemorySubscription:
    """A member of a group: one consumer of one process, with what `Subscription` in production offers."""

    broker: MemoryBroker
    group: Group
    topics: Sequence[str]
    handle: Handle
    listener: ConsumerRebalanceListener | None
    max_records: int
    owner: Hashable
    number: int
    generation: int = -1
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    _offered: list[TopicPartition] | None = None

    def __post_init__(self) -> None:
        self.wake = asyncio.Event()
        self.moved_on = asyncio.Event()
        self._assigned = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Join the group, consume."""
        self._tasks = [
            asyncio.create_task(self._coordinate(), name="coordinate"),
            asyncio.create_task(self._consume(), name="consume"),
        ]

    async def stop(self) -> None:
        """Give the partitions back and leave."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._revoked()
        self.group.leave(self)

    def assign(self, generation: int, share: list[TopicPartition]) -> None:
        """The coordinator's decision, which the member takes up when it gets round to it."""
        self.generation = generation
        self._offered = share
        self._assigned.set()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit the next offsets to read; False when the group has moved on."""
        held = {place: offset for place, offset in offsets.items() if place in self.positions}
        if not held:
            return False
        await self.broker.line.commit()
        if not self.group.is_current(self):
            return False
        self.group.keep(held)
        return True

    def partitions(self) -> int:
        """How many partitions the topics have."""
        return sum(len(self.broker.topic(topic)) for topic in self.topics)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching these partitions."""
        self.paused.update(place for place in partitions if place in self.positions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch them again."""
        self.paused.difference_update(partitions)
        self.wake.set()

    async def _coordinate(self) -> None:
        while True:
            self.moved_on.clear()
            self.group.join(self)
            await self._assigned.wait()
            self._assigned.clear()
            share, self._offered = self._offered or [], None
            self.positions = {place: self.group.committed.get(place, 0) for place in share}
            self.paused.clear()
            if self.listener is not None:
                await self.listener.on_partitions_assigned(share)
            self.wake.set()
            await self.moved_on.wait()
            await self._revoked()

    async def _revoked(self) -> None:
        """Nothing is fetched while the listener finishes what is under way; offsets can still be committed."""
        held = list(self.positions)
        self.paused.update(held)
        if self.listener is not None:
            await self.listener.on_partitions_revoked(held)
        self.positions = {}

    async def _consume(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            while batch := await self._fetch():
                await self.handle(batch)

    async def _fetch(self) -> tuple[MemoryRecord, ...]:
        if not any(len(self.broker.log(place)) > at for place, at in self.positions.items()):
            return ()
        await self.broker.line.fetch()
        batch: list[MemoryRecord] = []
        for place in self.broker.line.mix([one for one in self.positions if one not in self.paused]):
            start = self.positions[place]
            records = self.broker.log(place)[start : start + self.max_records - len(batch)]
            batch += records
            self.positions[place] = start + len(records)
        return tuple(batch)


class MemoryConsumers:
    """All subscriptions of one process; stands for `adapters.kafka.consuming.Consumers`."""

    def __init__(self, broker: MemoryBroker, owner: Hashable, number: int) -> None:
        self._broker = broker
        self._owner = owner
        self._number = number
        self._subscriptions: list[MemorySubscription] = []

    def subscribe(
        self,
        topics: Sequence[str],
        group: str,
        handle: Handle,
        *,
        listener: ConsumerRebalanceListener | None = None,
        max_records: int = 500,
    ) -> MemorySubscription:
        """Subscribe `handle` to batches of raw records."""
        found = self._broker.group(group)
        subscription = MemorySubscription(
            self._broker, found, topics, handle, listener, max_records, self._owner, self._number
        )
        self._subscriptions.append(subscription)
        return subscription

    def start(self) -> None:
        """Begin to consume."""
        for subscription in self._subscriptions:
            subscription.start()

    async def stop(self) -> None:
        """Leave the groups."""
        await asyncio.gather(*(subscription.stop() for subscription in self._subscriptions))
