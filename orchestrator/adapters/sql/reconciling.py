"""Accounts by the ids that an application gives them, and the mark that has one looked at once more."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.converging import SqlConvergeStore, SqlConvergeTransaction
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import read_account, read_progress, subject_of
from orchestrator.adapters.sql.tables import account, subject
from orchestrator.domain.account import Account, Progress
from orchestrator.ports import ProgressUpdate
from schemas.envelope import Message

PAGE = 1000

_OF_APP = account.c.app == sa.bindparam("b_app")


class SqlReconcileStore:
    """`ports.ReconcileStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        among = database.among
        self._statements = SqlConvergeStore(database)
        self._by_remote_id = sa.select(account).where(_OF_APP, among(account.c.remote_id))
        self._remote_ids = sa.select(account.c.person_id, account.c.remote_id).where(
            _OF_APP, among(account.c.person_id), account.c.remote_id.is_not(None)
        )
        self._linked = (
            sa.select(account)
            .where(_OF_APP, account.c.remote_id.is_not(None), account.c.person_id > sa.bindparam("b_after"))
            .order_by(account.c.person_id)
            .limit(PAGE)
        )
        self.holders = sa.select(account.c.remote_id, account.c.person_id).where(_OF_APP, among(account.c.remote_id))
        self.lock = (
            sa.select(account, subject.c.subject, subject.c.key)
            .select_from(account.outerjoin(subject, subject.c.person_id == account.c.person_id))
            .where(_OF_APP, among(account.c.person_id))
            .order_by(account.c.person_id)
            .with_for_update(of=account)
        )

    async def by_remote_id(self, app: str, remote_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """The accounts that are on record under these ids of the application."""
        async with self._database.look() as connection:
            values = {"b_app": app, **self._database.values(remote_ids)}
            rows = (await connection.execute(self._by_remote_id, values)).mappings()
            return {row["remote_id"]: (read_account(row), read_progress(row)) for row in rows}

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str]:
        """What the application calls the accounts of these persons; those without one are absent."""
        async with self._database.look() as connection:
            values = {"b_app": app, **self._database.values(person_ids)}
            rows = await connection.execute(self._remote_ids, values)
            return {row.person_id: row.remote_id for row in rows}

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        """What the application calls groups of these names; those that nobody needed yet are absent."""
        return await self._statements.group_ids(app, names)

    async def linked(self, app: str) -> AsyncIterator[list[tuple[Account, Progress]]]:
        """All accounts that have an id in the application, in pages by person."""
        after = ""
        while True:
            async with self._database.look() as connection:
                found = (await connection.execute(self._linked, {"b_app": app, "b_after": after})).mappings()
                page = [(read_account(row), read_progress(row)) for row in found]
            if not page:
                return
            yield page
            after = page[-1][0].person_id

    @asynccontextmanager
    async def look(self) -> AsyncIterator["SqlLookTransaction"]:
        """One decision; see `ports.ReconcileStore`."""
        async with self._database.write() as connection:
            yield SqlLookTransaction(
                connection, self._database, self, SqlConvergeTransaction(connection, self._database, self._statements)
            )

    async def record(self, outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Save entries that go with no change of an account; returns the outbox segment."""
        async with self._database.write() as connection:
            return await save_segment(connection, outbox, now)


class SqlLookTransaction:
    """`ports.LookTransaction`."""

    def __init__(
        self,
        connection: AsyncConnection,
        database: Database,
        statements: SqlReconcileStore,
        converging: SqlConvergeTransaction,
    ) -> None:
        self._connection = connection
        self._database = database
        self._statements = statements
        self._converging = converging

    async def look_again(self, app: str, referred: Sequence[str], *, now: datetime) -> None:
        """Have those accounts looked at that are done and refer to one of `referred`, whose id is new."""
        await self._converging.look_again(app, referred, now=now)

    async def holders(self, app: str, remote_ids: Sequence[str]) -> dict[str, str]:
        """Who has these accounts of the application on record, by their ids."""
        values = {"b_app": app, **self._database.values(remote_ids)}
        rows = await self._connection.execute(self._statements.holders, values)
        return {row.remote_id: row.person_id for row in rows}

    async def lock(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """Lock these accounts, in id order, and read them."""
        values = {"b_app": app, **self._database.values(sorted(person_ids))}
        rows = (await self._connection.execute(self._statements.lock, values)).mappings()
        return {row["person_id"]: (read_account(row, subject_of(row)), read_progress(row)) for row in rows}

    async def save(
        self, app: str, updates: Sequence[ProgressUpdate], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Write the updates, raising each version by one; returns the id of the outbox segment."""
        return await self._converging.save(app, updates, outbox, now=now)
