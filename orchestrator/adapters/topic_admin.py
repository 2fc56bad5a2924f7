"""Topics on a real broker: what is there, and what has to be made or grown to be as `schemas.topics` says.

Partitions are only ever added. A topic that has more than it should keeps them: taking some away would lose records.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from orchestrator.adapters.kafka.reaching import explained, reach
from orchestrator.config import KafkaConfig
from orchestrator.errors import UserError
from schemas.topics import Topic

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic as it should be and as it is; `present` is None for a topic that does not exist."""

    topic: Topic
    wanted: int
    present: int | None


@dataclass(frozen=True, slots=True)
class Created:
    """What `create_topics` did."""

    created: tuple[str, ...]
    grown: tuple[str, ...]
    unchanged: tuple[str, ...]


async def list_topics(config: KafkaConfig, topics: Sequence[Topic]) -> list[TopicState]:
    """Each topic's partitions, wanted and present. Raises Unreachable."""
    async with _admin(config.bootstrap) as admin:
        return await _states(admin, config, topics)


async def create_topics(config: KafkaConfig, topics: Sequence[Topic]) -> Created:
    """Make what is missing and grow what is too small; doing it twice changes nothing.

    Raises Unreachable, and UserError for a broker that does not do it.
    """
    await reach(config.bootstrap, to_administer=True)
    async with _admin(config.bootstrap) as admin:
        states = await _states(admin, config, topics)
        missing = [one for one in states if one.present is None]
        small = [one for one in states if one.present is not None and one.present < one.wanted]
        if missing:
            await _create(admin, config, missing)
        if small:
            await admin.create_partitions({one.topic.name: NewPartitions(one.wanted) for one in small})
        await _until_shown(admin, config, topics)
        touched = {one.topic.name for one in (*missing, *small)}
        return Created(
            created=tuple(one.topic.name for one in missing),
            grown=tuple(one.topic.name for one in small),
            unchanged=tuple(one.topic.name for one in states if one.topic.name not in touched),
        )


def settings(topic: Topic) -> dict[str, str]:
    """The topic's own settings as Kafka calls them."""
    return {"retention.ms": str(topic.retention_ms), **topic.settings}


async def _states(admin: AIOKafkaAdminClient, config: KafkaConfig, topics: Sequence[Topic]) -> list[TopicState]:
    present = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    return [TopicState(topic, topic.partitions or config.partitions, present.get(topic.name)) for topic in topics]


async def _create(admin: AIOKafkaAdminClient, config: KafkaConfig, missing: Sequence[TopicState]) -> None:
    response = await admin.create_topics(
        [NewTopic(one.topic.name, one.wanted, config.replication, topic_configs=settings(one.topic)) for one in missing]
    )
    for name, code, *reason in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):  # somebody else may be making them too
            why = reason[0] if reason and reason[0] else for_code(code).__name__
            raise UserError(f"Kafka at {config.bootstrap} refuses to create {name}: {why}")


async def _until_shown(admin: AIOKafkaAdminClient, config: KafkaConfig, topics: Sequence[Topic]) -> None:
    """Brokers learn of a change a moment after the controller has confirmed it; a role that starts then needs it."""
    while any((one.present or 0) < one.wanted for one in await _states(admin, config, topics)):
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(TIMEOUT_SECONDS * 1000))
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await admin.start()
            yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise explained(bootstrap, error) from error
    finally:
        await admin.close()
