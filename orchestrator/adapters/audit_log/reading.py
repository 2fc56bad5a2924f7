"""Reads the log while another process may be writing it. Knows no key: whoever needs certainty verifies."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator.domain.merkle import WIDTH
from orchestrator.domain.signed_note import NoteError, parse_note
from orchestrator.domain.tlog import (
    CHECKPOINT,
    Checkpoint,
    Damaged,
    bundle_path,
    journal_path,
    parse_bundle,
    parse_checkpoint,
    parse_journal,
    tile_width,
)
from orchestrator.errors import AuditLogDamaged


class Latest(NamedTuple):
    """The newest checkpoint, not verified: what it says, the name of the key that signed it, and the note itself."""

    origin: str
    size: int
    root: bytes
    key: str
    note: bytes


def latest_checkpoint(folder: Path) -> Latest | None:
    """The newest checkpoint; None where there is none yet. Raises AuditLogDamaged."""
    try:
        data = (folder / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None
    try:
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
    except NoteError as error:
        raise AuditLogDamaged(f"{folder / CHECKPOINT} is damaged: {error}") from None
    return Latest(*checkpoint, note.signatures[0].name, data)


def read_entries(folder: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The entries from position `start` on, as they were written, those too that no checkpoint covers yet.

    A batch that is only half written is left out. Raises AuditLogDamaged, and OSError for a file that is missing.
    """
    position, tried = start, -1
    while True:
        covered = _covered(folder)
        while position < covered:
            number, offset = divmod(position, WIDTH)
            for entry in _bundle(folder, number, covered)[offset:]:
                yield position, entry
                position += 1
        tail = _journal(folder, covered)
        if tail is not None:
            yield from enumerate(tail[position - covered :], position)
            return
        # There is no journal: nothing came after this checkpoint, or the next one was made meanwhile.
        if covered == tried:
            return
        tried = covered


def entries_end(folder: Path) -> int:
    """The position after the last entry."""
    while True:
        covered = _covered(folder)
        tail = _journal(folder, covered)
        if tail is not None or covered == _covered(folder):
            return covered + len(tail or ())


def load_tile(folder: Path) -> Callable[[str], bytes]:
    """Reads tiles by their paths; a partial one that is gone is the beginning of the full one (tlog-tiles)."""

    def load(path: str) -> bytes:
        try:
            return (folder / path).read_bytes()
        except FileNotFoundError:
            full, partial, width = path.partition(".p/")
            if not partial:
                raise
            return (folder / full).read_bytes()[: int(width) * 32]

    return load


def checkpoint_of(folder: Path) -> Checkpoint:
    """What the newest checkpoint says; that of an empty log where there is none. Raises AuditLogDamaged."""
    found = latest_checkpoint(folder)
    return Checkpoint("", 0, b"") if found is None else Checkpoint(*found[:3])


def _covered(folder: Path) -> int:
    return checkpoint_of(folder).size


def _journal(folder: Path, covered: int) -> list[bytes] | None:
    try:
        data = (folder / journal_path(covered)).read_bytes()
    except FileNotFoundError:
        return None
    return parse_journal(data, covered)[0]


def _bundle(folder: Path, number: int, size: int) -> list[bytes]:
    width = tile_width(size, 0, number)
    path = folder / bundle_path(number, width)
    try:
        return parse_bundle(path.read_bytes(), width)
    except FileNotFoundError:
        if width == WIDTH:
            raise
        path = folder / bundle_path(number)  # it has been filled meanwhile
        return _parse(path, path.read_bytes(), WIDTH)[:width]
    except Damaged as error:
        raise AuditLogDamaged(f"{path} is damaged: {error}; `jml audit verify` says what else is") from None


def _parse(path: Path, data: bytes, entries: int) -> list[bytes]:
    try:
        return parse_bundle(data, entries)
    except Damaged as error:
        raise AuditLogDamaged(f"{path} is damaged: {error}; `jml audit verify` says what else is") from None
