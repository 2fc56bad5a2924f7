"""What the servers share below SCIM: the ASGI types, the whole body at once, the token, the delay."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

BASE_PATH = "/scim/v2"
ERROR_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:Error"
SCIM_JSON = (b"content-type", b"application/scim+json")


async def read_body(receive: Receive) -> bytes:
    """Return the whole request body; a client that left halfway counts as having sent what arrived."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


async def send_answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send one complete answer. 204 and 304 have no body, and so no content-length (RFC 9110, 8.6)."""
    length = () if status in (204, 304) else ((b"content-length", b"%d" % len(body)),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


def error_body(status: int, detail: str, scim_type: str | None = None) -> bytes:
    """Return a SCIM error, whose status is a string (RFC 7644, 3.12)."""
    error = {"schemas": [ERROR_SCHEMA], "status": str(status), "detail": detail}
    return orjson.dumps(error | {"scimType": scim_type} if scim_type else error)


class Bearer:
    """Refuse every request without the one token, so that all servers refuse it in the same way."""

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._expected = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._authentic(scope["headers"]):
            await self._app(scope, receive, send)
            return
        challenge = (b"www-authenticate", b'Bearer realm="SCIM"')
        body = error_body(401, "a valid bearer token is required")
        await send_answer(send, 401, body, [SCIM_JSON, challenge])

    def _authentic(self, headers: Headers) -> bool:
        for name, value in headers:
            if name == b"authorization":
                scheme, _, token = value.partition(b" ")
                return scheme.lower() == b"bearer" and hmac.compare_digest(token, self._expected)
        return False


class Latency:
    """Wait before the work, as a far away application does; requests wait side by side."""

    def __init__(self, app: App, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(self._seconds)
        await self._app(scope, receive, send)
