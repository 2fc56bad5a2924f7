"""What a change of the policy needs of the store."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from orchestrator.ports.resolving import Timer
from schemas.envelope import Message


class PolicyTransaction(Protocol):
    """Some of the people who are to be decided anew."""

    async def undecided(self, version: str, *, after: str, limit: int) -> list[str]:
        """Ids of persons who were decided last by another policy and have no timer for it yet, in their order; they
        stay until the end of the transaction."""
        ...

    async def set_timers(self, timers: Sequence[Timer]) -> None:
        """Set these timers; those that are there stay as they are."""
        ...


class PolicyStore(Protocol):
    """People by the policy that decided them last. All methods raise StoreUnavailable."""

    async def versions(self) -> Mapping[str | None, int]:
        """How many persons each version of the policy decided last; None: decided before that was kept."""
        ...

    async def waiting(self) -> int:
        """How many persons have a timer to be decided anew that has not fired."""
        ...

    async def population(self) -> Mapping[str, int]:
        """How many accounts of each application should be active."""
        ...

    def change(self) -> AbstractAsyncContextManager[PolicyTransaction]:
        """Commits at the end of the block, rolls back when it raises."""
        ...

    async def record(self, outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Save entries that go with no change of an account; returns the outbox segment."""
        ...
