"""How far consumer groups are behind, asked from outside: nothing joins a group, no working consumer is disturbed.

The groups and their topics are named by the caller, because not every broker can list them (the embedded one cannot).
Seconds are the age of the first unread record: "the oldest thing that nobody has looked at came in so long ago".
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from orchestrator.adapters.kafka.reaching import explained

TIMEOUT_SECONDS = 10.0
_AGE_SECONDS = 3.0
"""How long to wait for the first unread records; a partition that does not answer by then has no age."""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One group on one partition. `committed` is None for a group that never committed there; then all kept records
    are unread. `seconds` is None when the first unread record could not be fetched in time."""

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    messages: int
    seconds: float | None


async def measure(bootstrap: str, groups: Mapping[str, Sequence[str]], now: datetime) -> list[PartitionLag]:
    """The lag of each group on each partition of its topics. Topics that do not exist have none.

    Raises Unreachable, or UserError with the broker's reason.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), _clients(bootstrap) as (admin, consumer):
            return await _measure(admin, consumer, groups, now)
    except (KafkaError, OSError, TimeoutError) as error:
        raise explained(bootstrap, error) from error


@asynccontextmanager
async def _clients(bootstrap: str) -> AsyncIterator[tuple[AIOKafkaAdminClient, AIOKafkaConsumer]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(TIMEOUT_SECONDS * 1000))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=50, max_partition_fetch_bytes=64 << 10
    )
    try:
        await admin.start()
        await consumer.start()
        yield admin, consumer
    finally:
        await admin.close()
        await consumer.stop()


async def _measure(
    admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, groups: Mapping[str, Sequence[str]], now: datetime
) -> list[PartitionLag]:
    # All topics are asked for: asking by name may create the ones that are missing.
    known = {
        topic["topic"]: [partition["partition"] for partition in topic["partitions"]]
        for topic in await admin.describe_topics()
    }
    read = {
        group: [TopicPartition(topic, partition) for topic in topics for partition in sorted(known.get(topic, ()))]
        for group, topics in groups.items()
    }
    every = sorted({partition for partitions in read.values() for partition in partitions})
    if not every:
        return []
    ends, beginnings = await asyncio.gather(consumer.end_offsets(every), consumer.beginning_offsets(every))
    found: list[PartitionLag] = []
    for group, partitions in read.items():
        if not partitions:
            continue
        offsets = await admin.list_consumer_group_offsets(group, partitions=partitions)
        committed = {at: offsets[at].offset for at in partitions if at in offsets and offsets[at].offset >= 0}
        # Retention may have overtaken the group: what is no longer kept cannot be read either.
        positions = {at: max(committed.get(at, 0), beginnings[at]) for at in partitions}
        unread = {at: position for at, position in positions.items() if position < ends[at]}
        ages = await _ages(consumer, unread, now)
        found.extend(
            PartitionLag(
                group=group,
                topic=at.topic,
                partition=at.partition,
                committed=committed.get(at),
                end=ends[at],
                messages=max(0, ends[at] - positions[at]),
                seconds=ages.get(at) if at in unread else 0.0,
            )
            for at in partitions
        )
    return found


async def _ages(
    consumer: AIOKafkaConsumer, unread: Mapping[TopicPartition, int], now: datetime
) -> dict[TopicPartition, float]:
    """The age of the first record at or after each of these offsets."""
    ages: dict[TopicPartition, float] = {}
    if not unread:
        return ages
    consumer.assign(list(unread))
    for partition, offset in unread.items():
        consumer.seek(partition, offset)
    clock = asyncio.get_running_loop()
    until = clock.time() + _AGE_SECONDS
    while len(ages) < len(unread) and (left := until - clock.time()) > 0:
        for partition, records in (await consumer.getmany(timeout_ms=int(min(left, 0.2) * 1000))).items():
            if records:
                ages.setdefault(partition, max(0.0, now.timestamp() - records[0].timestamp / 1000))
                consumer.pause(partition)
    return ages
