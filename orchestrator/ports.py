"""The edges of the orchestrator as Protocols: what flows need from the outside, and nothing more.

Adapters implement them and are known to `bootstrap` alone. Every port has one contract suite for all its adapters.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.person import Person
from schemas.envelope import Message


class Clock(Protocol):
    """The only source of the current time. All instants are aware and in UTC."""

    def now(self) -> datetime:
        """The current instant."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `now()` has reached `moment`, or earlier when the clock was stepped."""
        ...


class Publisher(Protocol):
    """Writes messages to topics."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all, in order per key, and return when the broker has confirmed all.

        Raises BrokerUnavailable; some of the messages may then have arrived.
        """
        ...


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that nobody could read, with its original bytes."""

    topic: str
    partition: int
    offset: int
    code: str
    reason: str
    key: bytes | None
    value: bytes | None
    event_id: str | None
    received_at: datetime


class Timer(NamedTuple):
    """Something due for a person. `event_id` is the event it came from, `rule` what computed it."""

    person_id: str
    kind: str
    due: datetime
    event_id: str
    rule: str


class InboxRow(NamedTuple):
    """An accepted event and the terminal state it reached: resolved, no_change, superseded or quarantined."""

    key: str
    outcome: str


@dataclass(slots=True)
class ResolveChanges:
    """Everything one batch of the resolver writes, in one transaction."""

    inbox: list[InboxRow] = field(default_factory=list)
    persons: list[Person] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    timers_set: list[Timer] = field(default_factory=list)
    timers_cancelled: list[Timer] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    outbox: list[Message] = field(default_factory=list)


class ResolveTransaction(Protocol):
    """One transaction of the resolver. Persons are locked from `load` to the end."""

    async def seen(self, keys: Sequence[str]) -> set[str]:
        """Which of these events are in the inbox already."""
        ...

    async def correlate_emails(self, emails: Sequence[str]) -> Mapping[str, list[str]]:
        """The persons that hold each of these e-mail addresses (lower case)."""
        ...

    async def load(
        self, person_ids: Sequence[str]
    ) -> tuple[dict[str, Person], dict[str, dict[str, Account]], dict[str, list[Timer]]]:
        """Lock and load persons, their accounts by application, and their open timers."""
        ...

    async def managers(self, person_ids: Sequence[str]) -> Mapping[str, str | None]:
        """The manager of each of these persons, as stored."""
        ...

    async def save(self, changes: ResolveChanges, *, now: datetime) -> int | None:
        """Write everything in bulk; returns the id of the outbox segment, if anything is to be published."""
        ...


class ResolveStore(Protocol):
    """What the resolve flow needs of the store. All methods raise StoreUnavailable."""

    def transaction(self) -> AbstractAsyncContextManager[ResolveTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...


class OutboxStore(Protocol):
    """Messages saved with the change they belong to, until the broker has confirmed them."""

    async def published(self, segments: Sequence[int]) -> None:
        """Forget these segments."""
        ...

    async def leftover(self, *, older_than: datetime, limit: int) -> list[tuple[int, list[Message]]]:
        """Segments that nobody published for a while, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """What the connector learned about one account, to be saved only if nothing newer was saved before.

    `progress.version` is the one the connector started from: the fence. `attention_at` is when the relay should have
    the account looked at again; None when nothing is open.
    """

    person_id: str
    progress: Progress
    attention_at: datetime | None
    appeared: bool = False
    """Whether the account has an id in the application that it did not have before: others may refer to it."""
    linked: str | None = None
    """The id by which the account was linked to the one of `progress.refers_to`; None when that had none yet."""


class ConvergeTransaction(Protocol):
    """One group commit of a connector."""

    async def lock(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Lock these accounts, in id order; returns each one's fence (version) and desired revision."""
        ...

    async def save(
        self, app: str, updates: Sequence[ProgressUpdate], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Write the updates, raising each version by one; returns the id of the outbox segment."""
        ...

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str | None]:
        """The ids in the application of these accounts, which `lock` has locked."""
        ...

    async def look_again(self, app: str, referred: Sequence[str], *, now: datetime) -> None:
        """Have those accounts looked at that are done and refer to one of `referred`, whose id is new."""
        ...


class ConvergeStore(Protocol):
    """What the connector needs of the store. All methods raise StoreUnavailable."""

    async def load(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """These accounts, desired and known side; those without a row are absent."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[ConvergeTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        """The ids of groups that are known in the application."""
        ...

    async def save_group_id(self, app: str, name: str, remote_id: str | None) -> None:
        """Remember a group's id; None forgets it, because the application no longer has it."""
        ...

    async def claim_group(self, app: str, name: str, *, now: datetime, until: datetime) -> bool:
        """Whether this process may create the group now; somebody else's claim holds until it runs out."""
        ...

    async def save_health(self, app: str, health: "ApplicationHealth") -> None:
        """Remember how the application as a whole is doing, for operators and for the next start."""
        ...

    async def load_health(self, app: str) -> "ApplicationHealth | None":
        """What was remembered last."""
        ...


@dataclass(frozen=True, slots=True)
class ApplicationHealth:
    """`open`, or `paused` with the reason; no call goes out before `not_before`."""

    state: str
    reason: str = ""
    since: datetime | None = None
    not_before: datetime | None = None


class TimerTransaction(Protocol):
    """One sweep of a scheduler. Rows taken here are invisible to other schedulers until it ends."""

    async def take_due(self, *, now: datetime, limit: int) -> list[Timer]:
        """Up to `limit` timers that are due and have not fired, in order of due time, ends before starts."""
        ...

    async def fired(self, timers: Sequence[Timer], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Mark them as fired and save their events; returns the outbox segment."""
        ...


class TimerStore(Protocol):
    """The timers table as the scheduler sees it."""

    async def next_due(self) -> datetime | None:
        """The due instant of the next timer that has not fired."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[TimerTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...


class AttentionTransaction(Protocol):
    """One sweep of a relay over accounts that wait for a retry, or whose command was lost on its way."""

    async def take(self, *, now: datetime, limit: int) -> list[Account]:
        """Up to `limit` accounts whose attention is due, oldest first, invisible to other relays until the end."""
        ...

    async def reissued(
        self, accounts: Sequence[Account], outbox: Sequence[Message], *, next_attention: datetime, now: datetime
    ) -> int | None:
        """Push their attention into the future and save the commands; returns the outbox segment."""
        ...


class AttentionStore(Protocol):
    """Accounts that need another look."""

    def transaction(self) -> AbstractAsyncContextManager[AttentionTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...


@dataclass(frozen=True, slots=True)
class ScimRequest:
    """One call, built apart from its sending. `path` is relative to the application's base URL."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ScimResponse:
    """What the application answered. `body` is None when there was none or it was no JSON object."""

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ScimTransport(Protocol):
    """Carries calls to one application and lives as long as its lane."""

    async def send(self, request: ScimRequest, *, correlation_id: str = "") -> ScimResponse:
        """Send and return whatever status came back.

        Raises Unavailable when the call cannot have taken effect (no connection), Ambiguous when it may have
        (time-out or reset after it was sent), ApplicationDown when TLS or the host name is wrong.
        """
        ...


class AuditLog(Protocol):
    """The durable log the auditor appends to."""

    async def append(self, records: Iterable[bytes]) -> list[tuple[int, bytes]]:
        """Append those entries that are not in the log yet; returns them with their positions once they are durable."""
        ...


class AuditIndex(Protocol):
    """The searchable copy of the log."""

    async def next_position(self) -> int:
        """The position after the last one that is indexed."""
        ...

    async def add(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Index entries by their positions, each once. Raises StoreUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The whole store in one look, all of it as of the same instant."""

    persons: Mapping[str, int]
    """By standing."""
    accounts: Mapping[str, Mapping[str, int]]
    """By application and status."""
    parked_leavers: Mapping[str, int]
    """By application: accounts that should be closed and are parked. Each of them is an alarm."""
    open_timers: int
    next_due: datetime | None
    outbox_segments: int
    outbox_oldest: datetime | None
    quarantined: int
    health: Mapping[str, ApplicationHealth]


@dataclass(frozen=True, slots=True)
class ParkedAccount:
    """An account that waits for a person, or for a newer revision."""

    person_id: str
    app: str
    state: str
    since: datetime
    revision: int
    applied_revision: int
    attempts: int
    error_code: str | None
    error: str | None
    event_id: str
    correlation_id: str
    policy: str

    @property
    def leaver(self) -> bool:
        """Whether somebody has access who should not."""
        return self.state != "active"


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account: what it should be, how far that has come, and when it is looked at again."""

    account: Account
    progress: Progress
    attention_at: datetime | None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One audit entry about a person. `position` is its place in the audit log."""

    position: int
    at: datetime
    kind: str
    app: str | None
    revision: int | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PersonView:
    """Everything the store knows of one person. The timeline is in the order of the audit log."""

    person: Person
    accounts: Sequence[AccountView]
    timers: Sequence[Timer]
    timeline: Sequence[TimelineEntry]


@dataclass(frozen=True, slots=True)
class QuarantineSummary:
    """A quarantined record without its bytes, of which there may be many."""

    topic: str
    partition: int
    offset: int
    code: str
    reason: str
    bytes: int
    event_id: str | None
    received_at: datetime


class RetryTransaction(Protocol):
    """One decision of an operator about parked accounts."""

    async def take(self, app: str, person_ids: Sequence[str]) -> list[ParkedAccount]:
        """Lock those of these accounts that are parked still, in id order."""
        ...

    async def retried(
        self, app: str, person_ids: Sequence[str], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make them pending, with a fresh count of attempts and due for the relay; returns the outbox segment."""
        ...


class OperatorStore(Protocol):
    """What operators read of the store, and the little they write. All methods raise StoreUnavailable."""

    async def status(self) -> StoreStatus:
        """The whole store in one look."""
        ...

    async def person(self, person_id: str) -> PersonView | None:
        """One person with everything about it; None for an id that no event ever named."""
        ...

    async def parked(self, *, app: str | None = None, person_id: str | None = None) -> list[ParkedAccount]:
        """Parked accounts, leavers first, then those that wait longest."""
        ...

    async def quarantined(self, *, limit: int) -> list[QuarantineSummary]:
        """The latest quarantined records, newest first."""
        ...

    async def quarantined_record(self, topic: str, partition: int, offset: int) -> Quarantined | None:
        """One quarantined record with its bytes."""
        ...

    def retry(self) -> AbstractAsyncContextManager[RetryTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...
