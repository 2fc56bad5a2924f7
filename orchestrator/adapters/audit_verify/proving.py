"""Proofs of single entries: a few tile reads to make one, a checkpoint and a key to check it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from orchestrator.adapters.audit_verify.folder import LogFolder
from orchestrator.domain.merkle import WIDTH, includes, inclusion_proof, leaf_hash
from orchestrator.domain.signed_note import NoteError, VerifierKey, parse_note, signers
from orchestrator.domain.tlog import Damaged, Proof, Tiles, parse_checkpoint, parse_number, parse_proof
from orchestrator.errors import UserError


class Made(NamedTuple):
    """A proof, and how many tiles it took."""

    proof: Proof
    size: int
    tile_reads: int


def prove(folder: Path, entry: str) -> Made:
    """Prove that an entry, by its position or id, is in the newest checkpoint. Raises UserError."""
    log = LogFolder(folder)
    note = log.checkpoint()
    if note is None:
        raise UserError(f"there is no checkpoint in {folder} yet")
    try:
        size = parse_checkpoint(parse_note(note).text).size
        position = parse_number(entry)
        if position is None:
            position = _find(log, entry, size)
        if position >= size:
            raise UserError(f"entry {position} is not signed yet: the newest checkpoint covers {size} entries")
        record = log.bundle(position // WIDTH, size)[position % WIDTH]
        tiles = Tiles(size, log.load)
        hashes = inclusion_proof(position, size, tiles)
    except (Damaged, NoteError) as error:
        raise UserError(f"the audit log in {folder} is damaged: {error}; run `jml audit verify`") from None
    return Made(Proof(position, record, tuple(hashes), note), size, tiles.reads)


def _find(log: LogFolder, entry_id: str, size: int) -> int:
    wanted = orjson.dumps(entry_id)
    for position, record in _covered(log, size):
        if wanted in record and orjson.loads(record).get("id") == entry_id:
            return position
    raise UserError(f"there is no entry {entry_id!r} among the {size} that are signed; name its id or its position")


def _covered(log: LogFolder, size: int) -> Iterator[tuple[int, bytes]]:
    for number in range(-(-size // WIDTH)):
        yield from enumerate(log.bundle(number, size), number * WIDTH)


class Checked(NamedTuple):
    """What a proof shows."""

    position: int
    entry: bytes
    origin: str
    size: int
    signed_by: tuple[str, ...]


def check_proof(data: bytes, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey] = ()) -> Checked:
    """What the proof shows, by nothing but itself and the keys. Raises NoteError, which says what is wrong with it."""
    proof = parse_proof(data)
    note = parse_note(proof.checkpoint)
    checkpoint = parse_checkpoint(note.text)
    signed_by = signers(note, keys)
    if not signed_by:
        raise NoteError(f"its checkpoint is not signed by {' or '.join(map(str, keys))}")
    if checkpoint.origin not in {key.name for key in keys}:
        raise NoteError(f"its checkpoint is of {checkpoint.origin}, not of {keys[0].name}")
    for key in witnesses:
        if not key.signed(note):
            raise NoteError(f"its checkpoint is not signed by the witness {key.name}")
    if not includes(proof.position, checkpoint.size, leaf_hash(proof.entry), proof.hashes, checkpoint.root):
        raise NoteError("the entry is not the one that its checkpoint covers at this position")
    names = tuple(map(str, (*signed_by, *witnesses)))
    return Checked(proof.position, proof.entry, checkpoint.origin, checkpoint.size, names)
