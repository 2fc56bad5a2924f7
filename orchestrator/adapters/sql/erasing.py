"""Erasure in the database: whatever table has a `person_id` loses the person's rows, others what is known to be theirs.

What is deleted here may live on in the database's own files for a while: free pages, write-ahead logs, backups. The key
does so too; `guide/privacy.md` says how long.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.outbox import save_segment
from orchestrator.adapters.sql.records import read_account, read_person, read_progress, read_segment
from orchestrator.adapters.sql.resolving import inbox_key
from orchestrator.adapters.sql.subjects import SubjectRows
from orchestrator.adapters.sql.tables import (
    account,
    audit_index,
    inbox,
    metadata,
    outbox,
    person,
    quarantined,
    subject,
    timer,
)
from orchestrator.domain.person import Person
from orchestrator.domain.sealing import Subject, anonymous
from orchestrator.ports import AccountView, ErasureCase
from schemas.envelope import Message


class SqlErasureStore:
    """`ports.ErasureStore`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.subjects = SubjectRows(database)
        self.delete_inbox = sa.delete(inbox).where(database.among(inbox.c.key))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["SqlErasureTransaction"]:
        """Commits at the end of the block, rolls back when it raises."""
        async with self.database.write() as connection:
            yield SqlErasureTransaction(connection, self)


class SqlErasureTransaction:
    """`ports.ErasureTransaction`."""

    def __init__(self, connection: AsyncConnection, store: SqlErasureStore) -> None:
        self._connection = connection
        self._store = store

    async def load(self, person_id: str) -> ErasureCase | None:
        """Lock the person, the accounts and the timers, in the order in which everybody else does."""
        execute = self._connection.execute
        select = sa.select(person.c.record).where(person.c.id == person_id).with_for_update()
        record = (await execute(select)).scalar_one_or_none()
        if record is None:
            return None
        of_person = account.c.person_id == person_id
        rows = (await execute(sa.select(account).where(of_person).order_by(account.c.app).with_for_update())).mappings()
        accounts = [AccountView(read_account(row), read_progress(row), row["attention_at"]) for row in rows]
        await execute(sa.select(timer.c.kind).where(timer.c.person_id == person_id).with_for_update())
        known = (await self._store.subjects.of_people(self._connection, [person_id])).get(person_id)
        known = known or Subject("", person_id)
        return ErasureCase(
            read_person(person_id, record), known, accounts, await self._unpublished({person_id, known.id} - {""})
        )

    async def _unpublished(self, keys: set[str]) -> int:
        wanted, found = {key.encode() for key in keys}, 0
        async with self._connection.stream(sa.select(outbox.c.messages)) as rows:
            async for (messages,) in rows:
                found += sum(one.key in wanted for one in read_segment(messages))
        return found

    async def erase(self, case: ErasureCase, outbox: Sequence[Message], *, now: datetime) -> Mapping[str, int]:
        """Delete what is the person's, destroy the key and the link; returns how many rows went, by table."""
        execute, person_id = self._connection.execute, case.person.id
        unread = await self._forget_quarantined(case)
        counts = {"quarantined": len(unread), "inbox": await self._forget_events(case, unread)}
        for table in metadata.sorted_tables:
            if "person_id" in table.c and table is not subject:
                counts[str(table.name)] = (
                    await execute(sa.delete(table).where(table.c.person_id == person_id))
                ).rowcount
        counts["person"] = (await execute(sa.delete(person).where(person.c.id == person_id))).rowcount
        await execute(
            sa.update(subject)
            .where(subject.c.subject == case.subject.id)
            .values(person_id=None, key=None, erased_at=now)
        )
        await save_segment(self._connection, outbox, now)
        return {name: count for name, count in counts.items() if count}

    async def _forget_events(self, case: ErasureCase, unread: Sequence[str | None]) -> int:
        """The inbox knows events by ids only. Those of the person are the ones that the log has a name of theirs in."""
        select = sa.select(audit_index.c.entry).where(audit_index.c.subject == case.subject.id)
        entries = [orjson.loads(entry) for entry in (await self._connection.execute(select)).scalars()]
        named = {one["event_id"] for one in entries if case.subject.id in one.get("event_id", "")}
        handles = [case.person.id, *_addresses(case.person)]
        keys = {event_id.replace(case.subject.id, handle) for event_id in named for handle in handles}
        keys |= {one for one in _events(case) if case.person.id in one} | {one for one in unread if one}
        values = self._store.database.values(sorted(map(inbox_key, keys)))
        return (await self._connection.execute(self._store.delete_inbox, values)).rowcount

    async def _forget_quarantined(self, case: ErasureCase) -> list[str | None]:
        """Records that nobody could read: the person's are those with their key, their worker id or their address.
        Returns the ids of the events, as far as they had one."""
        addresses = [one.encode() for one in _addresses(case.person)]
        columns = (quarantined.c.topic, quarantined.c.partition, quarantined.c.offset)
        select = sa.select(*columns, quarantined.c.event_id, quarantined.c.key, quarantined.c.value)
        async with self._connection.stream(select) as rows:
            found = [
                row
                async for row in rows
                if _is_about(case.person.id, addresses, row.key, row.value)
                or _names(row.event_id or "", case.person.id, addresses)
            ]
        for row in found:
            same = (column == value for column, value in zip(columns, row[:3], strict=True))
            await self._connection.execute(sa.delete(quarantined).where(*same))
        return [row.event_id for row in found]


def _events(case: ErasureCase) -> Iterator[str]:
    """The events that what is stored of the person names."""
    known = case.person
    yield from (one.event_id for one in known.history.statements)
    yield from (one.event_id for one in known.ends)
    yield from (
        fact.event_id for one in known.engagements.values() for fact in (one.start, one.kind, one.contract_end, one.end)
    )
    yield from (fact.event_id for one in known.contracts for fact in one if fact is not None)
    yield from (one.account.event_id for one in case.accounts)


def _addresses(known: Person) -> list[str]:
    """The e-mail addresses that the person ever had, as they were stated and in lower case."""
    stated = {one.values.get("email") for one in known.history.statements} - {None, ""}
    return sorted({form for one in stated for form in (str(one), str(one).lower())})


def _is_about(person_id: str, addresses: Sequence[bytes], key: bytes | None, value: bytes | None) -> bool:
    if key == person_id.encode():
        return True
    if value is None:
        return False
    if any(address in value for address in addresses):
        return True
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return person_id in _ids(body)


def _names(event_id: str, person_id: str, addresses: Sequence[bytes]) -> bool:
    """Whether a source has built the id of an event from the person's."""
    without = event_id.replace("@", " ")  # whoever else's address stands there
    return anonymous(without, person_id, "") != without or any(one.decode() in event_id for one in addresses)


def _ids(body: Any) -> list[Any]:
    """Where a CloudEvent says whom it is about, in either mode."""
    if not isinstance(body, dict):
        return []
    data = body.get("data")
    return [body.get("worker_id"), body.get("subject"), data.get("worker_id") if isinstance(data, dict) else None]
