"""The breaker's tables in memory: parts of the resolver's, the relay's and the operators' stores."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held, Window
from orchestrator.domain.sealing import Subject
from orchestrator.ports import ResolveChanges, Timer
from orchestrator.testing.auditing import SUBJECT
from orchestrator.testing.rows import (
    ACCOUNT,
    BREAKER,
    BREAKER_COUNT,
    HELD,
    PERSON,
    TIMER,
    TimerRow,
    save_segment,
)
from orchestrator.testing.tables import Tables, Transaction
from schemas.envelope import Message

COUNT_AGAIN = timedelta(minutes=1)


class BreakerRow(NamedTuple):
    """What is known of one application."""

    population: int = 0
    counted_at: datetime | None = None
    tripped_at: datetime | None = None


async def windows(
    transaction: Transaction, apps: Sequence[str], *, active: Mapping[str, int], since: datetime, now: datetime
) -> dict[str, Window]:
    """What passed since then; the applications stay locked. `active` are their active accounts."""
    await transaction.statement()
    found = {}
    for app in sorted(apps):
        await transaction.upsert(BREAKER, app, lambda row: row or BreakerRow())
        row: BreakerRow = transaction.get(BREAKER, app)  # type: ignore[assignment]  # it was just made
        if row.counted_at is None or not now - COUNT_AGAIN < row.counted_at <= now:
            row = row._replace(population=active.get(app, 0), counted_at=now)
            transaction.put(BREAKER, app, row)
        found[app] = Window(row.population, {}, row.tripped_at)
    for (app, source, bucket), passed in list(transaction.scan(BREAKER_COUNT)):
        if app in found and bucket >= since:
            found[app].passed[source] = found[app].passed.get(source, 0) + passed
        elif app in found:
            for key in await transaction.lock(BREAKER_COUNT, [(app, source, bucket)]):
                transaction.delete(BREAKER_COUNT, key)
    return found


async def save(transaction: Transaction, changes: ResolveChanges) -> None:
    """Write what a batch holds, lets go of, and let pass."""
    for one in sorted(changes.held, key=lambda held: held.key):
        await transaction.upsert(HELD, one.key, lambda _, held=one: held)  # type: ignore[misc]  # bound at once
    for key in await transaction.lock(HELD, changes.unheld):
        transaction.delete(HELD, key)
    for passed in changes.passed:
        place = (passed.app, passed.source, passed.bucket)
        before: int = transaction.get(BREAKER_COUNT, place) or 0
        number = before + passed.number
        await transaction.upsert(BREAKER_COUNT, place, lambda _, number=number: number)  # type: ignore[misc]  # same
    for app, at in changes.tripped.items():
        row: BreakerRow = transaction.get(BREAKER, app) or BreakerRow()
        await transaction.upsert(BREAKER, app, lambda _, row=row, at=at: row._replace(tripped_at=at))  # type: ignore[misc]  # same


def load(transaction: Transaction, person_ids: Sequence[str]) -> dict[tuple[str, str], Held]:
    """What is held of these persons' accounts, or was rejected."""
    return {key: held for key, held in transaction.scan(HELD) if key[0] in set(person_ids)}


async def counts(tables: Tables) -> Mapping[str, int]:
    """By application: what is held and nobody has decided yet."""
    found: dict[str, int] = {}
    for (_, app), held in (await tables.read(HELD)).items():
        if held.rejected_at is None:
            found[app] = found.get(app, 0) + 1
    return found


def _named(held: Held, known_as: Subject | None) -> Held:
    return replace(held, account=replace(held.account, subject=known_as))


class MemoryHolds:
    """The part of `ports.OperatorStore` that decides about what is held."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def held(
        self, *, app: str | None = None, source: str | None = None, person_id: str | None = None, rejected: bool = False
    ) -> list[Held]:
        """What the breaker holds, or with `rejected` what operators rejected; what waits longest first."""
        found = [
            held
            for (who, where), held in (await self._tables.read(HELD)).items()
            if (held.rejected_at is not None) is rejected
            and app in (None, where)
            and person_id in (None, who)
            and source in (None, held.source)
        ]
        return sorted(found, key=lambda one: (one.held_at, one.account.app, one.account.person_id))

    @asynccontextmanager
    async def holds(self) -> AsyncIterator["MemoryHoldTransaction"]:
        """One decision about what is held; see `ports.OperatorStore`."""
        async with self._tables.write() as transaction:
            yield MemoryHoldTransaction(transaction, self._tables)


class MemoryHoldTransaction:
    """`ports.HoldTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables

    async def take(self, app: str, person_ids: Sequence[str]) -> list[Held]:
        """Lock those persons, and return what is held of their accounts still, or was rejected, in id order."""
        await self._transaction.statement()
        await self._transaction.lock(PERSON, set(person_ids))
        found = load(self._transaction, person_ids)
        return [_named(found[key], self._transaction.get(SUBJECT, key[0])) for key in sorted(found) if key[1] == app]

    async def issued(self, app: str, person_ids: Sequence[str]) -> dict[str, Account]:
        """Their accounts as they were issued last, by person."""
        await self._transaction.statement()
        rows = {who: self._transaction.get(ACCOUNT, (who, app)) for who in person_ids}
        return {who: row.account for who, row in rows.items() if row is not None}

    async def released(
        self, held: Sequence[Held], timers: Sequence[Timer], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make the accounts what was held, due for the relay; returns the outbox segment."""
        await self._transaction.statement()
        for one in sorted(held, key=lambda one: one.key):

            def decided(row: Any, one: Held = one) -> Any:
                return row and replace(row, account=replace(one.account, issued_at=now, subject=None), attention_at=now)

            await self._transaction.upsert(ACCOUNT, one.key, decided)
        for key in await self._transaction.lock(HELD, [one.key for one in held]):
            self._transaction.delete(HELD, key)
        for timer in timers:
            row = TimerRow(timer)
            key = (timer.person_id, timer.kind, timer.due)
            await self._transaction.upsert(TIMER, key, lambda _, row=row: row)  # type: ignore[misc]  # bound at once
        return await save_segment(self._transaction, self._tables, outbox, now)

    async def rejected(self, held: Sequence[Held], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Leave the accounts as they are, and remember that; returns the outbox segment."""
        await self._transaction.statement()
        for one in sorted(held, key=lambda one: one.key):
            await self._transaction.upsert(HELD, one.key, lambda row: row and replace(row, rejected_at=now))
        return await save_segment(self._transaction, self._tables, outbox, now)
