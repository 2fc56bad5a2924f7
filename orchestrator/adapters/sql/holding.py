"""The breaker's tables: what is held, and what passed. The resolver and operators write them, each in a transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import held_row, read_account, read_held, subject_of
from orchestrator.adapters.sql.tables import account, breaker, breaker_count, held, person, subject, timer
from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held, Window
from orchestrator.ports import ResolveChanges, Timer
from schemas.envelope import Message

COUNT_AGAIN = timedelta(minutes=1)
"""How old the count of an application's accounts may be: a share of it needs no better."""

_UNDECIDED = held.c.rejected_at.is_(None)
_COUNTS = sa.select(held.c.app, sa.func.count()).where(_UNDECIDED).group_by(held.c.app)


class HoldingStatements:
    """What the resolver's transaction does with the breaker's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._load = sa.select(held).where(database.among(held.c.person_id))
        insert = database.insert(held)
        columns = [column.name for column in held.columns if not column.primary_key]
        self._save = insert.on_conflict_do_update(
            index_elements=["person_id", "app"], set_={name: insert.excluded[name] for name in columns}
        )
        self._delete = sa.delete(held).where(
            held.c.person_id == sa.bindparam("b_person_id"), held.c.app == sa.bindparam("b_app")
        )
        self._begin = database.insert(breaker).on_conflict_do_nothing()
        self._lock = sa.select(breaker).where(database.among(breaker.c.app)).order_by(breaker.c.app).with_for_update()
        self._passed = (
            sa.select(breaker_count.c.app, breaker_count.c.source, sa.func.sum(breaker_count.c.passed))
            .where(
                database.among(breaker_count.c.app),
                breaker_count.c.bucket >= sa.bindparam("b_since", type_=breaker_count.c.bucket.type),
            )
            .group_by(breaker_count.c.app, breaker_count.c.source)
        )
        self._population = (
            sa.select(account.c.app, sa.func.count())
            .where(database.among(account.c.app), account.c.state == "active")
            .group_by(account.c.app)
        )
        self._counted = (
            sa.update(breaker)
            .where(breaker.c.app == sa.bindparam("b_app"))
            .values(population=sa.bindparam("b_population"), counted_at=sa.bindparam("b_now"))
        )
        self._forget = sa.delete(breaker_count).where(
            database.among(breaker_count.c.app),
            breaker_count.c.bucket < sa.bindparam("b_since", type_=breaker_count.c.bucket.type),
        )
        self._tripped = (
            sa.update(breaker).where(breaker.c.app == sa.bindparam("b_app")).values(tripped_at=sa.bindparam("b_now"))
        )
        count = database.insert(breaker_count)
        self._count = count.on_conflict_do_update(
            index_elements=["app", "source", "bucket"],
            set_={"passed": breaker_count.c.passed + count.excluded.passed},
        )

    async def load(self, connection: AsyncConnection, person_ids: Sequence[str]) -> dict[tuple[str, str], Held]:
        """What is held of these persons' accounts, or was rejected."""
        rows = await connection.execute(self._load, self._database.values(sorted(person_ids)))
        return {(row["person_id"], row["app"]): read_held(row) for row in rows.mappings()}

    async def windows(
        self, connection: AsyncConnection, apps: Sequence[str], *, since: datetime, now: datetime
    ) -> dict[str, Window]:
        """What passed since then. The rows of the applications stay locked, in the order of their names."""
        among = self._database.values(sorted(apps))
        never = now - 2 * COUNT_AGAIN
        await connection.execute(
            self._begin, [{"app": app, "population": 0, "counted_at": never} for app in sorted(apps)]
        )
        rows = {row.app: row for row in await connection.execute(self._lock, among)}
        await connection.execute(self._forget, {"b_since": since, **among})
        stale = [app for app, row in rows.items() if not now - COUNT_AGAIN < row.counted_at <= now]
        counted: dict[str, int] = {}
        if stale:
            found = await connection.execute(self._population, self._database.values(stale))
            counted = dict.fromkeys(stale, 0) | {row[0]: row[1] for row in found}
            await connection.execute(
                self._counted, [{"b_app": app, "b_population": number, "b_now": now} for app, number in counted.items()]
            )
        windows = {app: Window(counted.get(app, row.population), {}, row.tripped_at) for app, row in rows.items()}
        for app, source, passed in await connection.execute(self._passed, {"b_since": since, **among}):
            windows[app].passed[source] = int(passed)
        return windows

    async def save(self, connection: AsyncConnection, changes: ResolveChanges) -> None:
        """Write what a batch holds, lets go of, and let pass."""
        execute = connection.execute
        if changes.held:
            await execute(self._save, [held_row(one) for one in changes.held])
        if changes.unheld:
            await execute(self._delete, [{"b_person_id": who, "b_app": app} for who, app in changes.unheld])
        if changes.passed:
            await execute(
                self._count,
                [
                    {"app": one.app, "source": one.source, "bucket": one.bucket, "passed": one.number}
                    for one in changes.passed
                ],
            )
        if changes.tripped:
            await execute(self._tripped, [{"b_app": app, "b_now": at} for app, at in changes.tripped.items()])


async def counts_of_held(connection: AsyncConnection) -> Mapping[str, int]:
    """By application: what is held and nobody has decided yet."""
    return {row[0]: row[1] for row in await connection.execute(_COUNTS)}


async def select_held(
    connection: AsyncConnection, *, app: str | None, source: str | None, person_id: str | None, rejected: bool
) -> list[Held]:
    """What is held, or was rejected; what waits longest first."""
    select = sa.select(held).where(held.c.rejected_at.is_not(None) if rejected else _UNDECIDED)
    for column, wanted in ((held.c.app, app), (held.c.source, source), (held.c.person_id, person_id)):
        if wanted is not None:
            select = select.where(column == wanted)
    select = select.order_by(held.c.held_at, held.c.app, held.c.person_id)
    return [read_held(row) for row in (await connection.execute(select)).mappings()]


class SqlHoldTransaction:
    """`ports.HoldTransaction`."""

    def __init__(self, connection: AsyncConnection, database: Database) -> None:
        self._connection = connection
        self._database = database

    async def take(self, app: str, person_ids: Sequence[str]) -> list[Held]:
        """Lock those persons, and return what is held of their accounts still, or was rejected, in id order."""
        among, values = self._database.among, self._database.values(sorted(person_ids))
        # As the resolver does: whoever has the person decides about the account.
        lock = sa.select(person.c.id).where(among(person.c.id)).order_by(person.c.id).with_for_update()
        await self._connection.execute(lock, values)
        select = (
            sa.select(held, subject.c.subject, subject.c.key)
            .select_from(held.outerjoin(subject, subject.c.person_id == held.c.person_id))
            .where(held.c.app == app, among(held.c.person_id))
            .order_by(held.c.person_id)
        )
        rows = await self._connection.execute(select, values)
        return [read_held(row, subject_of(row)) for row in rows.mappings()]

    async def issued(self, app: str, person_ids: Sequence[str]) -> dict[str, Account]:
        """Their accounts as they were issued last, by person."""
        select = sa.select(account).where(account.c.app == app, self._database.among(account.c.person_id))
        rows = await self._connection.execute(select, self._database.values(sorted(person_ids)))
        return {row["person_id"]: read_account(row) for row in rows.mappings()}

    async def released(
        self, held_: Sequence[Held], timers: Sequence[Timer], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make the accounts what was held, due for the relay; returns the outbox segment."""
        if held_:
            await self._connection.execute(
                sa.update(account)
                .where(account.c.person_id == sa.bindparam("b_person_id"), account.c.app == sa.bindparam("b_app"))
                .values(
                    **{name: sa.bindparam(name) for name in _DECIDED},
                    issued_at=sa.bindparam("b_now", type_=account.c.issued_at.type),
                    attention_at=sa.bindparam("b_now", type_=account.c.attention_at.type),
                ),
                [_decided(one, now) for one in sorted(held_, key=lambda one: one.key)],
            )
            await self._connection.execute(
                sa.delete(held).where(
                    held.c.person_id == sa.bindparam("b_person_id"), held.c.app == sa.bindparam("b_app")
                ),
                [{"b_person_id": who, "b_app": app} for who, app in (one.key for one in held_)],
            )
        if timers:
            insert = self._database.insert(timer)
            await self._connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["person_id", "kind", "due"],
                    set_={
                        "event_id": insert.excluded.event_id,
                        "rule": insert.excluded.rule,
                        "fired_at": None,
                    },
                ),
                [one._asdict() for one in timers],
            )
        return await save_segment(self._connection, outbox, now)

    async def rejected(self, held_: Sequence[Held], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Leave the accounts as they are, and remember that; returns the outbox segment."""
        if held_:
            await self._connection.execute(
                sa.update(held)
                .where(held.c.person_id == sa.bindparam("b_person_id"), held.c.app == sa.bindparam("b_app"))
                .values(rejected_at=sa.bindparam("b_now", type_=held.c.rejected_at.type)),
                [{"b_person_id": who, "b_app": app, "b_now": now} for who, app in (one.key for one in held_)],
            )
        return await save_segment(self._connection, outbox, now)


_DECIDED = ("revision", "state", "desired", "since", "event_id", "correlation_id", "policy")


def _decided(one: Held, now: datetime) -> dict[str, Any]:
    row = held_row(one)
    return {
        "b_person_id": one.account.person_id,
        "b_app": one.account.app,
        **{name: row[name] for name in _DECIDED},
        "b_now": now,
    }
