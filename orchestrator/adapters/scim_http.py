"""SCIM over HTTP: httpx as the interface, aiohttp underneath (ten times the throughput, see decision 0004).

One transport per application, as long-lived as its lane. Redirects are never followed: a SCIM endpoint that redirects
is a mistake in the configuration, and following would carry the credentials elsewhere.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from orchestrator.adapters.network import PrivateAddress, literal_is_private, session, tls_context
from orchestrator.adapters.scim_auth import Credentials, bearer
from orchestrator.errors import Ambiguous, ApplicationDown, Rejected, ScimError, TooLarge, Unavailable
from orchestrator.metrics import CALL_SECONDS, CALLS
from orchestrator.ports import ScimRequest, ScimResponse

MAX_ANSWER_BYTES = 16 << 20
USER_AGENT = "jml-orchestrator"
_KEPT_HEADERS = ("retry-after", "etag", "location", "content-type")


@dataclass(frozen=True, slots=True)
class Headers:
    """What an application wants to be told with every call."""

    accept: str = "application/scim+json, application/json"
    content_type: str = "application/scim+json"
    user_agent: str = USER_AGENT


class HttpScimTransport:
    """`ports.ScimTransport`."""

    def __init__(
        self,
        app: str,
        base_url: str,
        *,
        concurrency: int,
        timeout: float,
        token: str | None = None,
        headers: Headers = Headers(),
        allow_private: bool = False,
        tls: Callable[[], ssl.SSLContext] = tls_context,
    ) -> None:
        self._app = app
        self._base_url = base_url.rstrip("/")
        self._host = httpx.URL(base_url).host
        self._headers = [
            (b"accept", headers.accept.encode()),
            (b"accept-encoding", b"identity"),
            (b"user-agent", headers.user_agent.encode()),
        ]
        self._content_type = headers.content_type.encode()
        self._allow_private = allow_private
        self._tls = tls
        self.credentials: Credentials = bearer(token)
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
        answer = await self._authorized(request, correlation_id, header := await self.credentials.header())
        if answer.status == 401 and self.credentials.refused(header):
            # A refused call was not carried out, so it may be sent again, whatever it is.
            answer = await self._authorized(request, correlation_id, await self.credentials.header())
        return answer

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any] | None]:
        """Post a form to a token endpoint, by the same rules about addresses and certificates."""
        request = httpx.Request(
            "POST", url, headers={"accept": "application/json", **headers}, data=dict(form), extensions=self._extensions
        )
        answer = await self._exchange(request)
        return answer.status, answer.body

    async def _authorized(self, request: ScimRequest, correlation_id: str, header: bytes | None) -> ScimResponse:
        return await self._exchange(self._prepared(request, correlation_id, header))

    async def _exchange(self, request: httpx.Request) -> ScimResponse:
        if not self._allow_private and literal_is_private(request.url.host):
            raise self._refusal(request.url.host)
        try:
            response = await self._started().handle_async_request(request)
            try:
                answer = await self._read(response)
            finally:
                await response.aclose()
        except (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Unavailable(f"{request.url.host}: the call was not sent ({type(error).__name__})") from error
        except (httpx.HTTPError, aiohttp.ClientError) as error:  # some of aiohttp's come as they are
            raise self._failure(error, request.url) from error
        return ScimResponse(response.status_code, _object(answer), _kept(response.headers, empty=not answer))

    def _prepared(self, request: ScimRequest, correlation_id: str, authorization: bytes | None) -> httpx.Request:
        """The request, made by hand: what httpx's client adds to each (cookies, redirects, merging, encodings) costs
        more than sending it."""
        headers = list(self._headers)
        if correlation_id and correlation_id.isascii() and correlation_id.isprintable():
            headers.append((b"x-request-id", correlation_id.encode()))
        if authorization is not None:
            headers.append((b"authorization", authorization))
        if request.headers:
            headers += [(name.encode(), value.encode()) for name, value in request.headers.items()]
        content = b""
        if request.body is not None:
            content = orjson.dumps(request.body)
            headers.append((b"content-type", self._content_type))
        url = self._base_url + request.path
        if request.query:
            url = f"{url}?{urlencode(request.query, quote_via=quote)}"
        try:
            address = self._url(url)
        except httpx.InvalidURL:
            raise Rejected(f"{self._host}: no address can carry an id or a value of {len(url)} characters") from None
        prepared = httpx.Request(
            request.method,
            address,
            headers=headers,
            stream=httpx.ByteStream(content),
            extensions=self._extensions,
        )
        prepared.read()
        return prepared

    def _refusal(self, host: str) -> ScimError:
        return ApplicationDown(
            f"{host} is at a private address: set allow_private = true for {self._app} if it belongs there"
        )

    def _failure(self, error: Exception, url: httpx.URL) -> ScimError:
        """What a broken call means. Whether it was sent decides, and the transport's mapping does not say: it names a
        connection that broke after the request ConnectTimeout, so the cause underneath is asked."""
        cause, host = error if isinstance(error, aiohttp.ClientError) else error.__cause__, url.host
        if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return ApplicationDown(f"{host}: TLS failed: {_tls_trouble(cause)}")
        if isinstance(cause, aiohttp.ClientConnectorError) and isinstance(cause.os_error, PrivateAddress):
            return self._refusal(host)
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return ApplicationDown(f"{_place(url)} cannot be reached: {_connect_trouble(cause)}")
        return Ambiguous(f"{host}: no answer to a call that may have arrived ({type(cause or error).__name__})")

    async def _read(self, response: httpx.Response) -> bytes:
        """The body, unless it is larger than any SCIM answer has reason to be."""
        parts: list[bytes] = []
        size = 0
        encoded = "content-encoding" in response.headers
        async for part in response.aiter_bytes() if encoded else response.aiter_raw():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise TooLarge(f"{self._host}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    def _started(self) -> AiohttpTransport:
        if self._transport is None:
            most, tls = self._concurrency + 4, self._tls()
            connect = partial(session, tls, limit=most, allow_private=self._allow_private)
            self._transport = AiohttpTransport(verify=tls, client=connect, trust_env=False)
        return self._transport

    async def close(self) -> None:
        """Close the connections."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()


def _place(url: httpx.URL) -> str:
    """Host and port: where several listen on a host, it says which."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def _tls_trouble(error: Exception) -> str:
    """Why a certificate is not believed, or why there is no TLS; the words are OpenSSL's and name nobody."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        told = cause.verify_message.rstrip(".")
        return f"{told}: correct the certificate there, or name its authority in auth.ca_file"
    reason = getattr(cause, "reason", None)
    return (
        f"{str(reason).lower().replace('_', ' ')}: check base_url and its port" if reason else "check the certificate"
    )


def _connect_trouble(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "nobody knows that name (DNS): check base_url"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection within timeout_seconds"
    cause = getattr(error, "os_error", None)
    return f"{(os.strerror(cause.errno) if cause is not None and cause.errno else 'no connection').lower()}"


def _object(content: bytes) -> dict[str, Any] | None:
    if not content:
        return None
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None  # an HTML error page: the status says what there is to say
    return value if isinstance(value, dict) else None


def _kept(headers: Mapping[str, str], *, empty: bool) -> dict[str, str]:
    """The headers that somebody asks for. What an answer without content claims to be says nothing: frameworks call it
    HTML, and a page for people it is not."""
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers and not (empty and name == "content-type")}
