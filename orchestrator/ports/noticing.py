"""The edges of what is due, of notices and of overdue ends, as Protocols; see `ports`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from orchestrator.domain.account import Account
from orchestrator.domain.notices import Receiver
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject
from orchestrator.ports import AccountView, Quarantined, Timer
from schemas.envelope import Message
from schemas.notices import Notice


class Issued(NamedTuple):
    """A notice on its way to its receivers. `key` is its id as they see it, `at` when it was issued."""

    key: str
    notice: Notice
    at: datetime
    receivers: Sequence[Receiver]


class Delivery(NamedTuple):
    """One attempt to deliver a notice to one receiver. `attempt` counts from 1 and is the fence."""

    key: str
    receiver: str
    notice: Notice
    issued_at: datetime
    attempt: int


class Settled(NamedTuple):
    """How an attempt ended: delivered, outdated, waiting (until `next_attempt_at`) or parked."""

    delivery: Delivery
    status: str
    at: datetime
    next_attempt_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None


class Contact(NamedTuple):
    """What a notice needs of a person. It leaves the house in an e-mail and nowhere else."""

    person_id: str
    name: str
    email: str | None
    time_zone: str | None


class NoticeStore(Protocol):
    """Deliveries of notices. All methods raise StoreUnavailable."""

    async def accept(self, issued: Sequence[Issued], quarantined: Sequence[Quarantined], *, now: datetime) -> None:
        """Remember them, each once for each receiver; one that is known stays as it is."""
        ...

    async def claim(self, channel: str, *, now: datetime, until: datetime, limit: int) -> list[Delivery]:
        """Up to `limit` deliveries whose time has come, oldest first. Nobody else gets them before `until`."""
        ...

    async def outdated(self, deliveries: Sequence[Delivery]) -> set[str]:
        """The keys of those whose end no longer stands: moved, taken back, or enforced meanwhile."""
        ...

    async def contacts(self, person_ids: Sequence[str], *, now: datetime) -> Mapping[str, Contact]:
        """These people, as far as they are known."""
        ...

    async def settle(self, settled: Sequence[Settled]) -> None:
        """Save how attempts ended, unless a later attempt has begun meanwhile."""
        ...


class NoticeReceiver(Protocol):
    """Carries notices over one channel."""

    channel: str

    async def deliver(self, delivery: Delivery, people: Mapping[str, Contact]) -> None:
        """Hand one notice over. Raises NotDelivered, Undeliverable."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as operators see it."""

    key: str
    receiver: str
    kind: str
    person_id: str
    due: datetime
    app: str | None
    status: str
    attempts: int
    issued_at: datetime
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    error_code: str | None
    error: str | None


class NoticeRetry(Protocol):
    """One decision of an operator about parked notices."""

    async def take(self, keys: Sequence[str]) -> list[DeliveryView]:
        """Lock those deliveries of these notices that are parked still."""
        ...

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        ...

    async def retried(self, taken: Sequence[DeliveryView], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Have them delivered at once; returns the outbox segment."""
        ...


class NoticeDesk(Protocol):
    """What operators read of notices, and the little they write. All methods raise StoreUnavailable."""

    async def listed(self, *, statuses: Sequence[str], limit: int) -> list[DeliveryView]:
        """The latest deliveries with these statuses, newest first."""
        ...

    def retry(self) -> AbstractAsyncContextManager[NoticeRetry]:
        """Commits at the end of the block, rolls back when it raises."""
        ...


class TimerView(NamedTuple):
    """A timer, and when it fired."""

    timer: Timer
    fired_at: datetime | None


class ComingStore(Protocol):
    """What is due for people, and what became of a statement. All methods raise StoreUnavailable."""

    async def due(self, *, until: datetime, after: Timer | None, limit: int) -> list[Timer]:
        """Up to `limit` open timers that are due by `until`, in order, the ones behind `after`."""
        ...

    async def people(self, person_ids: Sequence[str]) -> dict[str, tuple[Person, dict[str, Account]]]:
        """These persons with their accounts by application."""
        ...

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        ...

    async def accounts(self, person_id: str) -> list[AccountView]:
        """Both sides of one person's accounts."""
        ...

    async def timers(self, person_id: str) -> list[TimerView]:
        """One person's timers, fired ones too, in order."""
        ...

    async def outcome(self, event_id: str) -> str | None:
        """The terminal state that an event (source#id) reached; None while it is on its way."""
        ...


class Overdue(NamedTuple):
    """How many ends of an application are overdue, and since when the oldest is."""

    ends: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class OverdueEnd:
    """An account that should be closed and is not known to be."""

    person_id: str
    app: str
    state: str
    since: datetime
    status: str
    active: bool | None
    """As the application showed it last; None: never seen."""
    attempts: int
    error_code: str | None
    error: str | None
    next_attempt: datetime | None
    event_id: str


class OverdueTransaction(Protocol):
    """One sweep over overdue ends of which nobody was told."""

    async def take(self, *, due: datetime, known: datetime, limit: int) -> list[tuple[Account, Person | None]]:
        """Up to `limit` of those of which nobody was told, invisible to other sweeps until the end."""
        ...

    async def told(self, accounts: Sequence[Account], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Remember of which end people were told, and save the notices; returns the outbox segment."""
        ...


class OverdueStore(Protocol):
    """Ends that could not be enforced yet: due before `due` in people's lives, decided before `known` by the machine's
    time, and open still. HR may state an end late, and nobody is to blame for what was not known. All methods raise
    StoreUnavailable."""

    async def count(self, *, due: datetime, known: datetime) -> Mapping[str, Overdue]:
        """By application."""
        ...

    async def listed(
        self, *, due: datetime, known: datetime, app: str | None = None, limit: int = 1000
    ) -> list[OverdueEnd]:
        """One by one, oldest first."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[OverdueTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...
