"""Lag, measured on the broker inside the process: what is unread, and for how long."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.lag import measure
from schemas.groups import AUDITOR, RESOLVER, connector_group, group_topics, groups
from schemas.topics import topics
from tests.unit.cli.console import Jml

HOUR_MS = 3_600_000


@pytest.fixture
def broker() -> Iterator[str]:
    """A broker with ten events in one partition, of which the resolver has read four; the auditor never came."""
    embedded = EmbeddedBroker()
    embedded.start()
    asyncio.run(_fill(embedded.bootstrap))
    yield embedded.bootstrap
    embedded.stop()


async def _fill(bootstrap: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    now = int(datetime.now(UTC).timestamp() * 1000)
    for age in range(10, 0, -1):
        await producer.send("hr.events", b"{}", partition=2, timestamp_ms=now - age * HOUR_MS)
    await producer.send("audit.entries", b"{}", partition=0, timestamp_ms=now)
    await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=RESOLVER, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition("hr.events", 2)])
    await consumer.commit({TopicPartition("hr.events", 2): 4})
    await consumer.stop()


def test_lag_is_what_is_unread_and_the_age_of_its_first_message(broker: str) -> None:
    found = asyncio.run(measure(broker, groups(("crm",)), datetime.now(UTC)))
    behind = {(one.group, one.topic, one.partition): one for one in found if one.messages}
    assert set(behind) == {(RESOLVER, "hr.events", 2), (AUDITOR, "audit.entries", 0)}
    resolver = behind[RESOLVER, "hr.events", 2]
    assert (resolver.committed, resolver.end, resolver.messages) == (4, 10, 6)
    assert resolver.seconds == pytest.approx(6 * 3600, abs=60)
    auditor = behind[AUDITOR, "audit.entries", 0]
    assert (auditor.committed, auditor.messages) == (None, 1), "a group that never came has everything before it"
    assert all(one.seconds == 0 for one in found if not one.messages)


@pytest.mark.usefixtures("configured")
def test_the_command_sums_by_group(jml: Jml, broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", broker)
    lag = jml("lag", "--json").json
    assert lag["messages"] == 7
    by_group = {one["group"]: one for one in lag["groups"]}
    assert by_group[RESOLVER]["messages"] == 6
    assert len([one for one in by_group[RESOLVER]["partitions"] if one["topic"] == "hr.events"]) == 4
    shown = jml("lag")
    assert shown.code == 0
    assert "6 h" in shown.out


def test_every_topic_for_our_own_roles_has_a_reader() -> None:
    read = {topic for names in groups(("crm", "wiki")).values() for topic in names}
    assert read == {topic.name for topic in topics(("crm", "wiki"))} - {"quarantine", "audit.checkpoints"}
    assert group_topics(connector_group("crm")) == ("scim.crm.deprovision", "scim.crm.provision")
    with pytest.raises(ValueError, match="no consumer group"):
        group_topics("other")


@pytest.mark.usefixtures("configured")
def test_a_broker_without_our_topics_has_no_lag(jml: Jml, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    embedded = EmbeddedBroker()
    embedded.start()
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", embedded.bootstrap)
    assert jml("lag", "--json").json == {"messages": 0, "groups": []}
    assert "jml topics create" in jml("lag").out
    embedded.stop()
