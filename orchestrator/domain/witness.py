"""What a witness answers to a checkpoint, decided from what it signed last. Pure.

Source: C2SP tlog-witness, `add-checkpoint`.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator.domain.merkle import EMPTY_ROOT, continues
from orchestrator.domain.signed_note import Note, NoteError, VerifierKey, parse_note, signers
from orchestrator.domain.tlog import HASH_BYTES, Checkpoint, parse_checkpoint, parse_number

MOST_HASHES = 63
MAX_REQUEST_BYTES = 64 << 10


class Answer(NamedTuple):
    """Status and body. With 200 the `note` is to be cosigned, and kept before anybody hears of it."""

    status: int
    body: str
    checkpoint: Checkpoint | None = None
    note: Note | None = None


class Submitted(NamedTuple):
    """A request that could be read."""

    old: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint


def read_request(body: bytes) -> Submitted:
    """Raises NoteError for a request that breaks the format (400)."""
    head, _, rest = body.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    old = parse_number(lines[0].removeprefix("old ")) if lines[0].startswith("old ") else None
    if old is None or len(lines) - 1 > MOST_HASHES:
        raise NoteError("the request has to begin with the old size and at most 63 hashes")
    try:
        proof = tuple(base64.b64decode(line, validate=True) for line in lines[1:])
    except (binascii.Error, ValueError):
        raise NoteError("a hash of the proof is not base64") from None
    if any(len(one) != HASH_BYTES for one in proof):
        raise NoteError(f"a hash of the proof has not {HASH_BYTES} bytes")
    note = parse_note(rest)
    return Submitted(old, proof, note, parse_checkpoint(note.text))


def judge(submitted: Submitted, logs: Mapping[str, Sequence[VerifierKey]], latest: Checkpoint | None) -> Answer:
    """Whether to sign. `logs` has the keys of every log by its origin, `latest` what was signed for this one."""
    old, proof, note, checkpoint = submitted
    keys = logs.get(checkpoint.origin)
    if keys is None:
        return Answer(404, f"the log {checkpoint.origin} is not known here\n")
    try:
        if not signers(note, keys):
            return Answer(403, "the checkpoint is not signed by a key that is known here\n")
    except NoteError as error:
        return Answer(403, f"{error}\n")
    if old > checkpoint.size:
        return Answer(400, "the old size is larger than the checkpoint's\n")
    known = latest or Checkpoint(checkpoint.origin, 0, EMPTY_ROOT)
    if old != known.size:
        return Answer(409, f"{known.size}\n")
    if not continues(old, known.root, checkpoint.size, checkpoint.root, proof):
        return Answer(422, "the checkpoint does not continue the one that was signed last\n")
    return Answer(200, "", checkpoint, note)
