"""Receivers of notices on loopback: an SMTP server and a webhook that believes no signature it has not checked.

The check is the specification's algorithm, written down once more: what we send must satisfy others, not ourselves.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOLERANCE_SECONDS = 300


@dataclass
class Mailbox:
    """What an SMTP server took in. It answers with `refusals`, by recipient, instead of taking a message."""

    port: int = 0
    received: list[tuple[tuple[str, ...], EmailMessage]] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)

    def to(self, address: str) -> list[EmailMessage]:
        """The messages that one address got."""
        return [message for recipients, message in self.received if address in recipients]

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd looks for this name
        """Take or refuse one recipient."""
        if answer := self.refusals.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - same
        """Take one message."""
        message = message_from_bytes(envelope.content, policy=default)
        self.received.append((tuple(envelope.rcpt_tos), message))
        return "250 OK"


@asynccontextmanager
async def mail_server(**settings: Any) -> AsyncIterator[Mailbox]:
    """An SMTP server on a free port. `settings` are those of `aiosmtpd.smtp.SMTP`."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop, **settings), "127.0.0.1", 0)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()


@dataclass
class Hook:
    """What a webhook was sent. `answers` are given first, then 204; a request with a bad signature gets 401."""

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    refused: int = 0
    asked: int = 0


@contextmanager
def webhook(secret: str = SECRET) -> Iterator[Hook]:
    """A webhook on a free port."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            hook.asked += 1
            if not verified(secret, dict(self.headers.items()), body):
                hook.refused += 1
                return self._answer(401, {})
            if hook.answers:
                return self._answer(*hook.answers.pop(0))
            hook.ids.append(self.headers["webhook-id"])
            hook.received.append(json.loads(body))
            return self._answer(204, {})

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}/notices"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def verified(secret: str, headers: dict[str, str], body: bytes, *, now: float | None = None) -> bool:
    """Standard Webhooks, section "Verifying webhook authenticity"."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    told, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "0")
    if abs((time.time() if now is None else now) - int(stamp)) > TOLERANCE_SECONDS:
        return False
    digest = hmac.new(key, f"{told}.{stamp}.".encode() + body, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}"
    return any(hmac.compare_digest(expected, one) for one in headers.get("webhook-signature", "").split(" "))
