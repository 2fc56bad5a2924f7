"""The operator's store: read models over the tables of the other stores, and the retry of parked accounts.

Every method reads in one transaction, so that its numbers belong together.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.holding import SqlHoldTransaction, counts_of_held, select_held
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import read_account, read_health, read_observed, read_person, read_progress
from orchestrator.adapters.sql.subjects import SubjectRows
from orchestrator.adapters.sql.tables import account, application, audit_index, outbox, person, quarantined, timer
from orchestrator.domain.breaker import Held
from orchestrator.domain.sealing import Subject, Unreadable, unseal
from orchestrator.ports import (
    AccountView,
    OperatorStop,
    ParkedAccount,
    PersonView,
    Quarantined,
    QuarantineSummary,
    StoreStatus,
    TimelineEntry,
    Timer,
)
from schemas.envelope import Message

_PARKED = account.c.status == "parked"
_LEAVER = account.c.state.in_(("inactive", "absent"))
_OPEN = timer.c.fired_at.is_(None)
_PARKED_COLUMNS = (
    "person_id",
    "app",
    "state",
    "since",
    "revision",
    "applied_revision",
    "attempts",
    "error_code",
    "error",
    "event_id",
    "correlation_id",
    "policy",
    "observed",
    "version",
)
_SELECT_PARKED = sa.select(*(account.c[name] for name in _PARKED_COLUMNS)).where(_PARKED)

_PERSONS = sa.select(person.c.status, sa.func.count()).group_by(person.c.status)
_ACCOUNTS = sa.select(account.c.app, account.c.status, sa.func.count()).group_by(account.c.app, account.c.status)
_PARKED_LEAVERS = sa.select(account.c.app, sa.func.count()).where(_PARKED, _LEAVER).group_by(account.c.app)
_TIMERS = sa.select(sa.func.count(), sa.func.min(timer.c.due)).where(_OPEN)
_OUTBOX = sa.select(sa.func.count(), sa.func.min(outbox.c.created_at))
_QUARANTINED = sa.select(sa.func.count()).select_from(quarantined)


class SqlOperatorStore:
    """`ports.OperatorStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.subjects = SubjectRows(database)
        of_app = account.c.app == sa.bindparam("b_app")
        self.lock_parked = (
            _SELECT_PARKED.where(of_app, database.among(account.c.person_id))
            .order_by(account.c.person_id)
            .with_for_update()
        )
        # The version rises because the row changes: a connector that started from the old one loses its race, and
        # looks at the account again.
        self.retried = (
            sa.update(account)
            .where(of_app, database.among(account.c.person_id), _PARKED)
            .values(
                status="pending",
                attempts=0,
                attention_at=sa.bindparam("b_now", type_=account.c.attention_at.type),
                version=account.c.version + 1,
            )
        )

    async def status(self) -> StoreStatus:
        """The whole store in one look."""
        async with self._database.read() as connection:
            accounts: dict[str, dict[str, int]] = {}
            for app, status, count in await connection.execute(_ACCOUNTS):
                accounts.setdefault(app, {})[status] = count
            open_timers, next_due = (await connection.execute(_TIMERS)).one()
            segments, oldest = (await connection.execute(_OUTBOX)).one()
            return StoreStatus(
                persons=await _counts(connection, _PERSONS),
                accounts=accounts,
                parked_leavers=await _counts(connection, _PARKED_LEAVERS),
                open_timers=open_timers,
                next_due=next_due,
                outbox_segments=segments,
                outbox_oldest=oldest,
                quarantined=(await connection.execute(_QUARANTINED)).scalar_one(),
                health={row.app: read_health(row) for row in await connection.execute(sa.select(application))},
                held=await counts_of_held(connection),
            )

    async def person(self, person_id: str) -> PersonView | None:
        """One person with everything about it; None for an id that no event ever named."""
        async with self._database.read() as connection:
            select = sa.select(person.c.record).where(person.c.id == person_id)
            record = (await connection.execute(select)).scalar_one_or_none()
            if record is None:
                return None
            known_as = (await self.subjects.of_people(connection, [person_id])).get(person_id)
            return PersonView(
                person=read_person(person_id, record),
                accounts=await _accounts(connection, person_id),
                timers=await _timers(connection, person_id),
                timeline=await _timeline(connection, known_as) if known_as else [],
                subject=known_as.id if known_as else None,
            )

    async def parked(self, *, app: str | None = None, person_id: str | None = None) -> list[ParkedAccount]:
        """Parked accounts, leavers first, then those that wait longest."""
        select = _SELECT_PARKED.order_by(sa.case((_LEAVER, 0), else_=1), account.c.since, account.c.person_id)
        if app is not None:
            select = select.where(account.c.app == app)
        if person_id is not None:
            select = select.where(account.c.person_id == person_id)
        async with self._database.read() as connection:
            return [_parked(row) for row in (await connection.execute(select)).mappings()]

    async def quarantined(self, *, limit: int) -> list[QuarantineSummary]:
        """The latest quarantined records, newest first."""
        size = sa.func.coalesce(sa.func.length(quarantined.c.value), 0).label("bytes")
        columns = [quarantined.c[name] for name in QuarantineSummary.__slots__ if name != "bytes"]
        select = (
            sa.select(*columns, size)
            .order_by(
                quarantined.c.received_at.desc(), quarantined.c.topic, quarantined.c.partition, quarantined.c.offset
            )
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [QuarantineSummary(**row) for row in (await connection.execute(select)).mappings()]

    async def quarantined_record(self, topic: str, partition: int, offset: int) -> Quarantined | None:
        """One quarantined record with its bytes."""
        select = sa.select(quarantined).where(
            quarantined.c.topic == topic, quarantined.c.partition == partition, quarantined.c.offset == offset
        )
        async with self._database.read() as connection:
            row = (await connection.execute(select)).mappings().one_or_none()
            return Quarantined(**row) if row is not None else None

    async def held(
        self, *, app: str | None = None, source: str | None = None, person_id: str | None = None, rejected: bool = False
    ) -> list[Held]:
        """What the breaker holds, or with `rejected` what operators rejected; what waits longest first."""
        async with self._database.read() as connection:
            return await select_held(connection, app=app, source=source, person_id=person_id, rejected=rejected)

    @asynccontextmanager
    async def holds(self) -> AsyncIterator["SqlHoldTransaction"]:
        """One decision about what is held; see `ports.OperatorStore`."""
        async with self._database.write() as connection:
            yield SqlHoldTransaction(connection, self._database)

    async def stop_application(
        self, app: str, stop: OperatorStop | None, outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Let no call go out to an application any more, or (None) let them go again; returns the outbox segment."""
        values = {
            "stopped_by": stop.by if stop else None,
            "stop_reason": stop.reason if stop else None,
            "stopped_at": stop.since if stop else None,
        }
        async with self._database.write() as connection:
            insert = self._database.insert(application).values(app=app, state="open", reason="", **values)
            await connection.execute(insert.on_conflict_do_update(index_elements=["app"], set_=values))
            return await save_segment(connection, outbox, now)

    @asynccontextmanager
    async def retry(self) -> AsyncIterator["SqlRetryTransaction"]:
        """One decision about parked accounts; see `ports.OperatorStore`."""
        async with self._database.write() as connection:
            yield SqlRetryTransaction(connection, self._database, self)


class SqlRetryTransaction:
    """`ports.RetryTransaction`."""

    def __init__(self, connection: AsyncConnection, database: Database, statements: SqlOperatorStore) -> None:
        self._connection = connection
        self._database = database
        self._statements = statements

    async def subjects(self, person_ids: Sequence[str]) -> dict[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        return await self._statements.subjects.of_people(self._connection, person_ids)

    async def take(self, app: str, person_ids: Sequence[str]) -> list[ParkedAccount]:
        """Lock those of these accounts that are parked still, in id order."""
        values = {"b_app": app, **self._database.values(person_ids)}
        rows = await self._connection.execute(self._statements.lock_parked, values)
        return [_parked(row) for row in rows.mappings()]

    async def retried(
        self, app: str, person_ids: Sequence[str], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make them pending, with a fresh count of attempts and due for the relay; returns the outbox segment."""
        values = {"b_app": app, "b_now": now, **self._database.values(person_ids)}
        await self._connection.execute(self._statements.retried, values)
        return await save_segment(self._connection, outbox, now)


async def _counts(connection: AsyncConnection, select: sa.Select[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in await connection.execute(select)}


async def _accounts(connection: AsyncConnection, person_id: str) -> list[AccountView]:
    select = sa.select(account).where(account.c.person_id == person_id).order_by(account.c.app)
    rows = (await connection.execute(select)).mappings()
    return [AccountView(read_account(row), read_progress(row), row["attention_at"]) for row in rows]


async def _timers(connection: AsyncConnection, person_id: str) -> list[Timer]:
    select = sa.select(timer).where(timer.c.person_id == person_id, _OPEN).order_by(timer.c.due, timer.c.kind)
    rows = await connection.execute(select)
    return [Timer(row.person_id, row.kind, row.due, row.event_id, row.rule) for row in rows]


async def _timeline(connection: AsyncConnection, known_as: Subject) -> list[TimelineEntry]:
    select = sa.select(audit_index).where(audit_index.c.subject == known_as.id).order_by(audit_index.c.position)
    return [_timeline_entry(row, known_as) for row in (await connection.execute(select)).mappings()]


def _timeline_entry(row: RowMapping, known_as: Subject) -> TimelineEntry:
    entry: Mapping[str, Any] = orjson.loads(row["entry"])
    return TimelineEntry(
        position=row["position"],
        at=row["at"],
        kind=row["kind"],
        app=row["app"],
        revision=entry.get("revision"),
        details=entry.get("details") or {},
        values=_values(entry, known_as),
        event_id=entry.get("event_id"),
    )


def _values(entry: Mapping[str, Any], known_as: Subject) -> Mapping[str, Any]:
    """What is sealed in an entry. One that does not open is for `jml audit verify`, and stops nobody from reading."""
    if known_as.key is None or not entry.get("sealed"):
        return {}
    try:
        return unseal(known_as.key, entry["id"], entry["sealed"])
    except Unreadable:
        return {}


def _parked(row: RowMapping) -> ParkedAccount:
    values = dict(row)
    candidates = read_observed(values.pop("observed"))["candidates"]
    return ParkedAccount(**values, candidates=candidates)
