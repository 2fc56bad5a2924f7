"""`jml bench memory`: does a role's memory grow with the number of people that the system knows?

People are made in the database itself, as copies of one who was hired through the pipeline, so that a million take
minutes. At each size the same number of people is hired through all roles, and then the memory that each holds is read
from the system. On the embedded broker all roles are in this process.
"""

import gc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psutil
import sqlalchemy as sa

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.tables import account, inbox, person, timer
from orchestrator.bench.pipeline import CREW, all_roles, settle
from orchestrator.bench.place import application_policy, open_place
from orchestrator.bench.processes import RoleProcess
from orchestrator.bench.resolving import Progress
from orchestrator.bench.server import Applications

SMALLEST = 1000
SIZES = (SMALLEST, 100_000)
"""Measured on the way, beside the size that is asked for."""
HIRED = 500
"""Through all roles, before each measurement."""
CHUNK = 50_000
APP = "app0"
ONE, HIS_NAME = "W0000000", "user.0@"
"""Whose rows are copied, a contractor: everybody has a timer."""


async def bench_memory(kafka: str, store: str, *, people: int, progress: Progress) -> dict[str, Any]:
    """Measure at 1,000 people, at 100,000 if there are more, and at `people`."""
    sizes = sorted({size for size in SIZES if size < people} | {people})
    resident: dict[str, dict[str, float]] = {}
    async with Applications(0.0) as applications:
        policy = application_policy(applications.base_url(APP), groups="[]")
        async with open_place(kafka, store, {APP: policy}) as place, all_roles(place, CREW) as processes:
            database = Database(place.config.store.url, pool_size=1)
            try:
                await settle(place, SMALLEST - HIRED, 0, progress, "warming up")
                known = SMALLEST - HIRED
                for size in sizes:
                    await copies(database, known, size - HIRED, progress)
                    await settle(place, HIRED, size - HIRED, progress, f"hiring at {size:,}")
                    known = size
                    resident[f"{size:,} people"] = _resident(processes)
            finally:
                await database.close()
    first, last = resident[f"{sizes[0]:,} people"], resident[f"{sizes[-1]:,} people"]
    return {
        "bench": "memory",
        "broker": place.broker,
        "store": place.store,
        "people": people,
        "resident_megabytes": resident,
        "growth": {role: round(last[role] / first[role], 3) for role in first},
    }


def _resident(processes: Sequence[RoleProcess]) -> dict[str, float]:
    """By role, the largest of its processes; all of them are this one on the embedded broker."""
    if not processes:
        gc.collect()
        return {"all roles": round(psutil.Process().memory_info().rss / 1e6, 1)}
    found: Counter[str] = Counter()
    for one in processes:
        found[one.role] = max(found[one.role], one.resident)
    return {role: round(size / 1e6, 1) for role, size in found.items()}


async def copies(database: Database, first: int, end: int, progress: Progress) -> None:
    """People from number `first` up to `end`, with everything that the one who is copied has."""
    statements = [_copy(table, database.is_sqlite) for table in (person, account, timer)]
    for begin in range(first, end, CHUNK):
        numbers = {"first": begin, "last": min(begin + CHUNK, end) - 1}
        async with database.write() as connection:
            for statement in statements:
                await connection.execute(statement, numbers)
            await connection.execute(_events(database.is_sqlite), numbers)
        progress("making people", min(begin + CHUNK, end), end)


def _numbers(sqlite: bool) -> str:
    if sqlite:
        return "with recursive numbers(n) as (select :first union all select n + 1 from numbers where n < :last) select"
    return "with numbers(n) as (select generate_series(cast(:first as integer), cast(:last as integer))) select"


def _copy(table: sa.Table, sqlite: bool) -> sa.TextClause:
    """Rows of the one, with another's id and name wherever the one's stand. All names are the tables' own."""
    id_ = "printf('W%07d', n)" if sqlite else "'W' || lpad(cast(n as text), 7, '0')"
    columns, values = [], []
    for column in table.columns:
        columns.append(f'"{column.name}"')
        text = isinstance(column.type, sa.String) or "FreeText" in repr(column.type)
        named = f"replace(replace(\"{column.name}\", '{ONE}', {id_}), '{HIS_NAME}', 'user.' || n || '@')"
        values.append(named if text else columns[-1])
    owner = "id" if table is person else "person_id"
    return sa.text(
        f"insert into {table.name} ({', '.join(columns)}) {_numbers(sqlite)} {', '.join(values)} "
        f"from {table.name}, numbers where {owner} = '{ONE}'"
    )


def _events(sqlite: bool) -> sa.TextClause:
    """What was accepted of them, which the resolver looks up for each event that comes."""
    return sa.text(
        f"insert into {inbox.name} (key, outcome, received_at) {_numbers(sqlite)} "  # noqa: S608 - all ours
        f"'made#' || n, 'resolved', (select min(received_at) from {inbox.name}) from numbers"
    )
