"""`jml audit witness`: signs a checkpoint only if it continues the last one that it signed, and remembers that.

Run it where whoever writes the log cannot reach: another machine, another team. Its state is a file per log.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from orchestrator.adapters.audit_log.files import DurableFolder
from orchestrator.domain.signed_note import NoteError, SigningKey, VerifierKey, parse_note
from orchestrator.domain.tlog import Checkpoint, parse_checkpoint
from orchestrator.domain.witness import MAX_REQUEST_BYTES, Answer, judge, read_request
from orchestrator.errors import ConfigError
from orchestrator.listening import listener
from orchestrator.ports import Clock

log = structlog.get_logger()

TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"


class Witness:
    """An ASGI application: `POST /add-checkpoint`, and `GET /ORIGIN_HASH/checkpoint` for monitors."""

    def __init__(self, folder: Path, key: SigningKey, logs: Sequence[VerifierKey], clock: Clock) -> None:
        self._disk = DurableFolder(folder)
        self._key = key
        self._clock = clock
        self._logs: dict[str, list[VerifierKey]] = {}
        for one in logs:
            self._logs.setdefault(one.name, []).append(one)
        self._turn = asyncio.Lock()

    def open(self) -> None:
        """Make the folder, and read what was signed. Raises ConfigError where that is damaged: it must not sign anew
        what it may have signed otherwise."""
        self._disk.prepare()
        for origin in self._logs:
            self._latest(origin)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        path, method = scope.get("path", ""), scope.get("method")
        if path == "/add-checkpoint" and method == "POST":
            body = await _body(receive)
            answer = await self.add_checkpoint(body) if body is not None else Answer(413, "the request is too large\n")
            await _answer(send, answer.status, answer.body, SIZE if answer.status == 409 else TEXT)
        elif path.endswith("/checkpoint") and method == "GET":
            origins = {f"/{sha256(origin.encode()).hexdigest()}/checkpoint": origin for origin in self._logs}
            note = self._disk.read(_path(origins[path])) if path in origins else None
            await _answer(send, *((200, note.decode()) if note else (404, "nothing was signed for this log\n")), TEXT)
        else:
            await _answer(send, 404, "not found\n", TEXT)

    async def add_checkpoint(self, body: bytes) -> Answer:
        """Judge, sign, remember, answer: one request after the other, so that none is judged by an old state."""
        try:
            submitted = read_request(body)
        except NoteError as error:
            return Answer(400, f"{error}\n")
        async with self._turn:
            answer = judge(submitted, self._logs, self._latest(submitted.checkpoint.origin))
            if answer.note is None:
                log.warning("checkpoint_refused", code=str(answer.status), reason=answer.body.strip())
                return answer
            line = self._key.cosign(answer.note.text, int(self._clock.now().timestamp())).line()
            kept = answer.note.encode() + line.encode()
            await asyncio.to_thread(self._disk.write, {_path(submitted.checkpoint.origin): kept})
            return answer._replace(body=line)

    def _latest(self, origin: str) -> Checkpoint | None:
        data = self._disk.read(_path(origin)) if origin in self._logs else None
        if data is None:
            return None
        try:
            note = parse_note(data)
            if self._key.verifier.signed(note):
                return parse_checkpoint(note.text)
        except NoteError as error:
            raise ConfigError([f"{self._disk.folder / _path(origin)}: it is damaged: {error}"]) from None
        raise ConfigError([f"{self._disk.folder / _path(origin)}: another key signed it: name another folder"])


async def serve(witness: Witness, host: str, port: int) -> None:
    """Serve until SIGTERM. Raises UserError where the port is taken."""
    await asyncio.to_thread(witness.open)
    taken = listener(host, port, "name another --port")
    config = uvicorn.Config(witness, access_log=False, lifespan="off", log_config=None, server_header=False)
    await uvicorn.Server(config).serve([taken])


def _path(origin: str) -> str:
    return f"{sha256(origin.encode()).hexdigest()}.checkpoint"


async def _body(receive: Any) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_REQUEST_BYTES or message["type"] == "http.disconnect":
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _answer(send: Any, status: int, body: str, content_type: str) -> None:
    data = body.encode()
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
