"""What is due, for the scheduler and the relay."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from orchestrator.domain.account import Account
from orchestrator.domain.reconcile_schedule import LastRun
from orchestrator.domain.sealing import Subject
from orchestrator.ports.resolving import Timer
from schemas.envelope import Message


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


class ReconcileRuns(Protocol):
    """The last reconciliation of each application, and who is at one by schedule: one process at a time. All methods
    raise StoreUnavailable."""

    async def last(self) -> Mapping[str, LastRun]:
        """The last run of each application that had one."""
        ...

    async def claim(self, app: str, run: int, *, now: datetime, until: datetime) -> bool:
        """Begin the run after the one that was seen last; False when another process was faster."""
        ...

    async def renew(self, app: str, run: int, *, until: datetime) -> bool:
        """Keep the lease; False when another process has begun a run since."""
        ...

    async def end(self, app: str, run: int, outcome: str, counts: Mapping[str, int] | None, *, now: datetime) -> bool:
        """Say what became of the run, and give the lease back. None leaves the counts of the run before."""
        ...

    async def note(
        self, app: str, outcome: str, counts: Mapping[str, int], *, began_at: datetime, ended_at: datetime
    ) -> bool:
        """A run by hand, which is the last one from now on; False while a process is at one by schedule, which will be
        the last one when it ends."""
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
