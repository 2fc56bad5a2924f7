"""How much work is left: for the demo, the benchmark and the tests, which wait for the pipeline to come to rest."""

from datetime import datetime

import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.tables import account, inbox, outbox, timer

_NOT_PARKED = account.c.status != "parked"
_UNDONE = sa.or_(account.c.revision > account.c.applied_revision, account.c.intent.is_not(None))


def _count(table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*where).scalar_subquery()


class SqlSettling:
    """Counts what is done and what is not."""

    def __init__(self, database: Database) -> None:
        self._database = database
        due = timer.c.due <= sa.bindparam("now", type_=timer.c.due.type)
        self._left = sa.select(
            _count(inbox).label("settled"),
            _count(timer, timer.c.fired_at.is_not(None)).label("fired"),
            _count(timer, timer.c.fired_at.is_(None), due).label("due"),
            _count(outbox).label("unsent"),
            _count(account, _NOT_PARKED, _UNDONE).label("undone"),
        )

    async def settled(self) -> int:
        """Events that have reached a terminal state, timers' events among them."""
        async with self._database.read() as connection:
            return int((await connection.execute(sa.select(_count(inbox)))).scalar_one())

    async def undone(self) -> int:
        """Accounts that are not what they should be yet, the parked ones left out."""
        async with self._database.read() as connection:
            return int((await connection.execute(sa.select(_count(account, _NOT_PARKED, _UNDONE)))).scalar_one())

    async def intended(self) -> int:
        """Accounts with an intent that has no outcome yet."""
        async with self._database.read() as connection:
            return int(
                (await connection.execute(sa.select(_count(account, account.c.intent.is_not(None))))).scalar_one()
            )

    async def waiting(self, intent: str) -> int:
        """Accounts at which nothing is left to do but a look that an intent of this beginning asks for."""
        where = (
            account.c.status == "applied",
            account.c.revision == account.c.applied_revision,
            account.c.intent.startswith(intent, autoescape=True),
        )
        async with self._database.read() as connection:
            return int((await connection.execute(sa.select(_count(account, *where)))).scalar_one())

    async def left(self, *, now: datetime, events: int) -> int:
        """Pieces of work that are left when `events` events with an id of their own were published."""
        async with self._database.read() as connection:
            row = (await connection.execute(self._left, {"now": now})).one()
        return int(max(events + row.fired - row.settled, 0) + row.due + row.unsent + row.undone)
