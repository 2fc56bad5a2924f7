"""The last reconciliation of each application, and the lease of the process that is at one by schedule."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.tables import reconciliation
from orchestrator.domain.reconcile_schedule import LastRun


class SqlReconcileRuns:
    """`ports.ReconcileRuns`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert = database.insert(reconciliation)
        table, now = reconciliation.c, sa.bindparam("b_now", type_=reconciliation.c.lease_until.type)
        self._claim = insert.on_conflict_do_update(
            index_elements=["app"],
            set_={
                "run": insert.excluded.run,
                "began_at": insert.excluded.began_at,
                "lease_until": insert.excluded.lease_until,
                "ended_at": None,
                "outcome": None,
            },
            where=sa.and_(
                table.run == insert.excluded.run - 1,
                sa.or_(table.lease_until.is_(None), table.lease_until <= now),
            ),
        ).returning(table.app)
        self._note = insert.on_conflict_do_update(
            index_elements=["app"],
            set_={
                "run": table.run + 1,
                "began_at": insert.excluded.began_at,
                "lease_until": None,
                "ended_at": insert.excluded.ended_at,
                "outcome": insert.excluded.outcome,
                "counts": insert.excluded.counts,
            },
            where=sa.or_(table.lease_until.is_(None), table.lease_until <= now),
        ).returning(table.app)
        self._ours = sa.update(reconciliation).where(
            table.app == sa.bindparam("b_app"),
            table.run == sa.bindparam("b_run"),
            table.lease_until.is_not(None),
        )

    async def last(self) -> Mapping[str, LastRun]:
        """The last run of each application that had one."""
        async with self._database.look() as connection:
            rows = await connection.execute(sa.select(reconciliation))
            return {
                row.app: LastRun(
                    row.run,
                    row.began_at,
                    row.lease_until,
                    row.ended_at,
                    row.outcome,
                    orjson.loads(row.counts) if row.counts else {},
                )
                for row in rows
            }

    async def claim(self, app: str, run: int, *, now: datetime, until: datetime) -> bool:
        """Begin the run after the one that was seen last; False when another process was faster."""
        values = {"app": app, "run": run, "began_at": now, "lease_until": until, "b_now": now}
        async with self._database.write() as connection:
            return (await connection.execute(self._claim, values)).first() is not None

    async def renew(self, app: str, run: int, *, until: datetime) -> bool:
        """Keep the lease; False when another process has begun a run since."""
        return await self._change(app, run, lease_until=until)

    async def end(self, app: str, run: int, outcome: str, counts: Mapping[str, int] | None, *, now: datetime) -> bool:
        """Say what became of the run, and give the lease back. None leaves the counts of the run before."""
        values: dict[str, Any] = {"lease_until": None, "ended_at": now, "outcome": outcome}
        if counts is not None:
            values["counts"] = orjson.dumps(dict(counts)).decode()
        return await self._change(app, run, **values)

    async def note(
        self, app: str, outcome: str, counts: Mapping[str, int], *, began_at: datetime, ended_at: datetime
    ) -> bool:
        """A run by hand, which is the last one from now on; False while a process is at one by schedule."""
        values = {"app": app, "run": 1, "began_at": began_at, "ended_at": ended_at, "outcome": outcome}
        told = orjson.dumps(dict(counts)).decode()
        async with self._database.write() as connection:
            noted = await connection.execute(self._note, {**values, "counts": told, "b_now": ended_at})
            return noted.first() is not None

    async def _change(self, app: str, run: int, **values: Any) -> bool:
        async with self._database.write() as connection:
            changed = await connection.execute(self._ours.values(**values), {"b_app": app, "b_run": run})
            return bool(changed.rowcount)
