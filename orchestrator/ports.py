"""The edges of the orchestrator as Protocols: what flows need from the outside, and nothing more.

Adapters implement them and are known to `bootstrap` alone. Every port has one contract suite for all its adapters.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.breaker import Held, Window
from orchestrator.domain.health import ApplicationHealth as ApplicationHealth
from orchestrator.domain.health import OperatorStop as OperatorStop
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject
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


class Passed(NamedTuple):
    """So many commands that take access away passed the breaker in one part of its window."""

    app: str
    source: str
    bucket: datetime
    number: int


@dataclass(slots=True)
class ResolveChanges:
    """Everything one batch of the resolver writes, in one transaction."""

    inbox: list[InboxRow] = field(default_factory=list)
    persons: list[Person] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    timers_set: list[Timer] = field(default_factory=list)
    timers_cancelled: list[Timer] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    unheld: list[tuple[str, str]] = field(default_factory=list)
    """Person and application of what is held no more."""
    passed: list["Passed"] = field(default_factory=list)
    tripped: dict[str, datetime] = field(default_factory=dict)
    """Applications for which the breaker has just tripped, and when."""
    outbox: list[Message] = field(default_factory=list)


class SubjectStore(Protocol):
    """Who the audit log speaks of. All methods raise StoreUnavailable.

    A key is for the moment: whoever keeps one for longer reads, and writes, about somebody who was erased meanwhile.
    """

    async def of_people(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """The subjects of these people, by person id; an erased or unknown person has none."""
        ...

    async def called(self, subject_ids: Sequence[str]) -> Mapping[str, Subject]:
        """Those of these subjects that were not erased, by subject id."""
        ...


class ResolveTransaction(Protocol):
    """One transaction of the resolver. Persons are locked from `load` to the end."""

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent. Ask after `load`, which waits
        for an erasure under way."""
        ...

    async def add_subjects(self, new: Sequence[Subject], *, now: datetime) -> Mapping[str, Subject]:
        """Give these people their first subjects; returns those that count from now on, by person id."""
        ...

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

    async def held(self, person_ids: Sequence[str]) -> dict[tuple[str, str], Held]:
        """What the breaker holds of these persons' accounts, or an operator rejected; after `load`."""
        ...

    async def windows(self, apps: Sequence[str], *, since: datetime, now: datetime) -> dict[str, Window]:
        """What passed the breaker since then. Until the end nobody else passes anything for these applications."""
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

    async def save_health(self, app: str, health: ApplicationHealth) -> None:
        """Remember how the application as a whole is doing, for operators and for the next start."""
        ...

    async def load_health(self, app: str) -> ApplicationHealth | None:
        """What was remembered last."""
        ...


class TimerTransaction(Protocol):
    """One sweep of a scheduler. Rows taken here are invisible to other schedulers until it ends."""

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        ...

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

    async def held(self) -> Mapping[str, int]:
        """By application: what the breaker holds and nobody has decided yet."""
        ...

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


class CheckpointedLog(Protocol):
    """The same log, as whoever signs it sees it."""

    async def checkpoint(self, *, now: bool = False) -> bytes | None:
        """Sign what no checkpoint covers yet, if that is due or wanted `now`.

        Returns the newest checkpoint, which is durable, unless it was returned before. Raises AuditLogTaken, OSError.
        """
        ...


class Witness(Protocol):
    """Somebody else who sees every checkpoint and signs it only if it continues the last one."""

    name: str

    async def cosign(self, note: bytes) -> None:
        """Have a checkpoint signed, and keep the signature. Raises WitnessUnavailable, WitnessRefused."""
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
    held: Mapping[str, int] = field(default_factory=dict)
    """By application: what the breaker holds and nobody has decided yet."""


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
    candidates: tuple[str, ...] = ()
    """The ids of the accounts that could be the person's, where there are several."""

    @property
    def leaver(self) -> bool:
        """Whether somebody has access who should not."""
        return self.state in ("inactive", "absent")


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account: what it should be, how far that has come, and when it is looked at again."""

    account: Account
    progress: Progress
    attention_at: datetime | None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One audit entry about a person. `position` is its place in the audit log, `values` what is sealed in it."""

    position: int
    at: datetime
    kind: str
    app: str | None
    revision: int | None
    details: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class PersonView:
    """Everything the store knows of one person. The timeline is in the order of the audit log."""

    person: Person
    accounts: Sequence[AccountView]
    timers: Sequence[Timer]
    timeline: Sequence[TimelineEntry]
    subject: str | None = None
    """How the audit log calls the person."""


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


class TimedRecord(Protocol):
    """A record of a topic with the time at which the broker took it, in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int


class PlanStore(Protocol):
    """What plans read of the store. All methods raise StoreUnavailable."""

    def everybody(self) -> AsyncIterator[list[tuple[Person, dict[str, Account]]]]:
        """All persons with their accounts by application, in pages."""
        ...

    async def named(self, person_ids: Sequence[str]) -> list[tuple[Person, dict[str, Account]]]:
        """These persons; those that no event ever named are left out."""
        ...

    async def correlate_emails(self, emails: Sequence[str]) -> Mapping[str, list[str]]:
        """The persons that hold each of these e-mail addresses (lower case)."""
        ...


class LookTransaction(Protocol):
    """A decision to have accounts of an application looked at once more."""

    async def look_again(self, app: str, referred: Sequence[str], *, now: datetime) -> None:
        """Have those accounts looked at that are done and refer to one of `referred`, whose id is new."""
        ...

    async def holders(self, app: str, remote_ids: Sequence[str]) -> dict[str, str]:
        """Who has these accounts of the application on record, by their ids."""
        ...

    async def lock(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """Lock these accounts, in id order, and read them."""
        ...

    async def save(
        self, app: str, updates: Sequence[ProgressUpdate], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Write the updates, raising each version by one; returns the id of the outbox segment."""
        ...


class ReconcileStore(Protocol):
    """Accounts of an application by what the application calls them. All methods raise StoreUnavailable."""

    async def by_remote_id(self, app: str, remote_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """The accounts that are on record under these ids of the application."""
        ...

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str]:
        """What the application calls the accounts of these persons; those without one are absent."""
        ...

    def linked(self, app: str) -> AsyncIterator[list[tuple[Account, Progress]]]:
        """All accounts that have an id in the application, in pages by person."""
        ...

    def look(self) -> AbstractAsyncContextManager[LookTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...

    async def record(self, outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Save entries that go with no change of an account; returns the outbox segment."""
        ...


class RetryTransaction(Protocol):
    """One decision of an operator about parked accounts."""

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        ...

    async def take(self, app: str, person_ids: Sequence[str]) -> list[ParkedAccount]:
        """Lock those of these accounts that are parked still, in id order."""
        ...

    async def retried(
        self, app: str, person_ids: Sequence[str], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make them pending, with a fresh count of attempts and due for the relay; returns the outbox segment."""
        ...


@dataclass(frozen=True, slots=True)
class ErasureCase:
    """Everything that decides whether a person can be erased. `unpublished` messages about them are in the outbox."""

    person: Person
    subject: Subject
    accounts: Sequence[AccountView]
    unpublished: int


class ErasureTransaction(Protocol):
    """The erasure of one person. From `load` to the end nobody else changes anything about them."""

    async def load(self, person_id: str) -> ErasureCase | None:
        """Lock and load everything that decides; None when nothing is kept under this id."""
        ...

    async def erase(self, case: ErasureCase, outbox: Sequence[Message], *, now: datetime) -> Mapping[str, int]:
        """Delete what is the person's everywhere, destroy the key and the link to the log, and save the messages;
        returns how many rows went, by table."""
        ...


class ErasureStore(Protocol):
    """What erasure needs of the store. All methods raise StoreUnavailable."""

    def transaction(self) -> AbstractAsyncContextManager[ErasureTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...


class HoldTransaction(Protocol):
    """One decision of an operator about what the breaker holds. Persons are locked from `take` to the end."""

    async def take(self, app: str, person_ids: Sequence[str]) -> list[Held]:
        """Lock those persons, and return what is held of their accounts still, or was rejected, in id order."""
        ...

    async def released(
        self, held: Sequence[Held], timers: Sequence[Timer], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make the accounts what was held, due for the relay; returns the outbox segment."""
        ...

    async def rejected(self, held: Sequence[Held], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Leave the accounts as they are, and remember that; returns the outbox segment."""
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

    async def held(
        self, *, app: str | None = None, source: str | None = None, person_id: str | None = None, rejected: bool = False
    ) -> list[Held]:
        """What the breaker holds, or with `rejected` what operators rejected; what waits longest first."""
        ...

    def holds(self) -> AbstractAsyncContextManager[HoldTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...

    async def stop_application(
        self, app: str, stop: OperatorStop | None, outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Let no call go out to an application any more, or (None) let them go again; returns the outbox segment."""
        ...
