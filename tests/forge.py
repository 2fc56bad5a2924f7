"""Audit logs made by hand, out of the formats alone: what an insider with the key could put there, and what tests read.

It shares the pure modules with the writer and none of its code, so that the verifier is tried on something else.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.domain.merkle import HEIGHT, Edge, leaf_hash
from orchestrator.domain.signed_note import SigningKey
from orchestrator.domain.tlog import (
    CHECKPOINT,
    HISTORY,
    VERIFIER,
    Checkpoint,
    bundle_path,
    encode_bundle,
    encode_frame,
    journal_path,
    tile_path,
)
from tests.audit_log import KEY


def put(folder: Path, path: str, data: bytes) -> None:
    """Write one file of the log."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def tree(entries: Iterable[bytes]) -> Edge:
    """The tree over entries."""
    edge = Edge()
    edge.extend(map(leaf_hash, entries))
    return edge


def signed(entries: Sequence[bytes], key: SigningKey = KEY, origin: str | None = None) -> bytes:
    """A checkpoint over exactly these entries."""
    return key.sign(Checkpoint(origin or key.name, len(entries), tree(entries).root()).text()).encode()


def forge(
    folder: Path,
    entries: Sequence[bytes],
    *,
    sizes: Sequence[int] = (),
    key: SigningKey = KEY,
    journal: Sequence[bytes] = (),
) -> Path:
    """A log of these entries with a history of checkpoints at `sizes` and at its end; `journal` is not covered."""
    edge = Edge()
    tiles = edge.extend(map(leaf_hash, entries))
    for level, index, hashes in tiles:
        put(folder, tile_path(level, index), b"".join(hashes))
    for level, hashes in enumerate(edge.levels):
        if hashes:
            put(folder, tile_path(level, edge.size >> HEIGHT * (level + 1), len(hashes)), b"".join(hashes))
    for start in range(0, len(entries), 256):
        held = entries[start : start + 256]
        put(folder, bundle_path(start // 256, len(held)), encode_bundle(held))
    history = [signed(entries[:size], key) for size in (*sizes, len(entries))]
    put(folder, HISTORY, b"".join(note + b"\n" for note in history))
    put(folder, CHECKPOINT, history[-1])
    put(folder, VERIFIER, f"{key.verifier}\n".encode())
    put(folder, journal_path(len(entries)), encode_frame(len(entries), journal) if journal else b"")
    return folder
