"""The searchable copy of the audit log, in memory."""

from collections.abc import Callable, Sequence

from orchestrator.testing.tables import Tables

AUDIT_INDEX = "audit_index"


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


def _unless_there(record: bytes) -> Callable[[bytes | None], bytes | None]:
    return lambda known: record if known is None else None
