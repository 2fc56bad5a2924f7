"""The audit log's one order, also on a broker that gives every topic several partitions."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer

from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES, HR_EVENTS

KEYS = [f"person-{number}".encode() for number in range(20)]


@pytest.fixture
async def bootstrap() -> AsyncIterator[str]:
    broker = EmbeddedBroker()
    broker.start()
    yield broker.bootstrap
    broker.stop()


async def test_entries_about_anybody_keep_the_order_in_which_they_were_published(bootstrap: str) -> None:
    publisher = KafkaPublisher(bootstrap)
    await publisher.publish([Message(topic, key, key) for topic in (AUDIT_ENTRIES, HR_EVENTS) for key in KEYS])
    await publisher.close()
    consumer = AIOKafkaConsumer(AUDIT_ENTRIES, HR_EVENTS, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    read: dict[str, list[tuple[int, bytes]]] = {AUDIT_ENTRIES: [], HR_EVENTS: []}
    while sum(map(len, read.values())) < 2 * len(KEYS):
        for place, records in (await consumer.getmany(timeout_ms=1000)).items():
            read[place.topic] += [(one.partition, one.value) for one in records]
    await consumer.stop()
    assert read[AUDIT_ENTRIES] == [(0, key) for key in KEYS]
    assert len({partition for partition, _ in read[HR_EVENTS]}) > 1, "otherwise this broker shows nothing"
