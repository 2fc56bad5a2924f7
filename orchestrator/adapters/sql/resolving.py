"""The resolver's transaction, in bulk: a handful of statements for a batch of any size."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.bulk import bulk_insert, bulk_update, bulk_upsert
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.holding import HoldingStatements
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import desired, person_record, read_account, read_person
from orchestrator.adapters.sql.subjects import SubjectRows
from orchestrator.adapters.sql.tables import account, inbox, person, quarantined, timer
from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held, Window
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject
from orchestrator.ports import Place, ResolveChanges, Timer

SAFETY_NET = timedelta(minutes=15)
"""A command that did not arrive by then is issued again. Far longer than any healthy backlog."""

LONGEST_KEY = 1000

_STANDING = ("record", "status", "manager_id", "email", "updated_at", "policy")
_DESIRED = (
    "revision",
    "state",
    "desired",
    "since",
    "event_id",
    "correlation_id",
    "policy",
    "issued_at",
    "attention_at",
)
_DELETE_TIMER = sa.delete(timer).where(
    timer.c.person_id == sa.bindparam("b_person_id"),
    timer.c.kind == sa.bindparam("b_kind"),
    timer.c.due == sa.bindparam("b_due"),
    timer.c.fired_at.is_(None),
)


class SqlResolveStore:
    """`ports.ResolveStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        among = database.among
        self.seen = sa.select(inbox.c.key).where(among(inbox.c.key))
        self.emails = sa.select(person.c.email, person.c.id).where(among(person.c.email)).order_by(person.c.id)
        self.persons = (
            sa.select(person.c.id, person.c.record).where(among(person.c.id)).order_by(person.c.id).with_for_update()
        )
        self.accounts = sa.select(
            *(account.c[name] for name in ("person_id", "app", "name_number", *_DESIRED) if name != "attention_at")
        ).where(among(account.c.person_id))
        self.timers = sa.select(timer).where(among(timer.c.person_id), timer.c.fired_at.is_(None))
        self.managers = sa.select(person.c.id, person.c.manager_id).where(among(person.c.id))
        # One that fired before its time, by a clock that was ahead, is still to come.
        self.set_timers = bulk_upsert(
            database, timer, ("person_id", "kind", "due"), ("event_id", "rule"), cleared=("fired_at",)
        )
        self.insert_quarantined = database.insert(quarantined).on_conflict_do_nothing()
        self.insert_unseen = sa.insert(quarantined)
        self.insert_inbox = bulk_insert(database, inbox, ("key", "outcome", "received_at"))
        self.insert_persons = bulk_insert(database, person, ("id", *_STANDING))
        self.update_persons = bulk_update(database, person, ("id",), _STANDING)
        self.insert_accounts = bulk_insert(database, account, ("person_id", "app", *_DESIRED))
        self.update_accounts = bulk_update(database, account, ("person_id", "app"), _DESIRED)
        # In the order in which connectors lock them too.
        self.lock_accounts = (
            sa.select(account.c.version)
            .where(among(account.c.person_id))
            .order_by(account.c.person_id, account.c.app)
            .with_for_update()
        )
        self.values = database.values
        self.subjects = SubjectRows(database)
        self.holding = HoldingStatements(database)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["SqlResolveTransaction"]:
        """One transaction; see `ports.ResolveStore`."""
        async with self._database.write() as connection:
            yield SqlResolveTransaction(connection, self)


class SqlResolveTransaction:
    """`ports.ResolveTransaction`."""

    def __init__(self, connection: AsyncConnection, statements: SqlResolveStore) -> None:
        self._connection = connection
        self._statements = statements
        self._known: set[str] = set()
        self._known_accounts: set[tuple[str, str]] = set()
        self._unseen: set[Place] = set()

    async def seen(self, keys: Sequence[str]) -> set[str]:
        """Which of these events are in the inbox already."""
        stored = {inbox_key(key): key for key in keys}
        rows = await self._connection.execute(self._statements.seen, self._statements.values(list(stored)))
        return {stored[key] for key in rows.scalars()}

    async def quarantined(self, records: Sequence[Place]) -> Mapping[Place, bytes | None]:
        """The bytes of those of these records that are in quarantine already."""
        place = sa.tuple_(quarantined.c.topic, quarantined.c.partition, quarantined.c.offset)
        columns = (quarantined.c.topic, quarantined.c.partition, quarantined.c.offset, quarantined.c.value)
        rows = await self._connection.execute(sa.select(*columns).where(place.in_(records)))
        found = {(topic, partition, offset): value for topic, partition, offset, value in rows}
        self._unseen.update(one for one in records if one not in found)
        return found

    async def correlate_emails(self, emails: Sequence[str]) -> Mapping[str, list[str]]:
        """The persons that hold each of these e-mail addresses (lower case)."""
        found: dict[str, list[str]] = {}
        for row in await self._connection.execute(self._statements.emails, self._statements.values(emails)):
            found.setdefault(row.email, []).append(row.id)
        return found

    async def load(
        self, person_ids: Sequence[str]
    ) -> tuple[dict[str, Person], dict[str, dict[str, Account]], dict[str, list[Timer]]]:
        """Lock and load persons, their accounts by application, and their open timers."""
        ids = self._statements.values(sorted(person_ids))
        rows = await self._connection.execute(self._statements.persons, ids)
        persons = {row.id: read_person(row.id, row.record) for row in rows}
        self._known |= set(persons)
        accounts: dict[str, dict[str, Account]] = {}
        timers: dict[str, list[Timer]] = {}
        if persons:  # accounts and timers are never without their person
            for found in (await self._connection.execute(self._statements.accounts, ids)).mappings():
                accounts.setdefault(found["person_id"], {})[found["app"]] = read_account(found)
                self._known_accounts.add((found["person_id"], found["app"]))
            for row in await self._connection.execute(self._statements.timers, ids):
                due = Timer(row.person_id, row.kind, row.due, row.event_id, row.rule)
                timers.setdefault(row.person_id, []).append(due)
        return persons, accounts, timers

    async def held(self, person_ids: Sequence[str]) -> dict[tuple[str, str], Held]:
        """What the breaker holds of these persons' accounts, or an operator rejected; after `load`."""
        return await self._statements.holding.load(self._connection, person_ids)

    async def windows(self, apps: Sequence[str], *, since: datetime, now: datetime) -> dict[str, Window]:
        """What passed the breaker since then. Until the end nobody else passes anything for these applications."""
        return await self._statements.holding.windows(self._connection, apps, since=since, now=now)

    async def managers(self, person_ids: Sequence[str]) -> Mapping[str, str | None]:
        """The manager of each of these persons, as stored."""
        rows = await self._connection.execute(self._statements.managers, self._statements.values(person_ids))
        return {row.id: row.manager_id for row in rows}

    async def subjects(self, person_ids: Sequence[str]) -> dict[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        return await self._statements.subjects.of_people(self._connection, person_ids)

    async def add_subjects(self, new: Sequence[Subject], *, now: datetime) -> dict[str, Subject]:
        """Give these people their first subjects; returns those that count from now on, by person id."""
        return await self._statements.subjects.add(self._connection, new, now)

    async def save(self, changes: ResolveChanges, *, now: datetime) -> int | None:
        """Write everything in bulk; returns the id of the outbox segment, if anything is to be published."""
        execute = self._connection.execute
        await self._statements.insert_inbox.run(
            self._connection,
            [{"key": inbox_key(row.key), "outcome": row.outcome, "received_at": now} for row in changes.inbox],
        )
        await self._save_persons(changes.persons, now)
        await self._save_accounts(changes.accounts, now)
        if changes.timers_cancelled:
            await execute(
                _DELETE_TIMER,
                [{"b_person_id": t.person_id, "b_kind": t.kind, "b_due": t.due} for t in changes.timers_cancelled],
            )
        await self._statements.set_timers.run(
            self._connection,
            [
                {"person_id": t.person_id, "kind": t.kind, "due": t.due, "event_id": t.event_id, "rule": t.rule}
                for t in changes.timers_set
            ],
        )
        rows = {True: list[dict[str, Any]](), False: list[dict[str, Any]]()}
        for record in changes.quarantined:
            unseen = (record.topic, record.partition, record.offset) in self._unseen
            rows[unseen].append({name: getattr(record, name) for name in record.__slots__})
        if rows[True]:
            await execute(self._statements.insert_unseen, rows[True])
        if rows[False]:
            await execute(self._statements.insert_quarantined, rows[False])
        await self._statements.holding.save(self._connection, changes)
        return await save_segment(self._connection, changes.outbox, now)

    async def _save_persons(self, persons: Sequence[Person], now: datetime) -> None:
        rows = [
            {
                "id": one.id,
                "b_id": one.id,
                "record": person_record(one),
                "status": one.decision.status if one.decision else "unknown",
                "policy": one.decision.policy if one.decision else None,
                **_current(one),
                "updated_at": now,
            }
            for one in sorted(persons, key=lambda one: one.id)
        ]
        known = self._known
        await self._statements.insert_persons.run(self._connection, [row for row in rows if row["id"] not in known])
        await self._statements.update_persons.run(self._connection, [row for row in rows if row["id"] in known])

    async def _save_accounts(self, accounts: Sequence[Account], now: datetime) -> None:
        new, known = [], []
        for one in sorted(accounts, key=lambda one: (one.person_id, one.app)):
            row = {
                "revision": one.revision,
                "state": one.state,
                "desired": desired(one),
                "since": one.since,
                "event_id": one.event_id,
                "correlation_id": one.correlation_id,
                "policy": one.policy,
                "issued_at": now,
                "attention_at": now + SAFETY_NET,
            }
            if (one.person_id, one.app) in self._known_accounts:
                known.append({"b_person_id": one.person_id, "b_app": one.app, **row})
            else:
                new.append({"person_id": one.person_id, "app": one.app, **row})
        await self._statements.insert_accounts.run(self._connection, new)
        if known:
            ids = sorted({str(row["b_person_id"]) for row in known})
            await self._connection.execute(self._statements.lock_accounts, self._statements.values(ids))
        await self._statements.update_accounts.run(self._connection, known)


def inbox_key(key: str) -> str:
    """An event's key as it is indexed: PostgreSQL takes 2,704 bytes, an event's id may have any length."""
    whole = key.encode()
    return key if len(whole) <= LONGEST_KEY else hashlib.sha256(whole).hexdigest()


def _current(one: Person) -> dict[str, str | None]:
    """The columns that queries need beside the record."""
    attributes = one.history.at(one.decision.at) if one.decision else {}
    email = attributes.get("email")
    return {"manager_id": attributes.get("manager_id"), "email": email.lower() if email else None}
