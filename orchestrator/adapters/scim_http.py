"""SCIM over HTTP: httpx as the interface, aiohttp underneath (ten times the throughput, see decision 0004).

One transport per application, as long-lived as its lane. Redirects are never followed: a SCIM endpoint that redirects
is a mistake in the configuration, and following would carry the credentials elsewhere.
"""

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, urlencode

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from orchestrator.errors import Ambiguous, ApplicationDown, ScimError, Unavailable
from orchestrator.metrics import CALL_SECONDS, CALLS
from orchestrator.ports import ScimRequest, ScimResponse

MAX_ANSWER_BYTES = 16 << 20
USER_AGENT = b"jml-orchestrator"
_KEPT_HEADERS = ("retry-after", "etag", "location", "content-type")


class HttpScimTransport:
    """`ports.ScimTransport`."""

    def __init__(self, app: str, base_url: str, *, token: str | None, concurrency: int, timeout: float) -> None:
        self._app = app
        self._base_url = base_url.rstrip("/")
        self._host = httpx.URL(base_url).host
        self._headers = [
            (b"accept", b"application/scim+json, application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", USER_AGENT),
            *([(b"authorization", f"Bearer {token}".encode())] if token else []),
        ]
        self._extensions = {"timeout": {"connect": timeout, "read": timeout, "write": timeout, "pool": timeout * 4}}
        self._concurrency = concurrency
        self._transport: AiohttpTransport | None = None
        self._url = lru_cache(maxsize=256)(httpx.URL)

    async def send(self, request: ScimRequest, *, correlation_id: str = "") -> ScimResponse:
        """Send one call; see `ports.ScimTransport`."""
        status = "none"
        try:
            with CALL_SECONDS.labels(self._app).time():
                response = await self._send(request, correlation_id)
            status = str(response.status)
            return response
        finally:
            CALLS.labels(self._app, request.method, status).inc()

    async def _send(self, request: ScimRequest, correlation_id: str) -> ScimResponse:
        try:
            response = await self._started().handle_async_request(self._prepared(request, correlation_id))
            try:
                answer = await self._read(response)
            finally:
                await response.aclose()
        except (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Unavailable(f"{self._host}: the call was not sent ({type(error).__name__})") from error
        except (httpx.HTTPError, aiohttp.ClientError) as error:  # some of aiohttp's come as they are
            raise self._failure(error) from error
        return ScimResponse(response.status_code, _object(answer), _kept(response.headers))

    def _prepared(self, request: ScimRequest, correlation_id: str) -> httpx.Request:
        """The request, made by hand: what httpx's client adds to each (cookies, redirects, merging, encodings) costs
        more than sending it."""
        headers = list(self._headers)
        if correlation_id and correlation_id.isascii() and correlation_id.isprintable():
            headers.append((b"x-request-id", correlation_id.encode()))
        content = b""
        if request.body is not None:
            content = orjson.dumps(request.body)
            headers.append((b"content-type", b"application/scim+json"))
        url = self._base_url + request.path
        if request.query:
            url = f"{url}?{urlencode(request.query, quote_via=quote)}"
        prepared = httpx.Request(
            request.method,
            self._url(url),
            headers=headers,
            stream=httpx.ByteStream(content),
            extensions=self._extensions,
        )
        prepared.read()
        return prepared

    def _failure(self, error: Exception) -> ScimError:
        """What a broken call means. Whether it was sent decides, and the transport's mapping does not say: it names a
        connection that broke after the request ConnectTimeout, so the cause underneath is asked."""
        cause = error if isinstance(error, aiohttp.ClientError) else error.__cause__
        if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return ApplicationDown(f"{self._host}: TLS failed: check the certificate")
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return ApplicationDown(f"{self._host} cannot be reached")
        return Ambiguous(f"{self._host}: no answer to a call that may have arrived ({type(cause or error).__name__})")

    async def _read(self, response: httpx.Response) -> bytes:
        """The body, unless it is larger than any SCIM answer has reason to be."""
        parts: list[bytes] = []
        size = 0
        encoded = "content-encoding" in response.headers
        async for part in response.aiter_bytes() if encoded else response.aiter_raw():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise Ambiguous(f"{self._host}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    def _started(self) -> AiohttpTransport:
        if self._transport is None:
            most = self._concurrency + 4
            self._transport = AiohttpTransport(
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most), trust_env=False
            )
        return self._transport

    async def close(self) -> None:
        """Close the connections."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()


def _object(content: bytes) -> dict[str, object] | None:
    if not content:
        return None
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None  # an HTML error page: the status says what there is to say
    return value if isinstance(value, dict) else None


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers}
