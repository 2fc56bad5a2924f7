"""SCIM over HTTP, on aiohttp itself: nothing is sent as often, and every layer above costs a call more (decision 0004).

One transport per application, as long-lived as its lane. Redirects are never followed: a SCIM endpoint that redirects
is a mistake in the configuration, and following would carry the credentials elsewhere.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from yarl import URL

from orchestrator.adapters.network import PrivateAddress, literal_is_private, session, tls_context
from orchestrator.adapters.scim_auth import Credentials, bearer
from orchestrator.errors import Ambiguous, ApplicationDown, ScimError, Unavailable
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
        self._host = URL(base_url).host or ""
        self._headers = {
            "accept": headers.accept,
            "accept-encoding": "identity",
            "user-agent": headers.user_agent,
        }
        self._content_type = headers.content_type
        self._allow_private = allow_private
        self._tls = tls
        self.credentials: Credentials = bearer(token)
        self._timeout = aiohttp.ClientTimeout(sock_connect=timeout, sock_read=timeout, connect=timeout * 4)
        self._concurrency = concurrency
        self._session: aiohttp.ClientSession | None = None
        self._url = lru_cache(maxsize=256)(URL)

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
        content = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded", **headers}
        answer = await self._exchange("POST", URL(url), content, urlencode(form).encode())
        return answer.status, answer.body

    async def _authorized(self, request: ScimRequest, correlation_id: str, header: bytes | None) -> ScimResponse:
        headers = self._headers.copy()
        if correlation_id and correlation_id.isascii() and correlation_id.isprintable():
            headers["x-request-id"] = correlation_id
        if header is not None:
            headers["authorization"] = header.decode()
        if request.headers:
            headers.update(request.headers)
        content = None
        if request.body is not None:
            content = orjson.dumps(request.body)
            headers["content-type"] = self._content_type
        url = self._base_url + request.path
        if request.query:
            url = f"{url}?{urlencode(request.query, quote_via=quote)}"
        return await self._exchange(request.method, self._url(url), headers, content)

    async def _exchange(self, method: str, url: URL, headers: Mapping[str, str], content: bytes | None) -> ScimResponse:
        host = url.host or ""
        if not self._allow_private and literal_is_private(host):
            raise self._refusal(host)
        try:
            async with self._started().request(
                method, url, headers=headers, data=content, allow_redirects=False, timeout=self._timeout
            ) as response:
                answer = await self._read(response)
                return ScimResponse(response.status, _object(answer), _kept(response.headers))
        except aiohttp.InvalidURL as error:
            raise Unavailable(f"{host}: the call was not sent ({type(error).__name__})") from error
        except aiohttp.ClientError as error:
            raise self._failure(error, host) from error

    def _refusal(self, host: str) -> ScimError:
        return ApplicationDown(
            f"{host} is at a private address: set allow_private = true for {self._app} if it belongs there"
        )

    def _failure(self, error: aiohttp.ClientError, host: str) -> ScimError:
        """What a broken call means. Whether it was sent decides."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return ApplicationDown(f"{host}: TLS failed: check the certificate")
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PrivateAddress):
            return self._refusal(host)
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return ApplicationDown(f"{host} cannot be reached")
        return Ambiguous(f"{host}: no answer to a call that may have arrived ({type(error).__name__})")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, unless it is larger than any SCIM answer has reason to be."""
        parts: list[bytes] = []
        size = 0
        while part := await response.content.readany():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise Ambiguous(f"{self._host}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    def _started(self) -> aiohttp.ClientSession:
        if self._session is None:
            most = self._concurrency + 4
            self._session = session(self._tls(), limit=most, allow_private=self._allow_private)
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        opened, self._session = self._session, None
        if opened is not None:
            await opened.close()


def _object(content: bytes) -> dict[str, Any] | None:
    if not content:
        return None
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None  # an HTML error page: the status says what there is to say
    return value if isinstance(value, dict) else None


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers}
