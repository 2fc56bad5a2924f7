"""In-memory ports for the flows: small, and able to fail in the ways in which the real ones do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from aiokafka import TopicPartition

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.person import Person
from orchestrator.errors import BrokerUnavailable, StoreUnavailable
from orchestrator.ports import ApplicationHealth, ProgressUpdate, ScimRequest, ScimResponse
from schemas.envelope import Message

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)


async def until(condition: Callable[[], object], *, seconds: float = 5.0) -> None:
    """Wait for something that other tasks bring about."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.001)


async def rounds(number: int = 20) -> None:
    """Let every task that can go on do so: for things that must not happen."""
    for _ in range(number):
        await asyncio.sleep(0)


@dataclass
class FakeRecord:
    """A record of a lane; its value does not matter to the queues."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class FakeOffsets:
    """What a subscription does for the queues."""

    committed: dict[TopicPartition, int] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    accepts: bool = True
    refused: int = 0
    total: int = 0

    def partitions(self) -> int:
        """How many partitions the topics have."""
        return self.total

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit; refused while the group is moving on."""
        if self.accepts:
            self.committed.update(offsets)
        else:
            self.refused += 1
        return self.accepts

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching."""
        self.paused.update(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch again."""
        self.paused.difference_update(partitions)


@dataclass
class FakePublisher:
    """A broker. It refuses while `refusals` are left, after having taken `arriving` messages anyway."""

    published: list[Message] = field(default_factory=list)
    refusals: int = 0
    arriving: int = 0
    tries: int = 0

    async def publish(self, messages: Sequence[Message]) -> None:
        """See `ports.Publisher`."""
        self.tries += 1
        await asyncio.sleep(0)
        if self.refusals > 0:
            self.refusals -= 1
            self.published += messages[: self.arriving]
            raise BrokerUnavailable("down")
        self.published += messages


@dataclass
class FakeOutboxStore:
    """The outbox table."""

    segments: dict[int, list[Message]] = field(default_factory=dict)
    created: dict[int, datetime] = field(default_factory=dict)
    outages: int = 0

    def add(self, segment: int, messages: list[Message], created: datetime = NOW) -> int:
        """A committed segment."""
        self.segments[segment], self.created[segment] = messages, created
        return segment

    async def published(self, segments: Sequence[int]) -> None:
        """See `ports.OutboxStore`."""
        if self.outages > 0:
            self.outages -= 1
            raise StoreUnavailable("down")
        for segment in segments:
            self.segments.pop(segment, None)

    async def leftover(self, *, older_than: datetime, limit: int) -> list[tuple[int, list[Message]]]:
        """See `ports.OutboxStore`."""
        old = [segment for segment in sorted(self.segments) if self.created[segment] < older_than]
        return [(segment, self.segments[segment]) for segment in old[:limit]]


Send = Callable[[ScimRequest], Awaitable[ScimResponse]]


@dataclass
class FakeTransport:
    """An application: `answer` decides, every call is remembered."""

    answer: Send
    calls: list[ScimRequest] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def send(self, request: ScimRequest, *, correlation_id: str = "") -> ScimResponse:
        """See `ports.ScimTransport`."""
        self.calls.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            return await self.answer(request)
        finally:
            self.under_way -= 1


class FakeConvergeStore:
    """The account and group tables of one application, in memory.

    `outages` many accesses find the store down; with `commits_first` a transaction is committed before it says so.
    `defect` is raised once by the next transaction or read.
    """

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Account, Progress]] = {}
        self.attention: dict[str, datetime | None] = {}
        self.segments: list[list[Message]] = []
        self.groups: dict[str, str] = {}
        self.claims: dict[str, datetime] = {}
        self.health: list[ApplicationHealth] = []
        self.outages = 0
        self.commits_first = False
        self.defect: Exception | None = None
        self.transactions = 0
        self.loads: list[list[str]] = []
        self.locked: list[list[str]] = []
        self.looked_again: list[list[str]] = []

    def add(self, account: Account, progress: Progress | None = None) -> None:
        """A row, as the resolver wrote it."""
        self.rows[account.person_id] = (account, progress or Progress())

    def _touch(self) -> None:
        if self.defect is not None:
            defect, self.defect = self.defect, None
            raise defect
        if self.outages > 0:
            self.outages -= 1
            raise StoreUnavailable("down")

    async def load(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """See `ports.ConvergeStore`."""
        self.loads.append(list(person_ids))
        await asyncio.sleep(0)
        self._touch()
        return {person_id: self.rows[person_id] for person_id in person_ids if person_id in self.rows}

    async def holders(self, app: str, remote_ids: Sequence[str]) -> dict[str, str]:
        """See `ports.ConvergeStore`."""
        self._touch()
        found = {progress.remote_id: person_id for person_id, (_, progress) in self.rows.items()}
        return {one: found[one] for one in remote_ids if one in found}

    async def person(self, person_id: str) -> Person | None:
        """See `ports.ConvergeStore`."""
        self._touch()
        return Person(person_id) if person_id in self.rows else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["FakeConvergeTransaction"]:
        """See `ports.ConvergeStore`."""
        self.transactions += 1
        transaction = FakeConvergeTransaction(self)
        await asyncio.sleep(0)
        if not self.commits_first:
            self._touch()
        yield transaction
        for update in transaction.updates:
            account, progress = self.rows[update.person_id]
            if progress.version == update.progress.version:
                after = replace_version(update.progress)
                self.rows[update.person_id] = (account, after)
                self.attention[update.person_id] = update.attention_at
        if transaction.messages:
            self.segments.append(transaction.messages)
        if self.commits_first:
            self._touch()

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        """See `ports.ConvergeStore`."""
        self._touch()
        return {name: self.groups[name] for name in names if name in self.groups}

    async def save_group_id(self, app: str, name: str, remote_id: str | None) -> None:
        """See `ports.ConvergeStore`."""
        self._touch()
        self.groups.pop(name, None)
        if remote_id is not None:
            self.groups[name] = remote_id

    async def claim_group(self, app: str, name: str, *, now: datetime, until: datetime) -> bool:
        """See `ports.ConvergeStore`."""
        self._touch()
        if self.claims.get(name, now - timedelta(days=1)) >= now:
            return False
        self.claims[name] = until
        return True

    async def save_health(self, app: str, health: ApplicationHealth) -> None:
        """See `ports.ConvergeStore`."""
        self._touch()
        self.health.append(health)

    async def load_health(self, apps: Sequence[str]) -> dict[str, ApplicationHealth]:
        """See `ports.ConvergeStore`."""
        self._touch()
        return dict.fromkeys(apps, self.health[-1]) if self.health else {}


class FakeConvergeTransaction:
    """`ports.ConvergeTransaction`."""

    def __init__(self, store: FakeConvergeStore) -> None:
        self._store = store
        self.updates: list[ProgressUpdate] = []
        self.messages: list[Message] = []

    async def lock(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See the port."""
        self._store.locked.append(sorted(person_ids))
        rows = {person_id: self._store.rows[person_id] for person_id in person_ids if person_id in self._store.rows}
        return {person_id: (progress.version, account.revision) for person_id, (account, progress) in rows.items()}

    async def save(
        self, app: str, updates: Sequence[ProgressUpdate], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """See the port."""
        self.updates, self.messages = list(updates), list(outbox)
        return len(self._store.segments) + 1 if outbox else None

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str | None]:
        """See the port."""
        return {one: self._store.rows[one][1].remote_id for one in person_ids if one in self._store.rows}

    async def look_again(self, app: str, referred: Sequence[str], *, now: datetime) -> None:
        """See the port."""
        self._store.looked_again.append(list(referred))


def replace_version(progress: Progress) -> Progress:
    """The row as it stands after a save: the fence has moved."""
    return replace(progress, version=progress.version + 1)


def account(person_id: str, revision: int = 1) -> Account:
    """A desired account."""
    return Account(person_id, "crm", revision, "active", {"userName": person_id}, (), NOW, "hr#1", "case", "p1")
