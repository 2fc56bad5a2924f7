"""Accounts that wait for an operator, in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from orchestrator.domain.account import AccountStatus
from orchestrator.ports import ParkedAccount
from orchestrator.testing.auditing import NamesPeople
from orchestrator.testing.rows import ACCOUNT, AccountRow, save_segment
from orchestrator.testing.tables import Tables, Transaction
from schemas.envelope import Message


class MemoryParkedAccounts:
    """The part of `ports.OperatorStore` that tries parked accounts again."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def parked(self, *, app: str | None = None, person_id: str | None = None) -> list[ParkedAccount]:
        """Parked accounts, leavers first, then those that wait longest."""
        rows = await self._tables.read(ACCOUNT)
        found = [
            _parked(row)
            for key, row in rows.items()
            if row.progress.status is AccountStatus.PARKED and app in (None, key[1]) and person_id in (None, key[0])
        ]
        return sorted(found, key=lambda one: (not one.leaver, one.since, one.person_id))

    @asynccontextmanager
    async def retry(self) -> AsyncIterator["MemoryRetryTransaction"]:
        """One decision about parked accounts; see `ports.OperatorStore`."""
        async with self._tables.write() as transaction:
            yield MemoryRetryTransaction(transaction, self._tables)


class MemoryRetryTransaction(NamesPeople):
    """`ports.RetryTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables

    async def take(self, app: str, person_ids: Sequence[str]) -> list[ParkedAccount]:
        """Lock those of these accounts that are parked still, in id order."""
        await self._transaction.statement()
        keys = await self._transaction.lock(ACCOUNT, {(one, app) for one in person_ids})
        rows = [self._transaction.get(ACCOUNT, key) for key in keys]
        return [_parked(row) for row in rows if row is not None and row.progress.status is AccountStatus.PARKED]

    async def retried(
        self, app: str, person_ids: Sequence[str], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make them pending, with a fresh count of attempts and due for the relay; returns the outbox segment."""

        def pending(row: AccountRow | None) -> AccountRow | None:
            if row is None or row.progress.status is not AccountStatus.PARKED:
                return None
            version = row.progress.version + 1
            again = replace(row.progress, status=AccountStatus.PENDING, attempts=0, version=version)
            return replace(row, progress=again, attention_at=now)

        await self._transaction.statement()
        for person_id in sorted(person_ids):
            await self._transaction.upsert(ACCOUNT, (person_id, app), pending)
        return await save_segment(self._transaction, self._tables, outbox, now)


def _parked(row: AccountRow) -> ParkedAccount:
    account, progress = row.account, row.progress
    return ParkedAccount(
        person_id=account.person_id,
        app=account.app,
        state=account.state,
        since=account.since,
        revision=account.revision,
        applied_revision=progress.applied_revision,
        attempts=progress.attempts,
        error_code=progress.error_code,
        error=progress.error,
        event_id=account.event_id,
        correlation_id=account.correlation_id,
        policy=account.policy,
        candidates=progress.candidates,
        version=progress.version,
    )
