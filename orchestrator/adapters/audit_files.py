"""The auditor's log as a file of JSON lines: the exact bytes of every entry, each once, made durable before it counts.

A later step replaces the file by a Merkle log of tiles with signed checkpoints; this module is its place.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from schemas.audit import AuditKind

ENTRIES = "entries.jsonl"
REJECTED = "rejected.jsonl"


@dataclass(slots=True)
class _Seen:
    """Sequence numbers of one writer and epoch: all up to `run`, and some beyond."""

    run: int = 0
    beyond: set[int] = field(default_factory=set)

    def add(self, sequence: int) -> bool:
        """Note a number; False when it was there."""
        if sequence <= self.run or sequence in self.beyond:
            return False
        self.beyond.add(sequence)
        while self.run + 1 in self.beyond:
            self.run += 1
            self.beyond.discard(self.run)
        return True


class AuditFiles:
    """`ports.AuditLog`: appends entries that are not there yet, in the order in which they come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._file: BinaryIO | None = None
        self.size = 0

    def open(self) -> None:
        """Read what is there. A last line without its end was being written when its process died: it is cut off,
        and comes again because its offset was not committed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / ENTRIES
        path.touch()
        whole = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                self.size += 1
                self._note(line)
        self._file = path.open("r+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    async def append(self, records: Iterable[bytes]) -> list[tuple[int, bytes]]:
        """Append those entries that are new; returns them with their positions once they are on the disk."""
        return await asyncio.to_thread(self._append, records)

    def _append(self, records: Iterable[bytes]) -> list[tuple[int, bytes]]:
        if self._file is None:
            self.open()
        try:
            return self._write(records)
        except OSError:
            # Nobody knows how much of it reached the disk: what is there decides, at the next attempt.
            self.close()
            raise

    def _write(self, records: Iterable[bytes]) -> list[tuple[int, bytes]]:
        assert self._file is not None
        appended: list[tuple[int, bytes]] = []
        rejected: list[bytes] = []
        for record in records:
            try:
                fresh = self._note(record)
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                rejected.append(record)
                continue
            if fresh and b"\n" not in record:
                appended.append((self.size + len(appended), record))
        if appended:
            self._file.write(b"".join(record + b"\n" for _, record in appended))
            self._file.flush()
            os.fsync(self._file.fileno())
            self.size += len(appended)
        if rejected:
            with (self._folder / REJECTED).open("ab") as file:
                file.write(b"".join(orjson.dumps(record.decode("latin-1")) + b"\n" for record in rejected))
        return appended

    def _note(self, record: bytes) -> bool:
        """Whether the entry is new. Raises what `_write` takes for a record that is no entry, before it is noted."""
        entry = orjson.loads(record)
        AuditKind(entry["kind"])
        datetime.fromisoformat(entry["at"])
        return self._seen.setdefault((entry["writer"], entry["epoch"]), _Seen()).add(int(entry["sequence"]))

    def close(self) -> None:
        """Close the file and forget what it holds."""
        file, self._file = self._file, None
        self._seen.clear()
        self.size = 0
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def read_entries(folder: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The entries from position `start` on, as they were written. An unfinished last line is left out."""
    path = folder / ENTRIES
    if not path.exists():
        return
    with path.open("rb") as file:
        for position, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            if position >= start:
                yield position, line[:-1]
