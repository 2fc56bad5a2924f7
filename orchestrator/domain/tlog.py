"""The files of a tiled transparency log: paths, entry bundles, tiles, checkpoints, proofs, and our journal.

Source: C2SP tlog-tiles, tlog-checkpoint v1.0.0 and tlog-proof v1. The journal is ours: it holds what no checkpoint
covers yet. Pure: values in, values out.
"""

import base64
import binascii
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from orchestrator.domain.merkle import HEIGHT, WIDTH, perfect_root
from orchestrator.domain.signed_note import NoteError

MAX_ENTRY_BYTES = (1 << 16) - 1
"""A bundle says the length of an entry in two bytes."""
HASH_BYTES = 32
CHECKPOINT = "checkpoint"
"""The newest checkpoint."""
HISTORY = "checkpoints"
"""All checkpoints that were ever signed, oldest first, each followed by an empty line."""
WITNESSED = "witnessed"
"""A folder: the newest checkpoint that each witness signed too, named by the id of its key."""
REJECTED = "rejected.jsonl"
"""Records that could not become entries, each with the reason."""
VERIFIER = "key.pub"
"""The verifier keys of the log, one a line, for whoever has no better place to get them from."""
PROOF = "c2sp.org/tlog-proof@v1"


class Damaged(ValueError):
    """A file of the log is not what it should be; the message says how."""


# --- paths ------------------------------------------------------------------------------------------------------------


def _numbered(index: int, width: int) -> str:
    steps = [f"{index % 1000:03}"]
    while index := index // 1000:
        steps.append(f"x{index % 1000:03}")
    return "/".join(reversed(steps)) + ("" if width == WIDTH else f".p/{width}")


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Where a tile of hashes is."""
    return f"tile/{level}/{_numbered(index, width)}"


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Where a bundle of entries is."""
    return f"tile/entries/{_numbered(index, width)}"


def tile_width(size: int, level: int, index: int) -> int:
    """How many hashes a tile has in a tree of that size; 0 where there is no such tile."""
    return max(0, min(WIDTH, (size >> HEIGHT * level) - index * WIDTH))


def journal_path(size: int) -> str:
    """Where the entries are that came after the checkpoint of that size."""
    return f"journal/{size:020}"


# --- entries ----------------------------------------------------------------------------------------------------------


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries behind their lengths, two bytes each, big-endian."""
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def parse_bundle(data: bytes, entries: int) -> list[bytes]:
    """Exactly that many entries. Raises Damaged, which names the first that is not there."""
    found: list[bytes] = []
    place, end = 0, len(data)
    while place < end:
        start = place + 2
        place = start + int.from_bytes(data[place:start], "big")
        if place > end:
            raise Damaged(f"entry {len(found)} of the file is cut off")
        found.append(data[start:place])
    if len(found) != entries:
        raise Damaged(f"it holds {len(found)} entries instead of {entries}")
    return found


_FRAME = struct.Struct(">4sQIII")
_MAGIC = b"jml1"


def encode_frame(position: int, entries: Sequence[bytes]) -> bytes:
    """One batch of the journal: where it begins, how many entries and bytes, a checksum, and the entries."""
    payload = encode_bundle(entries)
    head = _FRAME.pack(_MAGIC, position, len(entries), len(payload), 0)
    return head[:-4] + crc32(payload, crc32(head[:-4])).to_bytes(4, "big") + payload


def parse_journal(data: bytes, position: int) -> tuple[list[bytes], int]:
    """The entries from `position` on, and how many bytes of the data they are.

    What follows was being written when its process died: it was never acknowledged and comes again.
    """
    entries: list[bytes] = []
    place = 0
    while place + _FRAME.size <= len(data):
        magic, first, count, length, checksum = _FRAME.unpack_from(data, place)
        payload = data[place + _FRAME.size : place + _FRAME.size + length]
        head = data[place : place + _FRAME.size - 4]
        if magic != _MAGIC or len(payload) < length or crc32(payload, crc32(head)) != checksum:
            break
        if first != position + len(entries):
            break
        try:
            entries += parse_bundle(payload, count)
        except Damaged:
            break
        place += _FRAME.size + length
    return entries, place


def frame_after(data: bytes, place: int) -> int | None:
    """The position at which a whole batch begins behind a broken one; None where the rest is but an unfinished one."""
    while (place := data.find(_MAGIC, place + 1)) >= 0:
        if place + _FRAME.size <= len(data):
            first = int(_FRAME.unpack_from(data, place)[1])
            if parse_journal(data[place:], first)[1]:
                return first
    return None


# --- hashes -----------------------------------------------------------------------------------------------------------


def parse_tile(data: bytes, width: int) -> list[bytes]:
    """The hashes of a tile. Raises Damaged."""
    if len(data) != width * HASH_BYTES:
        raise Damaged(f"it has {len(data)} bytes instead of {width * HASH_BYTES}")
    return [data[place : place + HASH_BYTES] for place in range(0, len(data), HASH_BYTES)]


class Tiles:
    """Perfect subtrees of a tree of `size` out of its tiles (`merkle.Subtree`); each tile is loaded once."""

    def __init__(self, size: int, load: Callable[[str], bytes]) -> None:
        self._size = size
        self._load = load
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    @property
    def reads(self) -> int:
        """How many tiles were loaded."""
        return len(self._tiles)

    def __call__(self, height: int, index: int) -> bytes:
        """Raises Damaged, and what `load` raises."""
        level, inner = divmod(height, HEIGHT)
        tile, offset = divmod(index << inner, WIDTH)
        hashes = self._tiles.get((level, tile))
        if hashes is None:
            width = tile_width(self._size, level, tile)
            path = tile_path(level, tile, width)
            try:
                hashes = parse_tile(self._load(path), width)
            except Damaged as error:
                raise Damaged(f"{path}: {error}") from None
            self._tiles[level, tile] = hashes
        return perfect_root(hashes[offset : offset + (1 << inner)])


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """What a checkpoint says: which log, how many entries, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of a note's text. Raises NoteError."""
    lines = text.split("\n")
    if len(lines) < 4 or not all(lines[:-1]):
        raise NoteError("it is no checkpoint: three lines are needed, origin, size and root")
    return Checkpoint(lines[0], _number(lines[1], "the size"), _hash(lines[2], "the root"))


def split_history(data: bytes) -> Iterator[bytes]:
    """The notes of the history one by one; a last one that is not finished is left out."""
    start = 0
    while (body := data.find(b"\n\n", start)) >= 0 and (end := data.find(b"\n\n", body + 2)) >= 0:
        yield data[start : end + 1]
        start = end + 2


# --- proofs -----------------------------------------------------------------------------------------------------------


class Proof(NamedTuple):
    """That `entry` is at `position` of the tree of the checkpoint; complete in itself, to be verified offline."""

    position: int
    entry: bytes
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """A C2SP tlog-proof; its `extra` line carries the entry."""
        lines = [
            PROOF,
            f"extra {base64.b64encode(self.entry).decode()}",
            f"index {self.position}",
            *(base64.b64encode(one).decode() for one in self.hashes),
        ]
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint


def parse_proof(data: bytes) -> Proof:
    """Raises NoteError for what is no proof file of ours."""
    head, empty, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode().split("\n")
    except UnicodeDecodeError:
        raise NoteError("it is not UTF-8") from None
    if not empty or lines[0] != PROOF or len(lines) < 3:
        raise NoteError(f"it is no proof: it has to begin with {PROOF}")
    if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise NoteError("it has no entry or no index")
    try:
        entry = base64.b64decode(lines[1].removeprefix("extra "), validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("the entry in it is not base64") from None
    hashes = tuple(_hash(line, "a hash") for line in lines[3:])
    return Proof(_number(lines[2].removeprefix("index "), "the index"), entry, hashes, checkpoint)


def parse_number(text: str) -> int | None:
    """A decimal as these formats write it: no sign, no leading zero; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0") else None


def _number(text: str, what: str) -> int:
    number = parse_number(text)
    if number is None:
        raise NoteError(f"{what} in it is no number")
    return number


def _hash(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{what} in it is not base64") from None
    if len(data) != HASH_BYTES:
        raise NoteError(f"{what} in it has {len(data)} bytes instead of {HASH_BYTES}")
    return data
