"""The subject table: the only link between people and the audit log, and the keys of what is sealed there."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.bulk import bulk_insert
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.tables import subject
from orchestrator.domain.sealing import Subject


class SubjectRows:
    """Reads and adds subjects within somebody's transaction. One that was erased belongs to nobody: it is not found."""

    def __init__(self, database: Database) -> None:
        self._database = database
        columns = (subject.c.subject, subject.c.person_id, subject.c.key)
        self._of_people = sa.select(*columns).where(database.among(subject.c.person_id))
        self._called = sa.select(*columns).where(database.among(subject.c.subject), subject.c.person_id.is_not(None))
        self._insert = bulk_insert(database, subject, ("subject", "person_id", "key", "created_at"), unless_there=True)

    async def of_people(self, connection: AsyncConnection, person_ids: Sequence[str]) -> dict[str, Subject]:
        """The subjects of these people, by person id."""
        if not person_ids:
            return {}
        rows = await connection.execute(self._of_people, self._database.values(person_ids))
        return {row.person_id: Subject(row.subject, row.person_id, row.key) for row in rows}

    async def called(self, connection: AsyncConnection, subject_ids: Sequence[str]) -> dict[str, Subject]:
        """Those of these subjects that were not erased, by subject id."""
        if not subject_ids:
            return {}
        rows = await connection.execute(self._called, self._database.values(subject_ids))
        return {row.subject: Subject(row.subject, row.person_id, row.key) for row in rows}

    async def add(self, connection: AsyncConnection, new: Sequence[Subject], now: datetime) -> dict[str, Subject]:
        """Add people who have none; returns everybody's by person id. Whoever was there before us counts."""
        rows = [
            {"subject": one.id, "person_id": one.person_id, "key": one.key, "created_at": now}
            for one in sorted(new, key=lambda one: one.person_id or "")
        ]
        added = {one.person_id: one for one in new if one.person_id is not None}
        if await self._insert.run(connection, rows) == len(rows):
            return added
        return await self.of_people(connection, list(added))


class SqlSubjectStore:
    """`ports.SubjectStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = SubjectRows(database)

    async def of_people(self, person_ids: Sequence[str]) -> dict[str, Subject]:
        """The subjects of these people, by person id; an erased or unknown person has none."""
        async with self._database.look() as connection:
            return await self._rows.of_people(connection, person_ids)

    async def called(self, subject_ids: Sequence[str]) -> dict[str, Subject]:
        """Those of these subjects that were not erased, by subject id."""
        async with self._database.look() as connection:
            return await self._rows.called(connection, subject_ids)
