"""The searchable copy of the audit log. The log itself is the evidence; this is how a person's timeline is found."""

from collections.abc import Sequence
from datetime import datetime

import orjson
import sqlalchemy as sa

from orchestrator.adapters.sql.bulk import bulk_insert
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.tables import audit_index


class SqlAuditIndex:
    """`ports.AuditIndex`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        columns = ("position", "subject", "app", "kind", "at", "entry")
        self._insert = bulk_insert(database, audit_index, columns, unless_there=True)

    async def next_position(self) -> int:
        """The position after the last one that is indexed."""
        async with self._database.read() as connection:
            last = (await connection.execute(sa.select(sa.func.max(audit_index.c.position)))).scalar_one_or_none()
            return 0 if last is None else int(last) + 1

    async def add(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Index entries by their positions; those that are there already stay as they are."""
        rows = []
        for position, record in entries:
            entry = orjson.loads(record)
            rows.append(
                {
                    "position": position,
                    "subject": entry.get("subject"),
                    "app": entry.get("app"),
                    "kind": entry["kind"],
                    "at": datetime.fromisoformat(entry["at"]),
                    "entry": record.decode(),
                }
            )
        if rows:
            async with self._database.write() as connection:
                await self._insert.run(connection, rows)
