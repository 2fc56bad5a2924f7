"""The journal of a server: every request it answered, as an independent judge reads it afterwards.

The orchestrator's own records say what it believes it did. The journal says what an application was really
asked and really answered, so a test or a demo compares the two. A line therefore exists before its answer
leaves the server: an answer that somebody saw is always in the journal, also when the server is killed next.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from .asgi import SCIM_JSON, App, Message, Receive, Scope, Send, error_body, read_body, send_answer

# Kept for correlation. An allow-list, so that no credential is ever one forgotten name away from the file.
_REQUEST_HEADERS = frozenset({b"traceparent", b"x-request-id"})
_RESPONSE_HEADERS = frozenset({b"retry-after"})


class Journal:
    """ASGI middleware that appends one JSON line per answered request to a file.

    Put it outermost, so that refusals (a missing token, an injected fault) are witnessed too. Each line is one
    unbuffered write: it survives the death of the process (not of the machine, which no judge asks about).
    """

    def __init__(self, app: App, path: Path) -> None:
        self._app = app
        self._path = path
        self._file: FileIO | None = None
        self._seq = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received_at = _now()
        # Read here and not by the app: a refused request has a body worth keeping as well.
        exchange = _Exchange(await read_body(receive), receive)

        async def witness(message: Message) -> None:
            if exchange.take(message):
                self._append(scope, received_at, exchange)
                await send(exchange.start)
                await send({"type": "http.response.body", "body": exchange.answer})

        try:
            await self._app(scope, exchange.receive, witness)
        except Exception:
            # The HTTP server would answer 500 behind our back.
            if not exchange.complete:
                exchange.answer = b""
                await send_answer(witness, 500, error_body(500, "the server failed"), [SCIM_JSON])
            raise

    def _append(self, scope: Scope, received_at: str, exchange: "_Exchange") -> None:
        # No await between the number and the write, so the lines stand in the order of their numbers.
        file = self._file or self._open()
        self._seq += 1
        headers = _selected(scope["headers"], _REQUEST_HEADERS) | _selected(
            exchange.start.get("headers", ()), _RESPONSE_HEADERS
        )
        line = {
            "seq": self._seq,
            "received_at": received_at,
            "answered_at": _now(),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "status": exchange.start["status"],
            "request": _parsed(exchange.body),
            "response": _parsed(exchange.answer),
            "headers": headers,
        }
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _open(self) -> FileIO:
        """Open on the first answer, going on from the last number of an earlier run of the same server."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            with self._path.open("rb") as lines:
                self._seq = sum(1 for _ in lines)
        self._file = self._path.open("ab", buffering=0)
        return self._file


class _Exchange:
    """One request and the answer to it, held back until it is complete."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body = body
        self.start: Message = {}
        self.answer = b""
        self.complete = False
        self._receive = receive
        self._replayed = False

    async def receive(self) -> Message:
        if self._replayed:
            return await self._receive()  # the client leaving, which a slow handler may wait for
        self._replayed = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    def take(self, message: Message) -> bool:
        """Take a part of the answer and tell whether it was the last one."""
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.answer += message.get("body", b"")
            self.complete = not message.get("more_body", False)
        return self.complete


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _selected(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers if name.lower() in names}


def _parsed(body: bytes) -> Any:
    """Return a body as JSON, or None when it is empty or something else (a garbled answer is a fault we inject)."""
    if not body:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
