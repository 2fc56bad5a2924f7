"""What is due, and what became of a statement: read for operators."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.records import read_account, read_person, read_progress
from orchestrator.adapters.sql.subjects import SubjectRows
from orchestrator.adapters.sql.tables import account, inbox, person, timer
from orchestrator.domain.account import Account
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject
from orchestrator.ports import AccountView, Timer
from orchestrator.ports.noticing import TimerView

_ORDER = (timer.c.due, timer.c.person_id, timer.c.kind)


class SqlComing:
    """`ports.noticing.ComingStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subjects = SubjectRows(database)
        self._people = sa.select(person.c.id, person.c.record).where(database.among(person.c.id))
        self._accounts = sa.select(account).where(database.among(account.c.person_id))

    async def due(self, *, until: datetime, after: Timer | None, limit: int) -> list[Timer]:
        """Up to `limit` open timers that are due by `until`, in order, the ones behind `after`."""
        select = sa.select(timer).where(timer.c.fired_at.is_(None), timer.c.due <= until).order_by(*_ORDER).limit(limit)
        if after is not None:
            later = sa.tuple_(*_ORDER) > sa.tuple_(
                *(sa.literal(value, column.type) for column, value in zip(_ORDER, _place(after), strict=True))
            )
            select = select.where(later)
        async with self._database.look() as connection:
            rows = await connection.execute(select)
            return [Timer(row.person_id, row.kind, row.due, row.event_id, row.rule) for row in rows]

    async def people(self, person_ids: Sequence[str]) -> dict[str, tuple[Person, dict[str, Account]]]:
        """These persons with their accounts by application."""
        ids = self._database.values(sorted(set(person_ids)))
        async with self._database.read() as connection:
            found: dict[str, tuple[Person, dict[str, Account]]] = {
                row.id: (read_person(row.id, row.record), {}) for row in await connection.execute(self._people, ids)
            }
            for row in (await connection.execute(self._accounts, ids)).mappings():
                if row["person_id"] in found:
                    found[row["person_id"]][1][row["app"]] = read_account(row)
        return found

    async def subjects(self, person_ids: Sequence[str]) -> Mapping[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        async with self._database.look() as connection:
            return await self._subjects.of_people(connection, person_ids)

    async def accounts(self, person_id: str) -> list[AccountView]:
        """Both sides of one person's accounts."""
        select = sa.select(account).where(account.c.person_id == person_id).order_by(account.c.app)
        async with self._database.look() as connection:
            rows = (await connection.execute(select)).mappings()
            return [AccountView(read_account(row), read_progress(row), row["attention_at"]) for row in rows]

    async def timers(self, person_id: str) -> list[TimerView]:
        """One person's timers, fired ones too, in order."""
        select = sa.select(timer).where(timer.c.person_id == person_id).order_by(*_ORDER)
        async with self._database.look() as connection:
            return [
                TimerView(Timer(row.person_id, row.kind, row.due, row.event_id, row.rule), row.fired_at)
                for row in await connection.execute(select)
            ]

    async def outcome(self, event_id: str) -> str | None:
        """The terminal state that an event (source#id) reached; None while it is on its way."""
        async with self._database.look() as connection:
            select = sa.select(inbox.c.outcome).where(inbox.c.key == event_id)
            return (await connection.execute(select)).scalar_one_or_none()


def _place(one: Timer) -> tuple[datetime, str, str]:
    return one.due, one.person_id, one.kind
