"""What the audit needs of the store, in memory: the copy of the log, and who it speaks of."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.sealing import Subject
from orchestrator.testing.tables import Tables, Transaction

AUDIT_INDEX, SUBJECT = "audit_index", "subject"


class MemoryAuditIndex:
    """`ports.AuditIndex`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def next_position(self) -> int:
        """The position after the last one that is indexed."""
        return max(await self._tables.read(AUDIT_INDEX), default=-1) + 1

    async def add(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Index entries by their positions; those that are there already stay as they are."""
        if not entries:
            return
        async with self._tables.write() as transaction:
            for position, record in entries:
                await transaction.upsert(AUDIT_INDEX, position, _unless_there(record))


class MemorySubjectStore:
    """`ports.SubjectStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def of_people(self, person_ids: Sequence[str]) -> dict[str, Subject]:
        """The subjects of these people, by person id; an erased or unknown person has none."""
        rows = await self._tables.read(SUBJECT)
        return {one: rows[one] for one in person_ids if one in rows}

    async def called(self, subject_ids: Sequence[str]) -> dict[str, Subject]:
        """Those of these subjects that were not erased, by subject id."""
        rows = await self._tables.read(SUBJECT)
        return {one.id: one for one in rows.values() if one.id in subject_ids}


class NamesPeople:
    """The part of a transaction that says how the log calls people."""

    _transaction: Transaction

    async def subjects(self, person_ids: Sequence[str]) -> dict[str, Subject]:
        """How the audit log calls these people; whoever is not known there is absent."""
        await self._transaction.statement()
        found = {one: self._transaction.get(SUBJECT, one) for one in person_ids}
        return {person_id: row for person_id, row in found.items() if row is not None}

    async def add_subjects(self, new: Sequence[Subject], *, now: datetime) -> dict[str, Subject]:
        """Give these people their first subjects; returns those that count from now on, by person id."""
        await self._transaction.statement()
        for one in sorted(new, key=lambda one: one.person_id or ""):
            await self._transaction.upsert(SUBJECT, one.person_id, _unless_there(one))
        return await self.subjects([one.person_id for one in new if one.person_id is not None])


def _unless_there(row: Any) -> Callable[[Any], Any]:
    return lambda known: row if known is None else None
