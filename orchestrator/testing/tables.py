"""Tables in memory with the transactions of PostgreSQL at READ COMMITTED, as far as the stores rely on them.

A transaction sees what is committed and its own writes. Rows are locked by whoever writes them or says so, until the
end; an insert waits for another transaction that has inserted the same key and fails when that one commits; two
transactions that wait for each other are told apart by ending one. Everything that may pass raises StoreUnavailable.
"""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from orchestrator.errors import StoreUnavailable

Key = Any
Row = Any
_DELETED = object()


class Weather(Protocol):
    """What lies between a process and its database. Each method may wait, and may raise StoreUnavailable."""

    async def statement(self) -> None:
        """Before each statement."""
        ...

    async def committing(self) -> None:
        """Before a commit; what is raised here rolls it back."""
        ...

    async def committed(self) -> None:
        """After a commit; what is raised here leaves its caller in the dark."""
        ...


class Calm:
    """Nothing ever happens, but everybody else may run between two statements."""

    async def statement(self) -> None:
        """See `Weather`."""
        await asyncio.sleep(0)

    async def committing(self) -> None:
        """See `Weather`."""
        await asyncio.sleep(0)

    async def committed(self) -> None:
        """See `Weather`."""


class Index:
    """The committed rows of a table in the order of what `place` says of each; None leaves a row out."""

    def __init__(self, place: Callable[[Key, Row], Any]) -> None:
        self.place = place
        self._entries: list[tuple[Any, Key]] = []

    def changed(self, key: Key, before: Row | None, after: Row | None) -> None:
        """A row was committed or deleted (None)."""
        if before is not None and (place := self.place(key, before)) is not None:
            del self._entries[bisect_left(self._entries, (place, key))]
        if after is not None and (place := self.place(key, after)) is not None:
            insort(self._entries, (place, key))

    def first(self) -> Any | None:
        """The lowest place."""
        return self._entries[0][0] if self._entries else None

    def between(self, low: Any, high: Any) -> list[Key]:
        """The keys of the rows from one place to another, both included."""
        start = bisect_left(self._entries, low, key=_place_of)
        return [key for _, key in self._entries[start : bisect_right(self._entries, high, key=_place_of)]]


def _place_of(entry: tuple[Any, Key]) -> Any:
    return entry[0]


class Tables:
    """Committed rows by table and key, and the locks on them.

    `owner` names the process that runs now: when it dies, `disconnect` ends what it had begun.
    """

    def __init__(self, weather: Weather | None = None, owner: Callable[[], Hashable] = lambda: None) -> None:
        self.weather: Weather = weather or Calm()
        self.rows: dict[str, dict[Key, Row]] = {}
        self._owner = owner
        self._locks: dict[tuple[str, Key], Transaction] = {}
        self._waiters: dict[tuple[str, Key], list[asyncio.Future[None]]] = {}
        self._open: dict[Transaction, Hashable] = {}
        self._numbers: dict[str, int] = {}
        self._indexes: dict[str, list[Index]] = {}

    def table(self, name: str) -> dict[Key, Row]:
        """The committed rows of one table."""
        return self.rows.setdefault(name, {})

    def index(self, name: str, place: Callable[[Key, Row], Any]) -> Index:
        """An index over a table that is empty yet."""
        index = Index(place)
        self._indexes.setdefault(name, []).append(index)
        return index

    def indexes(self, name: str) -> list[Index]:
        """The indexes of a table."""
        return self._indexes.get(name, [])

    def next_number(self, sequence: str) -> int:
        """The next number of a sequence; never used again, whatever becomes of the transaction."""
        self._numbers[sequence] = self._numbers.get(sequence, 0) + 1
        return self._numbers[sequence]

    async def read(self, name: str) -> Mapping[Key, Row]:
        """One statement that only reads."""
        await self.weather.statement()
        return self.table(name)

    @asynccontextmanager
    async def write(self) -> AsyncIterator["Transaction"]:
        """A writing transaction: commits at the end of the block, rolls back when it raises."""
        transaction = Transaction(self)
        self._open[transaction] = self._owner()
        try:
            await self.weather.statement()
            yield transaction
            await self.weather.committing()
            transaction.commit()
        finally:
            self._end(transaction)
        await self.weather.committed()

    def disconnect(self, owner: Hashable) -> None:
        """A process died: its transactions are rolled back."""
        for transaction in [one for one, whose in self._open.items() if whose == owner]:
            self._end(transaction)

    def _end(self, transaction: "Transaction") -> None:
        if self._open.pop(transaction, self) is self:
            return
        transaction.ended = True
        for place in transaction.held:
            del self._locks[place]
            for waiter in self._waiters.pop(place, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def is_locked(self, name: str, key: Key, by_others_than: "Transaction") -> bool:
        """Whether another transaction holds the row."""
        return self._locks.get((name, key), by_others_than) is not by_others_than

    async def lock(self, transaction: "Transaction", name: str, key: Key) -> None:
        """Lock a row, which need not exist, for a transaction."""
        place = (name, key)
        while (holder := self._locks.get(place)) is not None and holder is not transaction:
            if _waits_for(holder, transaction):
                raise StoreUnavailable("deadlock detected")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(place, []).append(waiter)
            transaction.waits_for = holder
            try:
                await waiter
            finally:
                transaction.waits_for = None
        transaction.check()
        if place not in self._locks:
            self._locks[place] = transaction
            transaction.held.append(place)


def _waits_for(one: "Transaction | None", other: "Transaction") -> bool:
    while one is not None:
        if one is other:
            return True
        one = one.waits_for
    return False


class Transaction:
    """What one transaction has written and locked."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._written: dict[str, dict[Key, Row]] = {}
        self.held: list[tuple[str, Key]] = []
        self.waits_for: Transaction | None = None
        self.ended = False

    def check(self) -> None:
        """Raise when the connection is gone."""
        if self.ended:
            raise StoreUnavailable("the connection was closed")

    async def statement(self) -> None:
        """The way to the database."""
        await self._tables.weather.statement()
        self.check()

    def get(self, name: str, key: Key) -> Row | None:
        """The row as this transaction sees it."""
        row = self._written.get(name, {}).get(key)
        if row is None:
            row = self._tables.table(name).get(key)
        return None if row is _DELETED else row

    def find(self, name: str, index: Index, low: Any, high: Any) -> Iterator[tuple[Key, Row]]:
        """The rows from one place of an index to another, both included, as this transaction sees them."""
        written = self._written.get(name, {})
        keys = index.between(low, high)
        for key in (*keys, *(key for key in written if key not in keys)) if written else keys:
            row = self.get(name, key)
            if row is not None and (place := index.place(key, row)) is not None and low <= place <= high:
                yield key, row

    def scan(self, name: str) -> Iterator[tuple[Key, Row]]:
        """All rows as this transaction sees them."""
        written = self._written.get(name)
        if not written:
            yield from list(self._tables.table(name).items())
            return
        for key, row in {**self._tables.table(name), **written}.items():
            if row is not _DELETED:
                yield key, row

    async def lock(self, name: str, keys: Iterable[Key]) -> list[Key]:
        """Lock those of the rows that exist, in the order of their keys; SELECT ... FOR UPDATE."""
        locked = []
        for key in sorted(keys):
            if self.get(name, key) is not None:
                await self._tables.lock(self, name, key)
                if self.get(name, key) is not None:  # deleted while we waited
                    locked.append(key)
        return locked

    async def lock_free(self, name: str, keys: Iterable[Key], limit: int) -> list[Key]:
        """Lock the first rows that nobody else holds; SELECT ... FOR UPDATE SKIP LOCKED LIMIT."""
        taken: list[Key] = []
        for key in keys:
            if len(taken) == limit:
                break
            if not self._tables.is_locked(name, key, self):
                await self._tables.lock(self, name, key)
                taken.append(key)
        return taken

    async def insert(self, name: str, key: Key, row: Row) -> None:
        """Insert a row; a key that is there makes the transaction fail."""
        await self._tables.lock(self, name, key)
        if self.get(name, key) is not None:
            raise StoreUnavailable(f"a concurrent transaction won: duplicate key in {name}")
        self.put(name, key, row)

    async def upsert(self, name: str, key: Key, change: Callable[[Row | None], Row | None]) -> Row | None:
        """Lock a row and write what `change` makes of it; None from it leaves the row alone and is returned."""
        await self._tables.lock(self, name, key)
        row = change(self.get(name, key))
        if row is not None:
            self.put(name, key, row)
        return row

    def put(self, name: str, key: Key, row: Row) -> None:
        """Write a row that is locked."""
        self._written.setdefault(name, {})[key] = row

    def delete(self, name: str, key: Key) -> None:
        """Delete a row that is locked."""
        self.put(name, key, _DELETED)

    def commit(self) -> None:
        """Make everything visible at once."""
        self.check()
        for name, written in self._written.items():
            table, indexes = self._tables.table(name), self._tables.indexes(name)
            for key, row in written.items():
                after = None if row is _DELETED else row
                for index in indexes:
                    index.changed(key, table.get(key), after)
                if after is None:
                    table.pop(key, None)
                else:
                    table[key] = after
