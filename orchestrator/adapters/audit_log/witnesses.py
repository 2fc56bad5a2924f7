"""Submits checkpoints to a witness (C2SP tlog-witness, `add-checkpoint`) and keeps what it signed."""

import asyncio
import base64
from pathlib import Path

import httpx

from orchestrator.adapters.audit_log.files import DurableFolder
from orchestrator.adapters.audit_log.reading import load_tile
from orchestrator.domain.merkle import consistency_proof
from orchestrator.domain.signed_note import Note, NoteError, VerifierKey, parse_note, parse_signatures
from orchestrator.domain.tlog import WITNESSED, Checkpoint, Damaged, Tiles, parse_checkpoint, parse_number
from orchestrator.errors import WitnessRefused, WitnessUnavailable

TIMEOUT_SECONDS = 10.0


class HttpWitness:
    """`ports.Witness` over HTTP."""

    def __init__(self, folder: Path, url: str, key: VerifierKey, client: httpx.AsyncClient) -> None:
        self.name = key.name
        self._folder = folder
        self._url = f"{url.rstrip('/')}/add-checkpoint"
        self._key = key
        self._client = client
        self._disk = DurableFolder(folder, f".tmp-{key.id.hex()}")
        self._known: int | None = None

    async def cosign(self, note: bytes) -> None:
        """Submit the checkpoint with the proof that it continues the last one that the witness signed."""
        text = parse_note(note).text
        checkpoint = parse_checkpoint(text)
        if self._known is None:
            self._known = await asyncio.to_thread(self._remembered)
        answer = await self._submit(note, checkpoint, min(self._known, checkpoint.size))
        if answer.status_code == 409:
            known = parse_number(answer.text.removesuffix("\n"))
            if known is None:
                raise WitnessRefused(f"the witness {self.name} answered 409 without a size")
            if known > checkpoint.size:
                raise WitnessRefused(
                    f"the witness {self.name} signed a checkpoint of {known} entries and the log has {checkpoint.size}:"
                    " an old state of the log was put back, or another log has its name"
                )
            self._known = known
            answer = await self._submit(note, checkpoint, known)
        if answer.status_code != 200:
            raise _refusal(self.name, answer.status_code)
        await asyncio.to_thread(self._keep, note, text, answer.content)
        self._known = checkpoint.size

    async def _submit(self, note: bytes, checkpoint: Checkpoint, old: int) -> httpx.Response:
        try:
            proof = await asyncio.to_thread(self._proof, old, checkpoint.size)
            head = "".join([f"old {old}\n", *(f"{base64.b64encode(one).decode()}\n" for one in proof), "\n"])
            return await self._client.post(self._url, content=head.encode() + note, timeout=TIMEOUT_SECONDS)
        except httpx.HTTPError as error:
            raise WitnessUnavailable(f"the witness {self.name} does not answer: {type(error).__name__}") from error
        except (Damaged, OSError) as error:
            raise WitnessUnavailable(f"no proof for the witness {self.name} can be made: {error}") from error

    def _proof(self, old: int, size: int) -> list[bytes]:
        return consistency_proof(old, size, Tiles(size, load_tile(self._folder)))

    def _keep(self, note: bytes, text: str, answer: bytes) -> None:
        """Only what the witness's own key signed is kept; others may say what they like."""
        try:
            signatures = parse_signatures(answer)
            ours = tuple(one for one in signatures if (one.name, one.key_id) == (self.name, self._key.id))
            holds = self._key.signed(Note(text, ours))
        except NoteError as error:
            raise WitnessRefused(f"the answer of the witness {self.name} is no cosignature: {error}") from None
        if not holds:
            raise WitnessRefused(f"the answer of the witness {self.name} has no signature of the configured key")
        self._disk.prepare()
        self._disk.write({self._path: note + ours[0].line().encode()})

    def _remembered(self) -> int:
        data = self._disk.read(self._path)
        try:
            return parse_checkpoint(parse_note(data).text).size if data is not None else 0
        except NoteError:
            return 0  # the witness knows better and says so

    @property
    def _path(self) -> str:
        return f"{WITNESSED}/{self._key.id.hex()}"


def _refusal(name: str, status: int) -> WitnessRefused | WitnessUnavailable:
    reasons = {
        400: "it cannot read the request",
        403: "the checkpoint is not signed by the key that it knows for this log",
        404: "it does not know this log",
        409: "it signed another checkpoint meanwhile",
        422: "the checkpoint does not continue the last one that it signed: the log was changed",
    }
    if status in (400, 403, 404, 422):
        return WitnessRefused(f"the witness {name} refuses the checkpoint ({status}): {reasons[status]}")
    return WitnessUnavailable(f"the witness {name} answered {status}: {reasons.get(status, 'try again')}")
