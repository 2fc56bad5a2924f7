"""The pipeline from topics to commands and audit log, on a real or an embedded broker, without connectors.

Events go in as a source would send them, or as bytes that no source should send; what came of them is read from the
topics and the store.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_log.keys import write_key
from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.topic_admin import create_topics
from orchestrator.bootstrap import Runtime, open_runtime, running
from orchestrator.config import Config
from orchestrator.domain.account import Account
from orchestrator.ports import PersonView, Quarantined
from orchestrator.roles import role
from schemas.envelope import Envelope, Message
from schemas.topics import HR_EVENTS, IDP_EVENTS, Topic, topics
from tests.audit_log import KEY
from tests.subjects import told

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
APP = "crm"
SECONDS = 30.0

RawHeaders = Sequence[tuple[str, bytes | None]]


async def eventually(look: Callable[[], Awaitable[Any]], *, seconds: float = SECONDS) -> Any:
    """What `look` finds as soon as it finds something."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := await look()):
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
    return found


def event(
    kind: str,
    data: Mapping[str, Any],
    *,
    event_id: str,
    at: datetime = NOW,
    topic: str = HR_EVENTS,
    source: str = "hr/test",
) -> Message:
    """An event as a source sends it; `kind` is its type between `jml.` and `.v1`."""
    person = str(data.get("worker_id", ""))
    envelope = Envelope(id=event_id, source=source, type=f"jml.{kind}.v1", time=at, subject=person)
    return Message(topic, person.encode(), orjson.dumps(data), envelope.headers())


def joined(person_id: str, *, at: datetime = NOW, **data: Any) -> Message:
    """A joiner."""
    attributes = {"user_name": person_id, "email": f"{person_id}@example.com", **data.pop("attributes", {})}
    body = {"worker_id": person_id, "start_date": "2026-01-05", "attributes": attributes, **data}
    return event("worker.joined", body, event_id=f"join-{person_id}", at=at)


@dataclass
class Pipeline:
    """Some roles in this process, and everything a test wants to know of them."""

    runtime: Runtime
    bootstrap: str
    clock: SimulatedClock
    audit_dir: Path
    store: SqlOperatorStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = SqlOperatorStore(self.runtime.database)

    async def send(self, *messages: Message) -> None:
        """Publish in order."""
        await self.runtime.publisher.publish(messages)

    async def send_raw(
        self, value: bytes | None, headers: RawHeaders = (), *, key: bytes | None = b"bad", topic: str = HR_EVENTS
    ) -> tuple[str, int, int]:
        """Publish a record such as none of ours would be; returns its place."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=16 << 20) as producer:
            sent = await producer.send_and_wait(topic, value, key=key, headers=list(headers))
        return sent.topic, sent.partition, sent.offset

    async def person(self, person_id: str) -> PersonView:
        """A person, once the store knows one."""
        found: PersonView = await eventually(lambda: self.store.person(person_id))
        return found

    async def resolved(self, event_id: str, *, source: str = "hr/test") -> Mapping[str, Any]:
        """The entry about an event, once it is in the audit log."""

        async def look() -> Mapping[str, Any] | None:
            key = f"{source}#{event_id}"
            done = [one for one in await self.told() if one.get("event_id") == key and one["kind"] in _ENDS]
            return done[0] if done else None

        found: Mapping[str, Any] = await eventually(look)
        return found

    async def account(self, person_id: str) -> Account | None:
        """What the person's account should be."""
        view = await self.person(person_id)
        return next((one.account for one in view.accounts), None)

    async def quarantined(self, place: tuple[str, int, int]) -> Quarantined:
        """A record in quarantine, once it is there."""
        found: Quarantined = await eventually(lambda: self.store.quarantined_record(*place))
        return found

    def entries(self) -> list[dict[str, Any]]:
        """The audit log."""
        return [orjson.loads(entry) for _, entry in read_entries(self.audit_dir)]

    async def told(self) -> list[dict[str, Any]]:
        """The audit log with the people it speaks of."""
        return await told(self.runtime.database, self.entries())

    async def records(self, topic: str, *, at_least: int) -> list[ConsumerRecord]:
        """What a topic holds, as a stranger reads it."""
        found: list[ConsumerRecord] = []
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, max_partition_fetch_bytes=16 << 20, fetch_max_wait_ms=50
        )
        async with consumer:
            partitions = consumer.partitions_for_topic(topic) or await eventually(lambda: _partitions(consumer, topic))
            consumer.assign([TopicPartition(topic, partition) for partition in partitions])
            await consumer.seek_to_beginning()

            async def look() -> bool:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(batch)
                return len(found) >= at_least

            await eventually(look)
        return found


_ENDS = ("person_resolved", "event_quarantined", "event_duplicated")


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client.force_metadata_update()
    return consumer.partitions_for_topic(topic) or set()


def configuration(bootstrap: str, database_url: str, audit_dir: Path, **settings: Any) -> Config:
    """One application for everybody."""
    key = audit_dir.with_name("audit.key")
    if not key.exists():
        write_key(KEY, key)
    return Config.model_validate(
        {
            "kafka": {"bootstrap": bootstrap, "partitions": 3},
            "store": {"url": database_url},
            "audit": {"dir": audit_dir, "key_file": key},
            "notices": {"contract_end_days": [], "entitlement_end_days": []},
            "apps": {
                APP: {
                    "base_url": "http://127.0.0.1:9/scim/v2",
                    "allow_private": True,
                    "groups": 'person.department == "" ? [] : [person.department]',
                    "attributes": {
                        "userName": "person.user_name",
                        "externalId": "person.id",
                        "displayName": "person.display_name",
                        "title": "person.title",
                    },
                    **settings,
                }
            },
        }
    )


@asynccontextmanager
async def pipeline(config: Config, *roles: str, clock: SimulatedClock) -> AsyncIterator[Pipeline]:
    """Roles in this process until the end of the block."""
    async with (
        opened(config, clock=clock) as runtime,
        running(runtime, [role(name)(runtime) for name in roles]) as failed,
    ):
        yield Pipeline(runtime, config.kafka.bootstrap, clock, config.audit.dir)
        assert not failed.done(), failed.result()


_EMBEDDED: dict[str, EmbeddedBroker] = {}


@contextmanager
def embedded() -> Iterator[str]:
    """An embedded broker that outlives the runtimes on it; yields its address, for them and for commands."""
    broker = EmbeddedBroker()
    broker.start()
    _EMBEDDED[broker.bootstrap] = broker
    try:
        yield broker.bootstrap
    finally:
        del _EMBEDDED[broker.bootstrap]
        broker.stop()


def opened(config: Config, *, clock: SimulatedClock | None = None) -> AbstractAsyncContextManager[Runtime]:
    """A runtime on the broker that the configuration names, embedded or not."""
    return open_runtime(config, clock=clock, broker=_EMBEDDED.get(config.kafka.bootstrap))


async def fresh_topics(config: Config) -> None:
    """All topics of a real broker, empty. Those of sources take large messages, as other people's clusters do."""
    wanted = topics((APP,))
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka.bootstrap)
    await admin.start()
    try:
        present = set(await admin.list_topics()) & {topic.name for topic in wanted}
        await admin.delete_topics(sorted(present))
        await eventually(lambda: _gone(admin, present))
        await create_topics(
            config.kafka, [_large(one) if one.name in (HR_EVENTS, IDP_EVENTS) else one for one in wanted]
        )
    finally:
        await admin.close()


def _large(topic: Topic) -> Topic:
    return replace(topic, settings={**topic.settings, "max.message.bytes": str(16 << 20)})


async def _gone(admin: AIOKafkaAdminClient, names: set[str]) -> bool:
    return not names & set(await admin.list_topics())
