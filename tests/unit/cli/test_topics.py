"""Topics on a real broker: made, grown, left alone. The embedded one has no such commands."""

import asyncio
import uuid
from dataclasses import replace

import pytest

from orchestrator.adapters import topic_guard
from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.topic_admin import create_topics, list_topics, settings
from orchestrator.config import KafkaConfig
from orchestrator.errors import Unreachable, UserError
from schemas.topics import Topic, topics
from tests.unit.cli.console import NOBODY, Jml


def ours() -> list[Topic]:
    """All topics as the schemas say, under names of this test's own."""
    prefix = f"test-{uuid.uuid4().hex[:8]}."
    return [replace(topic, name=prefix + topic.name) for topic in topics(("crm",))]


@pytest.mark.kafka
def test_topics_are_made_once_and_grown_but_never_shrunk(kafka_bootstrap: str) -> None:
    wanted = ours()
    names = {topic.name for topic in wanted}

    def create(partitions: int) -> tuple[set[str], set[str], set[str]]:
        done = asyncio.run(create_topics(KafkaConfig(bootstrap=kafka_bootstrap, partitions=partitions), wanted))
        return set(done.created), set(done.grown), set(done.unchanged)

    single = {topic.name for topic in wanted if topic.partitions == 1}
    assert create(2) == (names, set(), set())
    assert create(2) == (set(), set(), names)
    assert create(3) == (set(), names - single, single)
    assert create(1) == (set(), set(), names)
    states = asyncio.run(list_topics(KafkaConfig(bootstrap=kafka_bootstrap, partitions=5), wanted))
    assert {(one.wanted, one.present) for one in states} == {(5, 3), (1, 1)}


@pytest.mark.kafka
def test_what_the_broker_refuses_is_said_with_its_reason(kafka_bootstrap: str) -> None:
    with pytest.raises(UserError, match=r"refuses to create .*replication factor"):
        asyncio.run(create_topics(KafkaConfig(bootstrap=kafka_bootstrap, replication=99), ours()))


@pytest.mark.kafka
@pytest.mark.usefixtures("configured")
def test_the_commands_list_and_create(jml: Jml, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", kafka_bootstrap)
    assert jml("topics", "create", "--json").code == 0
    listed = jml("topics", "list", "--json").json["topics"]
    assert {one["name"] for one in listed} == {topic.name for topic in topics(("crm", "wiki"))}
    assert all(one["present"] >= one["wanted"] for one in listed)
    assert "topics were as they should be" in jml("topics", "create").out


def test_the_audit_entries_are_kept_for_ever_in_one_order() -> None:
    (audit,) = (topic for topic in topics(()) if topic.name == "audit.entries")
    assert settings(audit) == {"retention.ms": "-1", "cleanup.policy": "delete"}
    assert audit.partitions == 1


@pytest.mark.usefixtures("configured")
def test_a_broker_that_is_down_cannot_be_guarded(jml: Jml) -> None:
    jml("topics", "guard").refused(f"Kafka at {NOBODY} does not answer", "start it, or correct [kafka] bootstrap")


@pytest.mark.parametrize("command", ["create", "guard"])
@pytest.mark.usefixtures("configured")
def test_the_embedded_broker_of_a_running_process_makes_its_topics_by_itself(
    jml: Jml, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = EmbeddedBroker()
    broker.start()
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", broker.bootstrap)
    jml("topics", command).refused(f"Kafka at {broker.bootstrap}", "embedded broker of `jml up`", "makes its topics")
    broker.stop()


def test_a_broker_that_takes_the_request_and_says_nothing_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_guard, "TIMEOUT_SECONDS", 1.0)
    broker = EmbeddedBroker()  # it lacks this request
    broker.start()
    with pytest.raises(Unreachable, match=r"does not answer .*start it, or correct"):
        topic_guard._guard(broker.bootstrap)
    broker.stop()
