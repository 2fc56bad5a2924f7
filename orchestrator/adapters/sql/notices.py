"""Deliveries of notices: a row for each receiver, from the topic until it was taken."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import read_person
from orchestrator.adapters.sql.subjects import SubjectRows
from orchestrator.adapters.sql.tables import OPEN_END, account, notice_delivery, person, quarantined, timer
from orchestrator.domain.notices import NOBODY
from orchestrator.domain.person import TIME_ZONE, Person
from orchestrator.domain.sealing import Subject
from orchestrator.ports import Quarantined
from orchestrator.ports.noticing import Contact, Delivery, DeliveryView, Issued, Settled
from schemas.envelope import Message
from schemas.notices import Notice

_next_at = notice_delivery.c.next_attempt_at
_DUE = (
    _next_at.is_not(None),
    notice_delivery.c.channel == sa.bindparam("b_channel"),
    _next_at <= sa.bindparam("b_now", type_=_next_at.type),
)
_ANY = sa.select(notice_delivery.c.notice_id).where(*_DUE).limit(1)
_CLAIM = (
    sa.select(notice_delivery)
    .where(*_DUE)
    .order_by(_next_at)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
_THIS = (
    notice_delivery.c.notice_id == sa.bindparam("b_key"),
    notice_delivery.c.receiver == sa.bindparam("b_receiver"),
)
_CLAIMED = (
    sa.update(notice_delivery)
    .where(*_THIS)
    .values(attempts=notice_delivery.c.attempts + 1, next_attempt_at=sa.bindparam("b_until", type_=_next_at.type))
)
_SETTLED = (
    sa.update(notice_delivery)
    .where(*_THIS, notice_delivery.c.attempts == sa.bindparam("b_attempt"), notice_delivery.c.status == "waiting")
    .values(
        status=sa.bindparam("b_status"),
        next_attempt_at=sa.bindparam("b_next", type_=_next_at.type),
        delivered_at=sa.bindparam("b_delivered", type_=_next_at.type),
        error_code=sa.bindparam("b_code"),
        error=sa.bindparam("b_error", type_=notice_delivery.c.error.type),
    )
)
_AGAIN = (
    sa.update(notice_delivery)
    .where(*_THIS, notice_delivery.c.status == "parked")
    .values(status="waiting", attempts=0, next_attempt_at=sa.bindparam("b_now", type_=_next_at.type))
)


class SqlNoticeStore:
    """`ports.noticing.NoticeStore` and `ports.noticing.NoticeDesk`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.subjects = SubjectRows(database)
        self._insert = database.insert(notice_delivery).on_conflict_do_nothing()
        self._quarantine = database.insert(quarantined).on_conflict_do_nothing()
        self._timers = sa.select(timer.c.person_id, timer.c.due).where(database.among(timer.c.person_id))
        self._open = sa.select(account.c.person_id, account.c.app, account.c.since).where(
            database.among(account.c.person_id), OPEN_END
        )
        self._people = sa.select(person.c.id, person.c.record).where(database.among(person.c.id))
        self.lock_parked = (
            sa.select(notice_delivery)
            .where(database.among(notice_delivery.c.notice_id), notice_delivery.c.status == "parked")
            .order_by(notice_delivery.c.notice_id, notice_delivery.c.receiver)
            .with_for_update()
        )

    async def accept(self, issued: Sequence[Issued], quarantined: Sequence[Quarantined], *, now: datetime) -> None:
        """Remember them, each once for each receiver; one that is known stays as it is."""
        rows = [
            {
                "notice_id": one.key,
                "receiver": receiver.name,
                "channel": receiver.channel,
                "person_id": one.notice.person_id,
                "notice": one.notice.model_dump_json(),
                "issued_at": one.at,
                # With nobody to tell it is done: the notice stays on its topic for whoever reads that.
                "status": "delivered" if receiver.channel == NOBODY else "waiting",
                "next_attempt_at": None if receiver.channel == NOBODY else now,
                "delivered_at": now if receiver.channel == NOBODY else None,
            }
            for one in issued
            for receiver in one.receivers
        ]
        async with self._database.write() as connection:
            if rows:
                await connection.execute(self._insert, rows)
            if quarantined:
                await connection.execute(self._quarantine, [_columns(one) for one in quarantined])

    async def claim(self, channel: str, *, now: datetime, until: datetime, limit: int) -> list[Delivery]:
        """Up to `limit` deliveries whose time has come, oldest first. Nobody else gets them before `until`."""
        values = {"b_channel": channel, "b_now": now, "most": limit}
        async with self._database.look() as connection:  # most often there is nothing, and nobody has to wait for it
            if (await connection.execute(_ANY, values)).first() is None:
                return []
        async with self._database.write() as connection:
            rows = (await connection.execute(_CLAIM, values)).mappings().all()
            if rows:
                keys = [{"b_key": r["notice_id"], "b_receiver": r["receiver"], "b_until": until} for r in rows]
                await connection.execute(_CLAIMED, keys)
        return [_delivery(row) for row in rows]

    async def outdated(self, deliveries: Sequence[Delivery]) -> set[str]:
        """The keys of those whose end no longer stands: moved, taken back, or enforced meanwhile.

        An end that stands has a timer at its instant, fired or not; one that moved has none there.
        """
        ids = sorted({one.notice.person_id for one in deliveries})
        async with self._database.read() as connection:
            values = self._database.values(ids)
            ends = {(row.person_id, row.due) for row in await connection.execute(self._timers, values)}
            late = {(row.person_id, row.app, row.since) for row in await connection.execute(self._open, values)}

        def stands(notice: Notice) -> bool:
            if notice.kind == "access_overdue":
                return (notice.person_id, notice.app, notice.due) in late
            return (notice.person_id, notice.due) in ends

        return {one.key for one in deliveries if not stands(one.notice)}

    async def contacts(self, person_ids: Sequence[str], *, now: datetime) -> Mapping[str, Contact]:
        """These people, as far as they are known."""
        async with self._database.read() as connection:
            rows = await connection.execute(self._people, self._database.values(sorted(set(person_ids))))
            return {row.id: _contact(read_person(row.id, row.record), now) for row in rows}

    async def settle(self, settled: Sequence[Settled]) -> None:
        """Save how attempts ended, unless a later attempt has begun meanwhile."""
        if not settled:
            return
        rows = [
            {
                "b_key": one.delivery.key,
                "b_receiver": one.delivery.receiver,
                "b_attempt": one.delivery.attempt,
                "b_status": one.status,
                "b_next": one.next_attempt_at,
                "b_delivered": one.at if one.status == "delivered" else None,
                "b_code": one.error_code,
                "b_error": one.error,
            }
            for one in sorted(settled, key=lambda one: one.delivery[:2])
        ]
        async with self._database.write() as connection:
            await connection.execute(_SETTLED, rows)

    async def listed(self, *, statuses: Sequence[str], limit: int) -> list[DeliveryView]:
        """The latest deliveries with these statuses, newest first."""
        select = (
            sa.select(notice_delivery)
            .where(notice_delivery.c.status.in_(statuses))
            .order_by(notice_delivery.c.issued_at.desc(), notice_delivery.c.notice_id, notice_delivery.c.receiver)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [_view(row) for row in (await connection.execute(select)).mappings()]

    @asynccontextmanager
    async def retry(self) -> AsyncIterator["SqlNoticeRetry"]:
        """One decision about parked notices; see `ports.noticing.NoticeDesk`."""
        async with self._database.write() as connection:
            yield SqlNoticeRetry(connection, self._database, self)


class SqlNoticeRetry:
    """`ports.noticing.NoticeRetry`."""

    def __init__(self, connection: AsyncConnection, database: Database, statements: SqlNoticeStore) -> None:
        self._connection = connection
        self._database = database
        self._statements = statements

    async def take(self, keys: Sequence[str]) -> list[DeliveryView]:
        """Lock those deliveries of these notices that are parked still."""
        rows = await self._connection.execute(self._statements.lock_parked, self._database.values(keys))
        return [_view(row) for row in rows.mappings()]

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        return await self._statements.subjects.of_people(self._connection, person_ids)

    async def retried(self, taken: Sequence[DeliveryView], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Have them delivered at once; returns the outbox segment."""
        if taken:
            rows = [{"b_key": one.key, "b_receiver": one.receiver, "b_now": now} for one in taken]
            await self._connection.execute(_AGAIN, rows)
        return await save_segment(self._connection, outbox, now)


def _columns(record: Quarantined) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Quarantined.__slots__}


def _contact(found: Person, now: datetime) -> Contact:
    attributes = found.history.at(now)
    names = (attributes.get("given_name"), attributes.get("family_name"))
    name = attributes.get("display_name") or " ".join(one for one in names if one)
    return Contact(found.id, name or found.id, attributes.get("email") or None, attributes.get(TIME_ZONE))


def _delivery(row: RowMapping) -> Delivery:
    notice = Notice.model_validate_json(row["notice"])
    return Delivery(row["notice_id"], row["receiver"], notice, row["issued_at"], row["attempts"] + 1)


def _view(row: RowMapping) -> DeliveryView:
    notice = Notice.model_validate_json(row["notice"])
    return DeliveryView(
        key=row["notice_id"],
        receiver=row["receiver"],
        kind=notice.kind,
        person_id=notice.person_id,
        due=notice.due,
        app=notice.app,
        status=row["status"],
        attempts=row["attempts"],
        issued_at=row["issued_at"],
        next_attempt_at=row["next_attempt_at"],
        delivered_at=row["delivered_at"],
        error_code=row["error_code"],
        error=row["error"],
    )
