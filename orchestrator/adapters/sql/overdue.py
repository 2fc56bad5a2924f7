"""Access that should be over and is not known to be: counted, listed, and told of once."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import read_account, read_person, subject_of
from orchestrator.adapters.sql.tables import OPEN_END, account, person, subject
from orchestrator.domain.account import Account
from orchestrator.domain.person import Person
from orchestrator.ports.noticing import Overdue, OverdueEnd
from schemas.envelope import Message

_since = account.c.since
_raised = account.c.issued_at
_BEFORE = (
    OPEN_END,
    _since < sa.bindparam("b_due", type_=_since.type),
    sa.or_(_raised.is_(None), _raised < sa.bindparam("b_known", type_=_raised.type)),
)
_COUNT = sa.select(account.c.app, sa.func.count(), sa.func.min(_since)).where(*_BEFORE).group_by(account.c.app)
_NOT_TOLD = sa.or_(account.c.overdue_told.is_(None), account.c.overdue_told != _since)
_TAKE = (
    sa.select(account, subject.c.subject, subject.c.key)
    .select_from(account.outerjoin(subject, subject.c.person_id == account.c.person_id))
    .where(*_BEFORE, _NOT_TOLD)
    .order_by(_since, account.c.person_id, account.c.app)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True, of=account)
)
_TOLD = (
    sa.update(account)
    .where(account.c.person_id == sa.bindparam("b_person_id"), account.c.app == sa.bindparam("b_app"))
    .values(overdue_told=sa.bindparam("b_since", type_=_since.type))
)


class SqlOverdueStore:
    """`ports.noticing.OverdueStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, *, due: datetime, known: datetime) -> Mapping[str, Overdue]:
        """By application: what was due before `due`, was known before `known`, and is open still."""
        async with self._database.read() as connection:
            rows = await connection.execute(_COUNT, {"b_due": due, "b_known": known})
            return {app: Overdue(ends, oldest) for app, ends, oldest in rows}

    async def listed(
        self, *, due: datetime, known: datetime, app: str | None = None, limit: int = 1000
    ) -> list[OverdueEnd]:
        """The same one by one, oldest first."""
        select = sa.select(account).where(*_BEFORE).order_by(_since, account.c.person_id, account.c.app)
        if app is not None:
            select = select.where(account.c.app == app)
        async with self._database.read() as connection:
            rows = await connection.execute(select.limit(limit), {"b_due": due, "b_known": known})
            return [
                OverdueEnd(
                    person_id=row.person_id,
                    app=row.app,
                    state=row.state,
                    since=row.since,
                    status=row.status,
                    active=row.active,
                    attempts=row.attempts,
                    error_code=row.error_code,
                    error=row.error,
                    next_attempt=row.attention_at,
                    event_id=row.event_id,
                )
                for row in rows
            ]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["SqlOverdueTransaction"]:
        """One sweep; see `ports.noticing.OverdueStore`."""
        async with self._database.write() as connection:
            yield SqlOverdueTransaction(connection, self._database)


class SqlOverdueTransaction:
    """`ports.noticing.OverdueTransaction`."""

    def __init__(self, connection: AsyncConnection, database: Database) -> None:
        self._connection = connection
        self._database = database

    async def take(self, *, due: datetime, known: datetime, limit: int) -> list[tuple[Account, Person | None]]:
        """Up to `limit` of those of which nobody was told, invisible to other sweeps until the end."""
        rows = await self._connection.execute(_TAKE, {"b_due": due, "b_known": known, "most": limit})
        accounts = [read_account(row, subject_of(row)) for row in rows.mappings()]
        if not accounts:
            return []
        select = sa.select(person.c.id, person.c.record).where(self._database.among(person.c.id))
        ids = self._database.values(sorted({one.person_id for one in accounts}))
        people = {row.id: read_person(row.id, row.record) for row in await self._connection.execute(select, ids)}
        return [(one, people.get(one.person_id)) for one in accounts]

    async def told(self, accounts: Sequence[Account], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Remember of which end people were told, and save the notices; returns the outbox segment."""
        if accounts:
            rows = [{"b_person_id": one.person_id, "b_app": one.app, "b_since": one.since} for one in accounts]
            await self._connection.execute(_TOLD, rows)
        return await save_segment(self._connection, outbox, now)
