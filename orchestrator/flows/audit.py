"""The auditor: entries go from the topic into the durable log, each once, then into the index; and it is signed."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import structlog

from orchestrator.domain.retry import Backoff
from orchestrator.errors import AuditLogTaken, StoreUnavailable
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.resolve import Record
from orchestrator.metrics import AUDIT_ENTRIES
from orchestrator.ports import AuditIndex, AuditLog, Clock
from schemas.audit import AuditKind

log = structlog.get_logger()

_BACKOFF = Backoff(base=0.2, most=10)
CATCH_UP_ROWS = 1000


class AuditorEntries:
    """The auditor's own entries, which go into the log and not through the topic: how it is configured, and what it
    could not append."""

    def __init__(self, writer: AuditWriter, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    def stamp(self, kind: AuditKind, details: Mapping[str, Any]) -> bytes:
        """A numbered record."""
        (message,) = self._writer.stamp([Entry(kind, self._clock.now(), "auditor", details=details)])
        self._writer.saved(1)
        return message.value

    def lost(self) -> None:
        """Nobody knows which of them were appended."""
        self._writer.lost()


class AuditFlow:
    """Call it with batches of records; when it returns, their entries are durable."""

    def __init__(self, audit_log: AuditLog, index: AuditIndex) -> None:
        self._log = audit_log
        self._index = index
        self._chance = random.Random()
        self._read: Callable[[int], Iterator[tuple[int, bytes]]] | None = None

    async def catch_up(self, read: Callable[[int], Iterator[tuple[int, bytes]]]) -> int:
        """Index what the log has and the index lacks: the process died in between. Returns how many."""
        self._read = read
        start = await self._index.next_position()
        entries = read(start)
        added = 0
        while rows := list(islice(entries, CATCH_UP_ROWS)):
            await self._index.add(rows)
            added += len(rows)
        return added

    async def take_over(self, read: Callable[[int], Iterator[tuple[int, bytes]]]) -> None:
        """The same when the log may have had another writer. A store that is down stops the auditor here as well."""
        attempt = 0
        while True:
            try:
                await self.catch_up(read)
                return
            except StoreUnavailable as error:
                attempt += 1
                log.error("auditor_waits", reason=error.code, attempt=attempt, entries=0)
                await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))

    async def __call__(self, records: Sequence[Record]) -> None:
        """Append, then index. A full disk or a store that is down stops the auditor, not the entries."""
        attempt = 0
        appended: list[tuple[int, bytes]] = []
        while True:
            try:
                appended += await self._log.append([record.value or b"" for record in records])
                if attempt and self._read is not None:  # an attempt that failed may have appended what it did not tell
                    await self.catch_up(self._read)
                else:
                    await self._index.add(appended)
                AUDIT_ENTRIES.inc(len(appended))
                return
            except (StoreUnavailable, AuditLogTaken, OSError) as error:
                attempt += 1
                log.error("auditor_waits", reason=type(error).__name__, attempt=attempt, entries=len(records))
                await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))
