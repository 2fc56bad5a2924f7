"""One connector as a process runs it, over a real store and a real application; Kafka is a list that loops back.

`Office` is the resolver's side: it says what should be. `Connector` makes it so; a second one over the same store is
another process.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson
from aiokafka import TopicPartition

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.scim_http import Headers, HttpScimTransport
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.adapters.sql.sweeping import SqlAttentionStore
from orchestrator.dialects import dialects
from orchestrator.domain.account import REPLICA_LAG, Account, AccountStatus, Progress, command_kind, lane
from orchestrator.domain.budget import Limit
from orchestrator.domain.correlation import Correlation
from orchestrator.domain.intent import RECHECK
from orchestrator.domain.person import Decision, Person
from orchestrator.domain.retry import Backoff
from orchestrator.domain.sealing import new_subject
from orchestrator.flows.application import Application
from orchestrator.flows.lane import Lanes
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.flows.relay import RelayFlow
from orchestrator.ports import ProgressUpdate, ResolveChanges
from schemas.commands import DesiredState
from schemas.envelope import Message
from schemas.topics import AUDIT_ENTRIES, lane_topic
from tests.integration.application import TOKEN
from tests.subjects import told

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
SECONDS = 20.0
_NUMBERS = count(1)


async def until(condition: Callable[[], object], *, seconds: float = SECONDS) -> None:
    """Wait for something that other tasks bring about."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def resource(person_id: str, **more: Any) -> dict[str, Any]:
    """The mapped attributes of a person."""
    return {
        "userName": f"{person_id}@example.com",
        "externalId": person_id,
        "name": {"givenName": "Ada", "familyName": "King"},
        "displayName": "Ada King",
        "title": "Engineer",
        "emails": [{"value": f"{person_id}@example.com", "type": "work", "primary": True}],
        ENTERPRISE: {"department": "Research"},
        **more,
    }


@dataclass
class Record:
    """A record of a lane, as the consumer hands it out."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Office:
    """What should be, saved as the resolver saves it."""

    def __init__(self, database: Database, app: str = "crm") -> None:
        self.database = database
        self.app = app
        self.accounts: dict[str, Account] = {}
        self.number = next(_NUMBERS)
        """Of this test, for names that no other one has given in an application that they share."""

    async def wants(
        self,
        *person_ids: str,
        state: DesiredState = "active",
        groups: Iterable[str] = (),
        correlation_id: str = "case-1",
        **more: Any,
    ) -> list[Message]:
        """A new revision for each of these people; returns the commands, which nobody has published yet."""
        before = {person_id: self.accounts.get(person_id) for person_id in person_ids}
        for person_id, known in before.items():
            self.accounts[person_id] = Account(
                person_id,
                self.app,
                known.revision + 1 if known else 1,
                state,
                resource(person_id, **more) if state in ("active", "staged") or known is None else known.resource,
                tuple(sorted(groups)),
                NOW,
                "hr#1",
                correlation_id,
                "p1",
            )
        changes = ResolveChanges(
            persons=[Person(person_id, decision=Decision(NOW, "active", "employee", "p1")) for person_id in person_ids],
            accounts=[self.accounts[person_id] for person_id in person_ids],
        )
        async with SqlResolveStore(self.database).transaction() as transaction:
            await transaction.load(sorted(person_ids))
            new = {*person_ids} - (await transaction.subjects(person_ids)).keys()
            await transaction.add_subjects([new_subject(one) for one in new], now=NOW)
            await transaction.save(changes, now=NOW)
        return [
            Message(lane_topic(self.app, lane(command_kind(before[person_id], state))), person_id.encode(), b"{}")
            for person_id in person_ids
        ]

    async def row(self, person_id: str) -> tuple[Account, Progress]:
        """The account as it stands in the store."""
        return (await SqlConvergeStore(self.database).load(self.app, [person_id]))[person_id]

    async def progress(self, person_id: str) -> Progress:
        """The connector's side of it."""
        return (await self.row(person_id))[1]

    async def attention_at(self, person_id: str) -> datetime | None:
        """When the relay is to look at it."""
        view = await SqlOperatorStore(self.database).person(person_id)
        assert view is not None
        return next(one.attention_at for one in view.accounts if one.account.app == self.app)

    async def leaves_open(self, person_id: str, **known: Any) -> None:
        """As a connector does that dies after it has sent a call: its intent stays."""
        progress = replace(await self.progress(person_id), intent="1@2026-03-02T08:14:00.000000Z", **known)
        async with SqlConvergeStore(self.database).transaction() as transaction:
            update = ProgressUpdate(person_id, progress, NOW + timedelta(seconds=90))
            await transaction.save(self.app, [update], [], now=NOW)


class Connector:
    """The lanes of one application, with everything around them but Kafka."""

    def __init__(
        self,
        office: Office,
        base_url: str,
        clock: SimulatedClock,
        *,
        concurrency: int = 4,
        timeout: float = 0.4,
        attempts: int | None = None,
        dialect: str = "standard",
        discover: bool = False,
        create_groups: bool = True,
        correlation: Correlation | None = None,
        bulk: bool = False,
        limits: Sequence[Limit] = (),
    ) -> None:
        self.office = office
        self.clock = clock
        self.audit: list[dict[str, Any]] = []
        self._offsets: dict[str, int] = {}
        application = Application(dialects()[dialect], creates_groups=create_groups)
        codec, described = application.codec, application.dialect
        self._transport = HttpScimTransport(
            "app",
            base_url,
            token=TOKEN,
            concurrency=concurrency,
            timeout=timeout,
            allow_private=True,
            headers=Headers(
                described.accept or codec.ACCEPT, codec.CONTENT_TYPE, described.user_agent or "jml-orchestrator"
            ),
        )
        outbox_store = SqlOutbox(office.database)
        self._outbox = OutboxPublisher(self, outbox_store)
        self.lanes = Lanes(
            office.app,
            transport=self._transport,
            store=SqlConvergeStore(office.database),
            outbox=self._outbox,
            clock=clock,
            concurrency=concurrency,
            backoff=Backoff(base=2, most=900),
            attempts=attempts,
            application=application,
            discover=discover,
            correlation=correlation,
            bulk=bulk,
            limits=limits,
        )
        self.relay = RelayFlow(SqlAttentionStore(office.database), outbox_store, self._outbox, self, clock)

    async def publish(self, messages: Sequence[Message]) -> None:
        """`ports.Publisher`: commands come back to the lanes; audit entries are kept as the auditor does, each once."""
        known = {one["id"] for one in self.audit}
        told = [orjson.loads(one.value) for one in messages if one.topic == AUDIT_ENTRIES]
        self.audit += [one for one in told if one["id"] not in known]
        await self.take(*(one for one in messages if one.topic in self.lanes.topics))

    async def take(self, *commands: Message) -> None:
        """Commands arrive."""
        records = []
        for one in commands:
            offset = self._offsets[one.topic] = self._offsets.get(one.topic, -1) + 1
            records.append(Record(one.topic, 0, offset, one.key, one.value, one.headers))
        await self.lanes.queues(records)

    async def converged(self) -> None:
        """Return when nothing that arrived is left to do; a defect of ours is raised."""
        await until(lambda: self.lanes.queues.pending == 0 or self.lanes.queues.failed.done())
        if self.lanes.queues.failed.done():
            raise self.lanes.queues.failed.result()

    async def converge(self, *person_ids: str, **wanted: Any) -> None:
        """A new revision arrives and everything is done."""
        await self.take(*await self.office.wants(*person_ids, **wanted))
        await self.converged()

    async def wait(self, seconds: float) -> None:
        """Time passes, the relay sweeps, and what it issues is done."""
        self.clock.advance_to(self.clock.now() + timedelta(seconds=seconds))
        await self.sweep()

    async def known_everywhere(self) -> None:
        """So much time passes that every replica of the application shows what was done until now."""
        await self.wait(REPLICA_LAG.total_seconds())

    async def sweep(self) -> int:
        """One sweep of the relay; returns how many accounts it issued."""
        _, issued = await self.relay.sweep()
        await self._published()
        await self.converged()
        return issued

    async def _published(self) -> None:
        """Return when the outbox is empty."""
        store = SqlOperatorStore(self.office.database)
        deadline = asyncio.get_running_loop().time() + SECONDS
        while (await store.status()).outbox_segments:
            assert asyncio.get_running_loop().time() < deadline, "the outbox does not empty"
            await asyncio.sleep(0.005)

    async def recorded(self, kind: str, **fields: Any) -> list[Mapping[str, Any]]:
        """Audit entries, once all are published."""
        await self._published()
        entries = await told(self.office.database, self.audit)
        return [one for one in entries if one["kind"] == kind and fields.items() <= one.items()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Connector"]:
        """From start to a clean end."""
        self._outbox.start()
        await self.lanes.queues.on_partitions_assigned([TopicPartition(topic, 0) for topic in self.lanes.topics])
        try:
            await self.lanes.start()
            yield self
        finally:
            await self.lanes.close()
            await self._outbox.drain(0.5)
            await self._transport.close()


def is_applied(progress: Progress, revision: int, *, but_for_a_look: bool = False) -> bool:
    """Whether a revision is done, and nothing is left open; or nothing but one more look at the account."""
    return (
        progress.applied_revision == revision
        and progress.status is AccountStatus.APPLIED
        and (progress.intent or "").startswith(RECHECK if but_for_a_look else "")
        and (progress.intent is not None) is but_for_a_look
        and progress.error is None
    )
