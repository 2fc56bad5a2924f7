"""Many rows in one statement.

PostgreSQL takes the columns as arrays (`unnest`), so that a batch costs one parse, one plan and one round of the
executor; an `executemany` costs them once for every row. SQLite has no network and no arrays: there it is an
`executemany`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.tables import FreeText, Instant, clean

Rows = Sequence[Mapping[str, Any]]


def bulk_insert(
    database: Database, table: sa.Table, columns: Sequence[str], *, unless_there: bool = False
) -> "_Statement":
    """Inserts rows that give a value for each of `columns`; with `unless_there` those whose keys are not there yet."""
    each: Any = sa.insert(table)
    if unless_there:
        each = database.insert(table).on_conflict_do_nothing()
    return _inserted(database, table, columns, each, " on conflict do nothing" if unless_there else "")


def bulk_upsert(
    database: Database, table: sa.Table, keys: Sequence[str], columns: Sequence[str], cleared: Sequence[str] = ()
) -> "_Statement":
    """Inserts rows that give a value for each of `keys` and `columns`. Of rows with these keys that are there already
    it sets `columns`, and those in `cleared` to null. No two of the rows may have the same keys."""
    insert = database.insert(table)
    sets = {name: insert.excluded[name] for name in columns} | dict.fromkeys(cleared)
    each = insert.on_conflict_do_update(index_elements=list(keys), set_=sets)
    given = [f"{name} = excluded.{name}" for name in columns] + [f"{name} = null" for name in cleared]
    otherwise = f" on conflict ({', '.join(keys)}) do update set {', '.join(given)}"
    return _inserted(database, table, [*keys, *columns], each, otherwise)


def _inserted(database: Database, table: sa.Table, columns: Sequence[str], each: Any, otherwise: str) -> "_Statement":
    whole = None
    if not database.is_sqlite:
        arrays = _unnest(table, columns, columns)
        whole = f"insert into {table.name} ({', '.join(columns)}) select * from {arrays}"  # noqa: S608 - our own names
        whole += otherwise
    return _Statement(each, whole, {name: table.c[name] for name in columns})


def bulk_update(database: Database, table: sa.Table, keys: Sequence[str], columns: Sequence[str]) -> "_Statement":
    """Updates `columns` of the rows whose `keys` equal the values given as `b_KEY`.

    Rows that others update too have to be locked before, in the order of their keys: in which order this statement
    takes them is up to the planner.
    """
    given = {f"b_{name}": table.c[name] for name in keys} | {name: table.c[name] for name in columns}
    each = (
        sa.update(table)
        .where(*(table.c[name] == sa.bindparam(f"b_{name}") for name in keys))
        .values({name: sa.bindparam(name) for name in columns})
    )
    whole = None
    if not database.is_sqlite:
        sets = ", ".join(f"{name} = given.{name}" for name in columns)
        same = " and ".join(f"{table.name}.{name} = given.b_{name}" for name in keys)
        arrays = f"{_unnest(table, [*keys, *columns], list(given))} as given({', '.join(given)})"
        whole = f"update {table.name} set {sets} from {arrays} where {same}"  # noqa: S608 - our own names
    return _Statement(each, whole, given)


class _Statement:
    """One statement for all rows, or one for each."""

    def __init__(self, each: Any, whole: str | None, columns: Mapping[str, sa.Column[Any]]) -> None:
        self._each = each
        self._whole = None if whole is None else sa.text(whole)
        self._cleaned = {name for name, column in columns.items() if isinstance(column.type, FreeText)}
        self._columns = tuple(columns)

    async def run(self, connection: AsyncConnection, rows: Rows) -> int:
        """Execute for these rows; none is fine. Returns how many rows it wrote."""
        if not rows:
            return 0
        if self._whole is None:
            return int((await connection.execute(self._each, list(rows))).rowcount)
        values = {name: [row[name] for row in rows] for name in self._columns}
        for name in self._cleaned:
            values[name] = [clean(text) for text in values[name]]
        return int((await connection.execute(self._whole, values)).rowcount)


def _unnest(table: sa.Table, columns: Sequence[str], names: Sequence[str]) -> str:
    """The arrays of these columns as a table. The names are ours, never data."""
    arrays = (f"cast(:{name} as {_type(table.c[column])}[])" for column, name in zip(columns, names, strict=True))
    return f"unnest({', '.join(arrays)})"


def _type(column: sa.Column[Any]) -> str:
    if isinstance(column.type, Instant):
        return "timestamptz"
    if isinstance(column.type, sa.Boolean):
        return "boolean"
    if isinstance(column.type, sa.BigInteger):
        return "bigint"
    if isinstance(column.type, sa.Integer):
        return "integer"
    if isinstance(column.type, sa.LargeBinary):
        return "bytea"
    return "text"
