"""Publishing in bulk: one record batch per partition instead of one future per message.

aiokafka's `send` costs about 25 us of event loop per message, FastStream's `publish_batch` ignores keys (decision
0003). Here messages are sorted into batches by the standard partitioner, so order per key is kept, and the producer is
idempotent with `acks=all`.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import lru_cache

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.partitioner import DefaultPartitioner

from orchestrator.adapters.kafka.reaching import WHAT_TO_DO
from orchestrator.errors import BrokerUnavailable
from schemas.envelope import Message
from schemas.topics import topics

ANSWER_SECONDS = 20
CONFIRM_SECONDS = 3 * ANSWER_SECONDS
"""What is not confirmed by then never may be: a producer tries for ever, and one whose tasks have ended waits for ever.
A new one begins without the old one's past, and what is published twice is harmless."""
CLOSE_SECONDS = 10
MAX_MESSAGE_BYTES = 16 << 20
BATCH_BYTES = 512 << 10
_partitioner = DefaultPartitioner()
_IN_ORDER = frozenset(topic.name for topic in topics(()) if topic.partitions == 1)
"""Topics with one total order. The embedded broker gives every topic several partitions."""


@lru_cache(maxsize=65536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key as every Kafka client computes it (murmur2). Cached: it is pure Python."""
    chosen: int = _partitioner(key, range(partitions), range(partitions))
    return chosen


class KafkaPublisher:
    """`ports.Publisher` on one idempotent producer, which is made anew after a failure (aiokafka issue 1017)."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all, in order per key; returns when the broker has confirmed all. Raises BrokerUnavailable."""
        producer = None
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                producer = await self._started()
                await self._send(producer, messages)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._end(producer)
            told = _told(self._bootstrap, len(messages), error, sent=producer is not None)
            raise BrokerUnavailable(told) from error

    async def _send(self, producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
        by_topic: dict[str, dict[int, list[Message]]] = {}
        for topic in {message.topic for message in messages}:
            by_topic[topic] = {partition: [] for partition in sorted(await producer.partitions_for(topic))}
        for message in messages:
            partitions = by_topic[message.topic]
            count = 1 if message.topic in _IN_ORDER else len(partitions)
            partitions[partition_of(message.key, count) if count > 1 else 0].append(message)
        confirmations = await asyncio.gather(
            *(
                self._send_partition(producer, topic, partition, queued)
                for topic, partitions in by_topic.items()
                for partition, queued in partitions.items()
                if queued
            )
        )
        for futures in confirmations:
            for future in futures:
                await future

    async def _send_partition(
        self, producer: AIOKafkaProducer, topic: str, partition: int, messages: list[Message]
    ) -> list["asyncio.Future[object]"]:
        sent = []
        batch = producer.create_batch()
        for message in messages:
            headers = list(message.headers)
            if batch.append(key=message.key, value=message.value, timestamp=None, headers=headers) is None:
                sent.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                if batch.append(key=message.key, value=message.value, timestamp=None, headers=headers) is None:
                    raise BrokerUnavailable(
                        f"a message of {len(message.value)} bytes for {topic} is over {MAX_MESSAGE_BYTES} bytes"
                    )
        sent.append(await producer.send_batch(batch, topic, partition=partition))
        return sent

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=BATCH_BYTES,
                    max_request_size=MAX_MESSAGE_BYTES,
                    request_timeout_ms=ANSWER_SECONDS * 1000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        """Stop the producer; what was not confirmed stays in the outbox."""
        await self._end(self._producer)

    async def _end(self, producer: AIOKafkaProducer | None) -> None:
        """Stop a producer, unless somebody else has already. It first waits for what was handed to it; once the
        broker is back that ends, so it goes on when nobody waits for it any more."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        ending = asyncio.create_task(_stopped(producer), name="stop producer")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        await asyncio.wait([ending], timeout=CLOSE_SECONDS)


def _told(bootstrap: str, messages: int, error: Exception, *, sent: bool) -> str:
    """What failed, and what to do; whoever tries by itself again says nothing of it."""
    if isinstance(error, KafkaError) and not (error.retriable or isinstance(error, KafkaTimeoutError)):
        return f"Kafka at {bootstrap} refuses {messages} messages: {error}"
    what = f"Kafka at {bootstrap} did not confirm {messages} messages ({type(error).__name__})"
    if isinstance(error, UnknownTopicOrPartitionError):
        return f"{what}: it lacks a topic of theirs, run `jml topics create` and try again"
    arrived = "some may have arrived, and twice does no harm" if sent else "none of them was sent"
    return f"{what}, {arrived}: {WHAT_TO_DO}, and try again"


async def _stopped(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):  # it is gone either way
        await producer.stop()
