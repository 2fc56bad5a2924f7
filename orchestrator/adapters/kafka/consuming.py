"""Batch subscriptions on FastStream that cannot lose a record.

What FastStream does by default would (see decision 0003): the acknowledgement policies commit past a failed record, a
header that is not UTF-8 drops the whole batch, `latest` skips what is there. So every subscription is made here: raw
records, tolerant headers, manual commits, `earliest`, range assignment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka import TopicPartition as Assigned
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage

from orchestrator.adapters.kafka.embedded import PARTITIONS
from orchestrator.adapters.kafka.reaching import explained, reach
from orchestrator.config import KafkaConfig
from orchestrator.errors import BrokerUnavailable

log = structlog.get_logger()

Records = tuple[ConsumerRecord, ...]
Handle = Callable[[Records], Awaitable[None]]
OnRead = Callable[[Records], Awaitable[None]]
"""Told of every batch before it is handled; the embedded broker counts what is unread."""

MAX_POLL_INTERVAL_MS = 30 * 60 * 1000
"""A store that is down for half an hour must not cost the partitions."""
GIVE_UP_SECONDS = 60.0
"""A broker that is gone is no error to whoever reads, it just brings nothing. What is refused for so long is refused
for ever: a right that was taken away, or a consumer whose tasks have ended."""


class Subscription:
    """A subscription's consumer, for commits and pauses. Nothing happens while it is not started."""

    def __init__(self, subscriber: Any, topics: Sequence[str] = ()) -> None:
        self._subscriber = subscriber
        self._topics = tuple(topics)

    @property
    def _consumer(self) -> AIOKafkaConsumer | None:
        return self._subscriber.consumer

    def assignment(self) -> set[TopicPartition]:
        """The partitions that this process holds."""
        return set(self._consumer.assignment()) if self._consumer is not None else set()

    def partitions(self) -> int:
        """How many partitions the topics have, whoever holds them; 0 while that is not known."""
        if self._consumer is None:
            return 0
        return sum(len(self._consumer.partitions_for_topic(topic) or ()) for topic in self._topics)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit the next offsets to read.

        False when the group has moved on meanwhile: the new owner reads these records again, which is harmless.
        """
        held = self.assignment()
        offsets = {partition: offset for partition, offset in offsets.items() if partition in held}
        if self._consumer is None or not offsets:
            return False
        try:
            await self._consumer.commit(offsets)
        except (IllegalStateError, KafkaError) as error:
            log.warning("commit_refused", reason=type(error).__name__)
            return False
        return True

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching these partitions; the others flow on."""
        if self._consumer is not None and (held := self.assignment().intersection(partitions)):
            self._consumer.pause(*held)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch them again."""
        if self._consumer is not None and (held := self.assignment().intersection(partitions)):
            self._consumer.resume(*held)


class Consumers:
    """All subscriptions of a process. `failed` is done when a handler raised, which is a defect of ours:
    the process has to end where it can be seen, because going on would commit past those records."""

    def __init__(
        self, bootstrap: str, config: KafkaConfig, *, alone: bool = False, on_read: OnRead | None = None
    ) -> None:
        """`alone`: on the embedded broker, where no other process can want a partition."""
        self._bootstrap = bootstrap
        self._config = config
        self._alone = alone
        self._on_read = on_read
        self.topics: set[str] = set()
        self._told: list[tuple[ConsumerRebalanceListener, list[TopicPartition]]] = []
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.broker = KafkaBroker(
            bootstrap,
            apply_types=False,  # handlers take raw records: injection and casting would cost more than the work
            logger=None,  # two lines per record otherwise
            graceful_timeout=30.0,
            allow_auto_create_topics=False,
        )

    def subscribe(
        self,
        topics: Sequence[str],
        group: str,
        handle: Handle,
        *,
        listener: ConsumerRebalanceListener | None = None,
        max_records: int = 500,
        company: float = 0.0,
    ) -> Subscription:
        """Subscribe `handle` to batches of raw records; it waits, quarantines or parks by itself and never raises.

        After a batch the next one waits `company` seconds for more records; not on the embedded broker, which hands
        out one published batch at a time, however long one waits.
        """
        config = self._config
        self.topics.update(topics)
        where: dict[str, Any] = {"listener": listener}
        if self._alone:
            # Nobody shares these partitions, and the embedded broker makes a group wait three seconds for its members.
            held = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
            where = {"partitions": [Assigned(*one, declare=False) for one in held]}
            if listener is not None:
                self._told.append((listener, held))
        subscriber: Any = self.broker.subscriber(
            *(() if self._alone else topics),
            group_id=group,
            batch=True,
            max_records=max_records,
            batch_timeout_ms=10,
            fetch_max_wait_ms=20 if self._alone else 250,
            max_partition_fetch_bytes=8 << 20,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            rebalance_timeout_ms=int(config.rebalance_timeout_seconds * 1000),
            session_timeout_ms=int(config.session_timeout_seconds * 1000),
            heartbeat_interval_ms=min(3000, int(config.session_timeout_seconds * 300)),
            **where,
            ack_policy=AckPolicy.MANUAL,
            parser=_parse,
            decoder=_decode,
        )

        async def guarded(records: Records) -> None:
            try:
                if self._on_read is not None:
                    await self._on_read(records)
                await handle(records)
                if company and not self._alone:
                    await asyncio.sleep(company)
            except Exception as error:  # noqa: BLE001 - handed to whoever runs the role, which then ends
                if not self.failed.done():
                    self.failed.set_result(error)
                await asyncio.Event().wait()

        subscriber(guarded)
        return Subscription(subscriber, topics)

    async def reach(self) -> None:
        """Ask the broker whether it is there, before the roles of the process begin. Raises Unreachable, UserError."""
        await reach(self._bootstrap)

    async def start(self) -> None:
        """Connect and begin to consume. All groups are joined at once: a broker makes each wait for its members.

        Raises Unreachable, or UserError with the broker's reason. A broker that is gone later is waited for.
        """
        try:
            await self.broker.connect()
            for listener, held in self._told:
                await listener.on_partitions_assigned(held)
            await asyncio.gather(*(subscriber.start() for subscriber in self.broker.subscribers))
        except (KafkaError, OSError, TimeoutError) as error:
            raise explained(self._bootstrap, error) from error
        for subscriber in self.broker.subscribers:
            self._watch(subscriber)
        self.broker.running = True

    def _watch(self, subscriber: Any) -> None:
        """FastStream tries again for ever, without a word, and the process looks healthy meanwhile."""
        consumer = subscriber.consumer
        read, now = consumer.getmany, asyncio.get_running_loop().time
        refused_at: float | None = None

        async def getmany(*partitions: TopicPartition, **options: Any) -> Any:
            nonlocal refused_at
            try:
                records = await read(*partitions, **options)
            except KafkaError as error:
                refused_at = now() if refused_at is None else refused_at
                log.warning("read_refused", reason=type(error).__name__)
                if now() - refused_at >= GIVE_UP_SECONDS and not self.failed.done():
                    topics = ", ".join(sorted(consumer.subscription() or {one.topic for one in consumer.assignment()}))
                    self.failed.set_result(
                        BrokerUnavailable(
                            f"reading {topics} is refused for {GIVE_UP_SECONDS:g} s ({type(error).__name__}: {error}); "
                            "look whether this process may still read there, and start it again"
                        )
                    )
                raise
            refused_at = None
            return records

        consumer.getmany = getmany

    async def stop(self) -> None:
        """Let the batches under way end and leave the groups."""
        await self.broker.stop()


async def _parse(records: Records) -> KafkaMessage:
    """Instead of FastStream's parser, which decodes every header and fails on the first that is not UTF-8."""
    return KafkaMessage(
        body=b"",
        raw_message=records,
        message_id=f"{records[0].offset}-{records[-1].offset}",
        correlation_id="",
        consumer=FAKE_CONSUMER,
    )


async def _decode(message: KafkaMessage) -> Any:
    return message.raw_message


def next_offsets(records: Records) -> dict[TopicPartition, int]:
    """The offsets to commit once all of these records are done."""
    offsets: dict[TopicPartition, int] = {}
    for record in records:
        offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1
    return offsets
