"""What operators decide, each decision one transaction."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held
from orchestrator.domain.health import OperatorStop
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject
from orchestrator.ports.resolving import Quarantined, Timer
from orchestrator.ports.views import AccountView, ParkedAccount, PersonView, QuarantineSummary, StoreStatus
from schemas.envelope import Message


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

    async def issued(self, app: str, person_ids: Sequence[str]) -> dict[str, Account]:
        """Their accounts as they were issued last, by person."""
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
