"""What is due: timers for the scheduler, accounts that need another look for the relay."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.holding import counts_of_held
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import read_account
from orchestrator.adapters.sql.subjects import SubjectRows
from orchestrator.adapters.sql.tables import account, timer
from orchestrator.domain.account import Account
from orchestrator.domain.sealing import Subject
from orchestrator.domain.timers import ENDS, WARNINGS
from orchestrator.ports import Timer
from schemas.envelope import Message

_OPEN = timer.c.fired_at.is_(None)
_ENDS_FIRST = sa.case((timer.c.kind.in_(ENDS), 0), (timer.c.kind.in_(WARNINGS), 2), else_=1)
_TAKE_TIMERS = (
    sa.select(timer)
    .where(_OPEN, timer.c.due <= sa.bindparam("b_now", type_=timer.c.due.type))
    .order_by(timer.c.due, _ENDS_FIRST, timer.c.person_id)
    .limit(sa.bindparam("most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)
_FIRED = (
    sa.update(timer)
    .where(
        timer.c.person_id == sa.bindparam("b_person_id"),
        timer.c.kind == sa.bindparam("b_kind"),
        timer.c.due == sa.bindparam("b_due"),
    )
    .values(fired_at=sa.bindparam("b_now"))
)
_TAKE_ACCOUNTS = (
    sa.select(account)
    .where(account.c.attention_at <= sa.bindparam("b_now", type_=account.c.attention_at.type))
    .order_by(account.c.attention_at)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
_REISSUED = (
    sa.update(account)
    .where(account.c.person_id == sa.bindparam("b_person_id"), account.c.app == sa.bindparam("b_app"))
    .values(attention_at=sa.bindparam("b_attention_at"))
)


class SqlTimerStore:
    """`ports.TimerStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subjects = SubjectRows(database)

    async def next_due(self) -> datetime | None:
        """The due instant of the next timer that has not fired."""
        async with self._database.read() as connection:
            statement = sa.select(timer.c.due).where(_OPEN).order_by(timer.c.due).limit(1)
            return (await connection.execute(statement)).scalar_one_or_none()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["SqlTimerTransaction"]:
        """One sweep; see `ports.TimerStore`."""
        async with self._database.write() as connection:
            yield SqlTimerTransaction(connection, self._subjects)


class SqlTimerTransaction:
    """`ports.TimerTransaction`."""

    def __init__(self, connection: AsyncConnection, subjects: SubjectRows) -> None:
        self._connection = connection
        self._subjects = subjects

    async def subjects(self, person_ids: Sequence[str]) -> dict[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        return await self._subjects.of_people(self._connection, person_ids)

    async def take_due(self, *, now: datetime, limit: int) -> list[Timer]:
        """Up to `limit` timers that are due and have not fired, in order of due time, ends before starts."""
        rows = await self._connection.execute(_TAKE_TIMERS, {"b_now": now, "most": limit})
        return [Timer(row.person_id, row.kind, row.due, row.event_id, row.rule) for row in rows]

    async def fired(self, timers: Sequence[Timer], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Mark them as fired and save their events; returns the outbox segment."""
        rows = [{"b_person_id": t.person_id, "b_kind": t.kind, "b_due": t.due, "b_now": now} for t in timers]
        if rows:
            await self._connection.execute(_FIRED, rows)
        return await save_segment(self._connection, outbox, now)


class SqlAttentionStore:
    """`ports.AttentionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def held(self) -> Mapping[str, int]:
        """By application: what the breaker holds and nobody has decided yet."""
        async with self._database.look() as connection:
            return await counts_of_held(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["SqlAttentionTransaction"]:
        """One sweep; see `ports.AttentionStore`."""
        async with self._database.write() as connection:
            yield SqlAttentionTransaction(connection)


class SqlAttentionTransaction:
    """`ports.AttentionTransaction`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def take(self, *, now: datetime, limit: int) -> list[Account]:
        """Up to `limit` accounts whose attention is due, oldest first, invisible to other relays until the end."""
        rows = await self._connection.execute(_TAKE_ACCOUNTS, {"b_now": now, "most": limit})
        return [read_account(row) for row in rows.mappings()]

    async def reissued(
        self, accounts: Sequence[Account], outbox: Sequence[Message], *, next_attention: datetime, now: datetime
    ) -> int | None:
        """Push their attention into the future and save the commands; returns the outbox segment."""
        rows = [{"b_person_id": a.person_id, "b_app": a.app, "b_attention_at": next_attention} for a in accounts]
        if rows:
            await self._connection.execute(_REISSUED, rows)
        return await save_segment(self._connection, outbox, now)
