"""The connector's store: loads in bulk, saves by group commit behind the fence of each account's version."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.bulk import bulk_update
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import (
    observed,
    read_account,
    read_health,
    read_person,
    read_progress,
    subject_of,
)
from orchestrator.adapters.sql.tables import account, application, entitlement_group, person, subject
from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.person import Person
from orchestrator.ports import ApplicationHealth, ProgressUpdate
from schemas.envelope import Message

_OF_APP = account.c.app == sa.bindparam("b_app")
_KNOWN = (
    "version",
    "applied_revision",
    "remote_id",
    "active",
    "observed",
    "intent",
    "status",
    "attempts",
    "error_code",
    "error",
    "refers_to",
    "name_number",
    "attention_at",
)


class SqlConvergeStore:
    """`ports.ConvergeStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        among = database.among
        self.save = bulk_update(database, account, ("person_id", "app", "version"), _KNOWN)
        self._load = (
            sa.select(account, subject.c.subject, subject.c.key)
            .select_from(account.outerjoin(subject, subject.c.person_id == account.c.person_id))
            .where(_OF_APP, among(account.c.person_id))
        )
        self.lock = (
            sa.select(account.c.person_id, account.c.version, account.c.revision)
            .where(_OF_APP, among(account.c.person_id))
            .order_by(account.c.person_id)
            .with_for_update()
        )
        self._holders = sa.select(account.c.remote_id, account.c.person_id).where(_OF_APP, among(account.c.remote_id))
        self.remote_ids = sa.select(account.c.person_id, account.c.remote_id).where(_OF_APP, among(account.c.person_id))
        # Whoever holds one of these rows looks at the account itself, or has it looked at. Waiting could be for ever:
        # it may hold the row and wait for the one it refers to, which is ours.
        free = (
            sa.select(account.c.person_id)
            .where(_OF_APP, among(account.c.refers_to), account.c.status == AccountStatus.APPLIED.value)
            .with_for_update(skip_locked=True)
        )
        self.look_again = (
            sa.update(account)
            .where(_OF_APP, account.c.person_id.in_(free))
            .values(attention_at=sa.bindparam("b_now", type_=account.c.attention_at.type))
        )
        self._group_ids = sa.select(entitlement_group.c.name, entitlement_group.c.remote_id).where(
            entitlement_group.c.app == sa.bindparam("b_app"),
            entitlement_group.c.remote_id.is_not(None),
            among(entitlement_group.c.name),
        )
        insert_group = database.insert(entitlement_group)
        self._save_group = insert_group.on_conflict_do_update(
            index_elements=["app", "name"], set_={"remote_id": insert_group.excluded.remote_id, "claimed_until": None}
        )
        self._claim_group = insert_group.on_conflict_do_update(
            index_elements=["app", "name"],
            set_={"claimed_until": insert_group.excluded.claimed_until},
            where=sa.and_(
                entitlement_group.c.remote_id.is_(None),
                sa.or_(
                    entitlement_group.c.claimed_until.is_(None),
                    entitlement_group.c.claimed_until
                    < sa.bindparam("b_now", type_=entitlement_group.c.claimed_until.type),
                ),
            ),
        ).returning(entitlement_group.c.name)
        insert_health = database.insert(application)
        new = insert_health.excluded
        # That one process finds the application open ends no wait that it asked another one for.
        throttled = application.c.state == "throttled"
        lasts = sa.and_(new.state == "open", throttled, application.c.not_before > new.since)
        self._save_health = insert_health.on_conflict_do_update(
            index_elements=["app"],
            set_={name: new[name] for name in ("state", "reason", "since", "not_before", "next_probe")},
            where=sa.func.coalesce(sa.not_(lasts), sa.true()),
        )

    async def load(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """These accounts, desired and known side; those without a row are absent."""
        async with self._database.look() as connection:
            rows = await connection.execute(self._load, {"b_app": app, **self._database.values(person_ids)})
            return {
                row["person_id"]: (read_account(row, subject_of(row)), read_progress(row)) for row in rows.mappings()
            }

    async def holders(self, app: str, remote_ids: Sequence[str]) -> dict[str, str]:
        """Who has these accounts of the application on record, by their ids."""
        async with self._database.look() as connection:
            rows = await connection.execute(self._holders, {"b_app": app, **self._database.values(remote_ids)})
            return {row.remote_id: row.person_id for row in rows}

    async def person(self, person_id: str) -> Person | None:
        """Everything stated of a person; None for one that no event ever named."""
        async with self._database.look() as connection:
            select = sa.select(person.c.record).where(person.c.id == person_id)
            record = (await connection.execute(select)).scalar_one_or_none()
            return None if record is None else read_person(person_id, record)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["SqlConvergeTransaction"]:
        """One group commit; see `ports.ConvergeStore`."""
        async with self._database.write() as connection:
            yield SqlConvergeTransaction(connection, self._database, self)

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        """The ids of groups that are known in the application."""
        async with self._database.read() as connection:
            rows = await connection.execute(self._group_ids, {"b_app": app, **self._database.values(names)})
            return {row.name: row.remote_id for row in rows}

    async def save_group_id(self, app: str, name: str, remote_id: str | None) -> None:
        """Remember a group's id; None forgets it, because the application no longer has it."""
        async with self._database.write() as connection:
            await connection.execute(
                self._save_group, {"app": app, "name": name, "remote_id": remote_id, "claimed_until": None}
            )

    async def claim_group(self, app: str, name: str, *, now: datetime, until: datetime) -> bool:
        """Whether this process may create the group now; somebody else's claim holds until it runs out."""
        async with self._database.write() as connection:
            claimed = await connection.execute(
                self._claim_group, {"app": app, "name": name, "remote_id": None, "claimed_until": until, "b_now": now}
            )
            return claimed.first() is not None

    async def save_health(self, app: str, health: ApplicationHealth) -> None:
        """Remember how the application as a whole is doing, for operators and for the next start."""
        async with self._database.write() as connection:
            await connection.execute(
                self._save_health,
                {
                    "app": app,
                    "state": health.state,
                    "reason": health.reason,
                    "since": health.since,
                    "not_before": health.not_before,
                    "next_probe": health.next_probe,
                },
            )

    async def load_health(self, apps: Sequence[str]) -> dict[str, ApplicationHealth]:
        """What was remembered last of these applications; one of which nothing is known is absent."""
        async with self._database.read() as connection:
            rows = await connection.execute(sa.select(application).where(application.c.app.in_(apps)))
            return {row.app: read_health(row) for row in rows}


class SqlConvergeTransaction:
    """`ports.ConvergeTransaction`."""

    def __init__(self, connection: AsyncConnection, database: Database, statements: SqlConvergeStore) -> None:
        self._connection = connection
        self._database = database
        self._statements = statements

    async def lock(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Lock these accounts, in id order; returns each one's fence (version) and desired revision."""
        values = {"b_app": app, **self._database.values(sorted(person_ids))}
        rows = await self._connection.execute(self._statements.lock, values)
        return {row.person_id: (row.version, row.revision) for row in rows}

    async def save(
        self, app: str, updates: Sequence[ProgressUpdate], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Write the updates, raising each version by one; returns the id of the outbox segment.

        Whoever has not looked at `lock` and comes with an old version changes nothing.
        """
        rows = [
            {
                "b_person_id": update.person_id,
                "b_app": app,
                "b_version": update.progress.version,
                "version": update.progress.version + 1,
                "applied_revision": update.progress.applied_revision,
                "remote_id": update.progress.remote_id,
                "active": update.progress.active,
                "observed": observed(update.progress),
                "intent": update.progress.intent,
                "status": update.progress.status.value,
                "attempts": update.progress.attempts,
                "error_code": update.progress.error_code,
                "error": update.progress.error,
                "refers_to": update.progress.refers_to,
                "name_number": update.progress.number,
                "attention_at": update.attention_at,
            }
            for update in sorted(updates, key=lambda update: update.person_id)
        ]
        await self._statements.save.run(self._connection, rows)
        return await save_segment(self._connection, outbox, now)

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str | None]:
        """The ids in the application of these accounts, which `lock` has locked."""
        values = {"b_app": app, **self._database.values(person_ids)}
        rows = await self._connection.execute(self._statements.remote_ids, values)
        return {row.person_id: row.remote_id for row in rows}

    async def look_again(self, app: str, referred: Sequence[str], *, now: datetime) -> None:
        """Have those accounts looked at that are done and refer to one of `referred`, whose id is new."""
        values = {"b_app": app, "b_now": now, **self._database.values(referred)}
        await self._connection.execute(self._statements.look_again, values)
