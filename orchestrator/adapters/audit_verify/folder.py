"""The log's files as the verifier reads them, beside a writer that may be at work."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from orchestrator.domain.merkle import WIDTH
from orchestrator.domain.signed_note import NoteError, parse_note
from orchestrator.domain.tlog import (
    CHECKPOINT,
    HASH_BYTES,
    HISTORY,
    Damaged,
    bundle_path,
    journal_path,
    parse_bundle,
    parse_checkpoint,
    parse_journal,
    split_history,
    tile_path,
    tile_width,
)

CHUNK = 1 << 20
BUNDLES = "tile/entries"
_NONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_WHOLE, _PARTIAL, _DEEPER = (re.compile(one, re.ASCII) for one in (r"\d{3}", r"\d{3}\.p", r"x\d{3}"))


class LogFolder:
    """Reads, and says what is missing. Raises Damaged for files that are not what they should be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self) -> bytes | None:
        """The newest checkpoint."""
        return self.read(CHECKPOINT)

    def read(self, path: str) -> bytes | None:
        """A file; None where there is none, or something else in its place."""
        try:
            return (self.folder / path).read_bytes()
        except _NONE:
            return None

    def bundle(self, number: int, size: int) -> list[bytes]:
        """The entries of a bundle in a tree of that size."""
        width = tile_width(size, 0, number)
        data = self.read(bundle_path(number, width))
        if data is None and width < WIDTH:  # filled meanwhile: the partial one is gone
            if (whole := self.read(bundle_path(number))) is None:
                raise Damaged(f"{bundle_path(number, width)} is missing")
            return parse_bundle(whole, WIDTH)[:width]
        if data is None:
            raise Damaged(f"{bundle_path(number)} is missing")
        try:
            return parse_bundle(data, width)
        except Damaged as error:
            raise Damaged(f"{bundle_path(number, width)}: {error}") from None

    def held(self) -> int:
        """The position after the last entry that any bundle holds, by the names of the bundles alone."""
        return _held(self.folder / BUNDLES, 0)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The hashes of a tile, one after the other."""
        data = self.read(tile_path(level, index, width))
        if data is None and width < WIDTH:
            data = (self.read(tile_path(level, index)) or b"")[: width * HASH_BYTES] or None
        if data is None:
            raise Damaged(f"{tile_path(level, index, width)} is missing")
        if len(data) != width * HASH_BYTES:
            raise Damaged(f"{tile_path(level, index, width)} has {len(data)} bytes instead of {width * HASH_BYTES}")
        return data

    def load(self, path: str) -> bytes:
        """For proofs: a tile by its path."""
        full, _, width = path.partition(".p/")
        data = self.read(path)
        if data is None and width:
            data = (self.read(full) or b"")[: int(width) * HASH_BYTES] or None
        if data is None:
            raise Damaged(f"{path} is missing")
        return data

    def journal(self, size: int) -> bytes | None:
        """What came after the checkpoint of that size; None where there is no journal of it."""
        return self.read(journal_path(size))

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """All entries that can be read, by their positions; what cannot is named by whoever verifies.

        Those that were there when it gave the first one: what comes later is not in what they are compared with.
        """
        try:
            size = parse_checkpoint(parse_note(self.checkpoint() or b"").text).size
        except NoteError:
            size = 0
        journal = self.journal(size) or b""
        for number in range(-(-min(size, self.held()) // WIDTH)):
            try:
                yield from enumerate(self.bundle(number, size), number * WIDTH)
            except Damaged:
                continue
        yield from enumerate(parse_journal(journal, size)[0], size)

    def history(self) -> Iterator[bytes]:
        """The checkpoints that were kept, oldest first, up to those that were there when it was called."""
        path = self.folder / HISTORY
        end = path.stat().st_size if path.is_file() else 0
        return self._history(path, end)

    def _history(self, path: Path, end: int) -> Iterator[bytes]:
        if not end:
            return
        rest = b""
        with path.open("rb") as file:
            while end and (chunk := file.read(min(CHUNK, end))):
                end -= len(chunk)
                rest += chunk
                used = 0
                for note in split_history(rest):
                    used += len(note) + 1
                    yield note
                rest = rest[used:]


def _held(folder: Path, before: int) -> int:
    """`before` is the number that the names of the folders above make."""
    ends = [0]
    for name in _names(folder):
        if _DEEPER.fullmatch(name):
            ends.append(_held(folder / name, before * 1000 + int(name[1:])))
        elif _WHOLE.fullmatch(name):
            ends.append((before * 1000 + int(name) + 1) * WIDTH)
        elif _PARTIAL.fullmatch(name):
            widths = [int(width) for width in _names(folder / name) if width.isdecimal()]
            ends.append((before * 1000 + int(name[:3])) * WIDTH + max(widths, default=0))
    return max(ends)


def _names(folder: Path) -> list[str]:
    """What is in a folder; nothing where it is none."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are wanted, and a log has many
    except _NONE:
        return []
