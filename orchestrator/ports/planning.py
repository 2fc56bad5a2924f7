"""What plans and reconciliation read, and the mark that has an account looked at again."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.person import Person
from orchestrator.ports.converging import ProgressUpdate
from schemas.envelope import Message


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

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        """What the application calls groups of these names; those that nobody needed yet are absent."""
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
