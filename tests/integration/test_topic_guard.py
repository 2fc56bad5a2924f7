"""The audit's topics on a broker as docker-compose.yml has it: all write and read, nobody deletes or shortens."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it names what it exports nowhere
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourcePatternType,
    ResourceType,
)

from orchestrator.adapters.topic_admin import create_topics
from orchestrator.adapters.topic_guard import guard_topics
from orchestrator.config import KafkaConfig
from schemas.topics import AUDIT_CHECKPOINTS, AUDIT_ENTRIES, HR_EVENTS, topics
from tests.conftest import KAFKA
from tests.services import KafkaServer

pytestmark = pytest.mark.kafka


@pytest.fixture
def guarded_kafka(tmp_path: Path) -> Iterator[str]:
    """A broker of this test's own: what is denied there cannot be taken back."""
    if not KAFKA:
        pytest.skip("needs a real Kafka: `make services-up` says what to export (JML_TEST_KAFKA)")
    with KafkaServer(tmp_path / "kafka") as server:
        yield server.bootstrap


def shorter(topic: str) -> ConfigResource:
    entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    return ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])


def of_the_broker() -> ConfigResource:
    entry = ConfigEntry("log.retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    return ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[entry])


ANYTHING: Any = None
ALL_RULES = AclBindingFilter(
    ResourceType.ANY, ANYTHING, ResourcePatternType.ANY, ANYTHING, ANYTHING, AclOperation.ANY, AclPermissionType.ANY
)
HARM: dict[str, Callable[[AdminClient, str], Any]] = {
    "delete": lambda admin, topic: admin.delete_topics([topic]),
    "empty": lambda admin, topic: admin.delete_records([TopicPartition(topic, 0, 1)]),
    "shorten": lambda admin, topic: admin.incremental_alter_configs([shorter(topic)]),
    "split": lambda admin, topic: admin.create_partitions([NewPartitions(topic, 5)]),
    "shorten all": lambda admin, _: admin.incremental_alter_configs([of_the_broker()]),
    "take the rules back": lambda admin, _: admin.delete_acls([ALL_RULES]),
}


def refused(futures: dict[Any, Any]) -> bool:
    """Whether the broker refused all of it because nobody may do it."""
    for future in futures.values():
        try:
            future.result(20)
        except KafkaException as error:
            assert "AUTHORIZATION_FAILED" in str(error), error
        else:
            return False
    return True


async def test_nobody_harms_the_audit_s_topics_and_everybody_works(guarded_kafka: str) -> None:
    await create_topics(KafkaConfig(bootstrap=guarded_kafka, partitions=2), topics(("crm",)))
    async with AIOKafkaProducer(bootstrap_servers=guarded_kafka, enable_idempotence=True) as producer:
        await producer.send_and_wait(AUDIT_ENTRIES, b"before")
    assert await guard_topics(guarded_kafka)
    assert not await guard_topics(guarded_kafka), "once is enough"
    admin = AdminClient({"bootstrap.servers": guarded_kafka, "log_level": 0})
    for topic in (AUDIT_ENTRIES, AUDIT_CHECKPOINTS):
        for name, harm in HARM.items():
            assert refused(harm(admin, topic)), f"{name} of {topic} was done"
    admin.delete_topics([HR_EVENTS])[HR_EVENTS].result(20)
    async with AIOKafkaProducer(bootstrap_servers=guarded_kafka, enable_idempotence=True) as producer:
        await producer.send_and_wait(AUDIT_ENTRIES, b"after")
        await producer.send_and_wait(AUDIT_CHECKPOINTS, b"checkpoint")
    consumer = AIOKafkaConsumer(
        AUDIT_ENTRIES, bootstrap_servers=guarded_kafka, group_id="jml.auditor", auto_offset_reset="earliest"
    )
    async with consumer:
        assert [(await consumer.getone()).value for _ in range(2)] == [b"before", b"after"]
        await consumer.commit()
    await create_topics(KafkaConfig(bootstrap=guarded_kafka, partitions=2), topics(("crm", "wiki")))
