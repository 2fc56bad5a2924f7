"""Writes the log. Whatever instruction it dies at, the files say what the next process has to do.

The order that makes it safe: a batch is in the journal, on the disk, before anybody hears of it. A checkpoint is signed
only over entries of the journal, after their tiles and bundles are on the disk. The history has it before the file
`checkpoint` does. So whoever derives the tree anew from these files signs the same tree, and none other of its size.
"""

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from orchestrator.adapters.audit_log.files import DurableFolder, write_all
from orchestrator.adapters.audit_log.recovery import Recovered, recover
from orchestrator.adapters.audit_log.seen import SNAPSHOT, Seen
from orchestrator.domain.audit_entry import Unfit, read_entry
from orchestrator.domain.merkle import HEIGHT, WIDTH
from orchestrator.domain.signed_note import SigningKey
from orchestrator.domain.tlog import (
    CHECKPOINT,
    HISTORY,
    REJECTED,
    VERIFIER,
    Checkpoint,
    bundle_path,
    encode_bundle,
    encode_frame,
    journal_path,
    tile_path,
)
from orchestrator.errors import AuditLogTaken
from orchestrator.metrics import AUDIT_REJECTED, AUDIT_SIZE
from schemas.audit import AuditKind

log = structlog.get_logger()

EVERY_SECONDS = 5.0
"""A checkpoint is due that long after the first entry that none covers; ten are promised."""
IDLE_SECONDS = 1.0
"""Or when nothing has come for so long."""
MOST_PENDING = 16_384
"""Or when so many entries wait: they are in memory."""
SNAPSHOT_ENTRIES = 100_000
LOCK = "lock"


class OwnEntries(Protocol):
    """The auditor's own entries: it is a writer like any other."""

    def stamp(self, kind: AuditKind, details: Mapping[str, Any]) -> bytes:
        """A numbered record."""
        ...

    def lost(self) -> None:
        """Nobody knows which of them were appended: numbers begin again, in a new epoch."""
        ...


class TiledLog:
    """`ports.AuditLog`: appends entries that are not there yet, in the order in which they come.

    `configuration` is what the log itself has to say of how it is kept; an entry is made whenever it changes. One
    process writes at a time, which a lock on the folder ensures; see decision 0017.
    """

    def __init__(
        self,
        folder: Path,
        key: SigningKey,
        own: OwnEntries,
        configuration: Mapping[str, Any],
        *,
        most_pending: int = MOST_PENDING,
    ) -> None:
        self._disk = DurableFolder(folder)
        self._key = key
        self._own = own
        self._configuration = configuration
        self._most_pending = most_pending
        self._busy = threading.Lock()
        self._lock = -1
        self._journal = -1
        self._journal_bytes = 0
        self._state: Recovered | None = None
        self._waiting_since = 0.0
        self._last = 0.0
        self._snapshot_at = 0
        self._news: bytes | None = None
        self._failed = False

    # --- what the flow calls ------------------------------------------------------------------------------------------

    async def append(self, records: Iterable[bytes]) -> list[tuple[int, bytes]]:
        """Append those entries that are new; returns them with their positions once they are on the disk.

        Records that are no entries are kept aside, and an entry says so in their place. Raises OSError (a full disk),
        AuditLogTaken (another process has the log) and AuditLogDamaged.
        """
        return await asyncio.to_thread(self._guarded, self._append, list(records))

    async def checkpoint(self, *, now: bool = False) -> bytes | None:
        """Sign what is not covered yet, if that is due or wanted `now`.

        Returns the newest checkpoint, which is durable, unless it was returned before. Raises what `append` does.
        """
        return await asyncio.to_thread(self._guarded, self._checkpoint_if_due, now)

    async def close(self) -> None:
        """Sign what is not covered yet, forget everything and leave the log to others. Raises what `append` does."""
        await asyncio.to_thread(self._guarded, self._finish)

    def _guarded(self, work: Any, *arguments: Any) -> Any:
        """One at a time: a caller that was cancelled leaves its thread at work."""
        with self._busy:
            try:
                return work(*arguments)
            except BaseException:
                # Nobody knows how much of it reached the disk: what is there decides, at the next attempt.
                self._own.lost()
                self._close()
                self._failed = True
                raise

    # --- appending ----------------------------------------------------------------------------------------------------

    def _append(self, records: Sequence[bytes]) -> list[tuple[int, bytes]]:
        state, entries = self._opened()
        seen = state.seen
        rejected: list[bytes] = []
        for record in records:
            try:
                entry = read_entry(record)
            except Unfit as unfit:
                if (line := self._reject(seen, record, unfit, entries)) is not None:
                    rejected.append(line)
                continue
            if seen.note(entry):
                entries.append(record)
        if rejected:
            self._disk.append(REJECTED, b"".join(rejected))
            AUDIT_REJECTED.inc(len(rejected))
        return self._write(state, entries)

    def _write(self, state: Recovered, entries: list[bytes]) -> list[tuple[int, bytes]]:
        if not entries:
            return []
        self._still_ours()
        first, frame = state.edge.size, encode_frame(state.edge.size, entries)
        write_all(self._journal, frame)
        os.fsync(self._journal)
        self._journal_bytes += len(frame)
        now = time.monotonic()
        if first == state.checkpoint.size:
            self._waiting_since = now
        self._last = now
        state.take(entries)
        AUDIT_SIZE.set(state.edge.size)
        if state.edge.size - state.checkpoint.size >= self._most_pending:
            self._checkpoint(state)
        return list(enumerate(entries, first))

    def _reject(self, seen: Seen, record: bytes, unfit: Unfit, entries: list[bytes]) -> bytes | None:
        """Keep a record aside, once; the entry about it takes its number, so that no gap is left where it was read."""
        digest = sha256(record).hexdigest()
        if digest in seen.rejected:
            return None
        details: dict[str, Any] = {"code": unfit.code, "sha256": digest, "bytes": len(record)}
        if (entry := unfit.entry) is not None:
            number = [entry["writer"], entry["epoch"], entry["sequence"]]
            if not seen.add(*number):
                return None
            details["number"] = number
        own = self._own.stamp(AuditKind.ENTRY_REJECTED, details)
        seen.note(orjson.loads(own))
        entries.append(own)
        log.warning("record_rejected", code=unfit.code, reason=str(unfit))
        line = {"sha256": digest, "code": unfit.code, "reason": str(unfit), "record": record.decode("latin-1")}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self, now: bool) -> bytes | None:
        if self._state is None and self._failed:  # what it could not sign is in the journal, and more may never come
            self._append(())
        if (state := self._state) is not None and state.edge.size != state.checkpoint.size:
            moment = time.monotonic()
            if now or moment - self._waiting_since >= EVERY_SECONDS or moment - self._last >= IDLE_SECONDS:
                self._checkpoint(state)
        news, self._news = self._news, None
        return news

    def _checkpoint(self, state: Recovered) -> None:
        self._still_ours()
        size, covered = state.edge.size, state.checkpoint.size
        self._disk.write(_files(state))
        checkpoint = Checkpoint(self._key.name, size, state.edge.root())
        note = self._key.sign(checkpoint.text()).encode()
        if state.history != note:
            self._disk.append(HISTORY, note + b"\n")
        self._disk.write({CHECKPOINT: note, journal_path(size): b""})
        self._open_journal(size)
        self._disk.remove(journal_path(covered))
        for path in state.outgrown():
            self._disk.remove(path)
        state.covered(checkpoint, note)
        if size - self._snapshot_at >= SNAPSHOT_ENTRIES:
            self._save_snapshot(state)
        self._news = note

    def _save_snapshot(self, state: Recovered) -> None:
        self._disk.write({SNAPSHOT: state.seen.snapshot(state.checkpoint.size, state.checkpoint.root)})
        self._snapshot_at = state.checkpoint.size

    # --- whose it is --------------------------------------------------------------------------------------------------

    def _opened(self) -> tuple[Recovered, list[bytes]]:
        """The state, after a look at the disk where there is none; and the entries that this makes necessary."""
        if self._state is not None:
            return self._state, []
        self._disk.make()
        self._lock = _take(self._disk.folder / LOCK)
        self._disk.prepare()
        state = recover(self._disk, self._key)
        self._publish_verifier()
        self._snapshot_at = state.snapshot_size
        self._open_journal(state.checkpoint.size)
        self._waiting_since = self._last = time.monotonic()
        self._state = state
        self._failed = False
        self._news = state.note or None  # the process that made it may have died before it told anybody
        AUDIT_SIZE.set(state.edge.size)
        if state.seen.configuration == self._configuration:
            return state, []
        own = self._own.stamp(AuditKind.AUDIT_CONFIGURED, self._configuration)
        state.seen.note(orjson.loads(own))
        return state, [own]

    def _publish_verifier(self) -> None:
        """Put the verifier key into the folder, beside those of earlier keys."""
        known = (self._disk.read(VERIFIER) or b"").decode().split()
        if (key := str(self._key.verifier)) not in known:
            self._disk.write({VERIFIER: "".join(f"{one}\n" for one in [*known, key]).encode()})

    def _open_journal(self, size: int) -> None:
        if self._journal >= 0:
            journal, self._journal = self._journal, -1
            os.close(journal)
        path = self._disk.folder / journal_path(size)
        self._journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._journal_bytes = os.fstat(self._journal).st_size

    def _still_ours(self) -> None:
        """The disk has to be as this process left it. The lock says so already, where the file system keeps locks."""
        assert self._state is not None
        found = os.fstat(self._journal)
        if (found.st_nlink, found.st_size) != (1, self._journal_bytes) or (
            self._disk.read(CHECKPOINT) or b""
        ) != self._state.note:
            raise AuditLogTaken(f"another process wrote to the audit log in {self._disk.folder}; it is read again")

    def _finish(self) -> None:
        if (state := self._state) is not None:
            if state.edge.size != state.checkpoint.size:
                self._checkpoint(state)
            if state.checkpoint.size != self._snapshot_at:
                self._save_snapshot(state)
        self._close()
        self._failed = False

    def _close(self) -> None:
        self._state = None
        opened = [descriptor for descriptor in (self._journal, self._lock) if descriptor >= 0]
        self._journal = self._lock = -1
        for descriptor in opened:
            os.close(descriptor)


def _take(path: Path) -> int:
    """Lock the log for this process, which holds it as long as it lives, asleep too. Raises AuditLogTaken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AuditLogTaken(
            f"another process holds the audit log in {path.parent}; if it hangs, end it: nothing is lost meanwhile"
        ) from None
    return descriptor


def _files(state: Recovered) -> dict[str, bytes]:
    """The tiles and bundles that a checkpoint at the present size needs and the one before did not."""
    edge, covered = state.edge, state.checkpoint.size
    files = {tile_path(level, index): b"".join(hashes) for level, index, hashes in state.full}
    for level, hashes in enumerate(edge.levels):
        if hashes and edge.size >> HEIGHT * level != covered >> HEIGHT * level:
            files[tile_path(level, edge.size >> HEIGHT * (level + 1), len(hashes))] = b"".join(hashes)
    first = covered // WIDTH
    for number in range(first, -(-edge.size // WIDTH)):
        entries = state.held[(number - first) * WIDTH : (number - first + 1) * WIDTH]
        files[bundle_path(number, len(entries))] = encode_bundle(entries)
    return files
