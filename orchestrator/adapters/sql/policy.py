"""People by the policy that decided them last, and the timers by which they are decided anew."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.bulk import bulk_insert
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.tables import account, person, timer
from orchestrator.domain.timers import POLICY_CHANGED
from orchestrator.ports import Timer
from schemas.envelope import Message

_WAITS = sa.and_(timer.c.kind == POLICY_CHANGED, timer.c.fired_at.is_(None))
_VERSIONS = sa.select(person.c.policy, sa.func.count()).group_by(person.c.policy)
_WAITING = sa.select(sa.func.count()).select_from(timer).where(_WAITS)
_POPULATION = sa.select(account.c.app, sa.func.count()).where(account.c.state == "active").group_by(account.c.app)
# Nobody erases a person between our look and the timer: it would name somebody who is forgotten.
_UNDECIDED = (
    sa.select(person.c.id)
    .where(
        person.c.id > sa.bindparam("b_after"),
        sa.func.coalesce(person.c.policy, "") != sa.bindparam("b_version"),
        ~sa.exists().where(timer.c.person_id == person.c.id, _WAITS),
    )
    .order_by(person.c.id)
    .limit(sa.bindparam("most", type_=sa.Integer))
    .with_for_update(read=True, key_share=True)
)


class SqlPolicyStore:
    """`ports.PolicyStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        columns = ("person_id", "kind", "due", "event_id", "rule")
        self.set_timers = bulk_insert(database, timer, columns, unless_there=True)

    async def versions(self) -> Mapping[str | None, int]:
        """How many persons each version of the policy decided last; None: decided before that was kept."""
        async with self._database.look() as connection:
            return {row[0]: row[1] for row in await connection.execute(_VERSIONS)}

    async def waiting(self) -> int:
        """How many persons have a timer to be decided anew that has not fired."""
        async with self._database.look() as connection:
            return int((await connection.execute(_WAITING)).scalar_one())

    async def population(self) -> Mapping[str, int]:
        """How many accounts of each application should be active."""
        async with self._database.look() as connection:
            return {row[0]: row[1] for row in await connection.execute(_POPULATION)}

    @asynccontextmanager
    async def change(self) -> AsyncIterator["SqlPolicyTransaction"]:
        """Some of the people; see `ports.PolicyStore`."""
        async with self._database.write() as connection:
            yield SqlPolicyTransaction(connection, self)

    async def record(self, outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Save entries that go with no change of an account; returns the outbox segment."""
        async with self._database.write() as connection:
            return await save_segment(connection, outbox, now)


class SqlPolicyTransaction:
    """`ports.PolicyTransaction`."""

    def __init__(self, connection: AsyncConnection, statements: SqlPolicyStore) -> None:
        self._connection = connection
        self._statements = statements

    async def undecided(self, version: str, *, after: str, limit: int) -> list[str]:
        """Ids of persons who were decided last by another policy and have no timer for it yet, in their order."""
        values = {"b_after": after, "b_version": version, "most": limit}
        return list((await self._connection.execute(_UNDECIDED, values)).scalars())

    async def set_timers(self, timers: Sequence[Timer]) -> None:
        """Set these timers; those that are there stay as they are."""
        await self._statements.set_timers.run(self._connection, [one._asdict() for one in timers])
