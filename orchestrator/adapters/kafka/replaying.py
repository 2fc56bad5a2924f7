"""What a topic holds from an instant on, read from outside: no group is joined and no offset is committed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from orchestrator.adapters.kafka.reaching import explained

SILENCE_SECONDS = 30.0


async def read_since(bootstrap: str, topics: Sequence[str], since: datetime) -> AsyncIterator[Any]:
    """The records that the broker took at `since` or later, up to those that are there now; each partition in its
    order. Topics that do not exist have none. Raises Unreachable, or UserError with the broker's reason."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    try:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await consumer.start()
                ends = await _go_to(consumer, await _partitions(bootstrap, topics), since)
        except (KafkaError, OSError, TimeoutError) as error:
            raise explained(bootstrap, error) from error
        async for record in _until(consumer, ends, int(since.timestamp() * 1000), bootstrap):
            yield record
    finally:
        await consumer.stop()


async def _partitions(bootstrap: str, topics: Sequence[str]) -> list[TopicPartition]:
    """All topics are asked for: asking by name may create the ones that are missing."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        described = await admin.describe_topics()
    finally:
        await admin.close()
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        if topic["topic"] in topics
        for partition in topic["partitions"]
    ]


async def _go_to(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], since: datetime
) -> dict[TopicPartition, int]:
    """Stand at the first record of each partition; returns where each ends, without those that have nothing to read."""
    if not partitions:
        return {}
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    moment = int(since.timestamp() * 1000)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, moment))
    starts = {one: at.offset for one, at in found.items() if at is not None and 0 <= at.offset < ends[one]}
    unsure = [one for one in partitions if one not in starts and begins[one] < ends[one]]
    for partition, timestamp in (await _last_timestamps(consumer, unsure, ends)).items():
        if timestamp >= moment:  # the embedded broker looks nothing up by time
            starts[partition] = begins[partition]
    consumer.assign(list(starts))
    for partition, offset in starts.items():
        consumer.seek(partition, offset)
    return {partition: ends[partition] for partition in starts}


async def _last_timestamps(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], ends: dict[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """When the broker took the last record of each of these partitions, none of which is empty."""
    consumer.assign(list(partitions))
    for partition in partitions:
        consumer.seek(partition, ends[partition] - 1)
    found: dict[TopicPartition, int] = {}
    while len(found) < len(partitions):
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            found[partition] = records[-1].timestamp
            consumer.pause(partition)
    return found


async def _until(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], moment: int, bootstrap: str
) -> AsyncIterator[Any]:
    clock = asyncio.get_running_loop()
    heard = clock.time()
    while ends:
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            heard = clock.time()
            for record in records:
                if record.timestamp >= moment and partition in ends and record.offset < ends[partition]:
                    yield record
        for partition in list(ends):
            if await consumer.position(partition) >= ends[partition]:
                del ends[partition]
                consumer.pause(partition)
        if clock.time() - heard > SILENCE_SECONDS:
            raise explained(bootstrap, TimeoutError())
