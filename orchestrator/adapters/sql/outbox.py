"""The outbox: the messages of a transaction, kept until the broker has confirmed them. One row per transaction."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.records import read_segment, segment
from orchestrator.adapters.sql.tables import outbox
from schemas.envelope import Message

_INSERT = sa.insert(outbox).returning(outbox.c.id)
_DELETE = sa.delete(outbox).where(outbox.c.id == sa.bindparam("segment"))
_LEFTOVER = (
    sa.select(outbox.c.id, outbox.c.messages)
    .where(outbox.c.created_at < sa.bindparam("older_than"))
    .order_by(outbox.c.id)
    .limit(sa.bindparam("most"))
)


async def save_segment(connection: AsyncConnection, messages: Sequence[Message], now: datetime) -> int | None:
    """Save messages within the transaction of the change they belong to."""
    if not messages:
        return None
    row = {"messages": segment(messages), "created_at": now}
    return int((await connection.execute(_INSERT, row)).scalar_one())


class SqlOutbox:
    """`ports.OutboxStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def published(self, segments: Sequence[int]) -> None:
        """Forget these segments."""
        if not segments:
            return
        async with self._database.write() as connection:
            await connection.execute(_DELETE, [{"segment": one} for one in segments])

    async def leftover(self, *, older_than: datetime, limit: int) -> list[tuple[int, list[Message]]]:
        """Segments that nobody published for a while, oldest first."""
        async with self._database.read() as connection:
            rows = await connection.execute(_LEFTOVER, {"older_than": older_than, "most": limit})
            return [(row.id, read_segment(row.messages)) for row in rows]
