"""SCIM over HTTP: httpx as the interface, aiohttp underneath (ten times the throughput, see FACTS and decision 0004).

One client per application, as long-lived as its lane. Redirects are never followed: a SCIM endpoint that redirects
is a mistake in the configuration, and following would carry the credentials elsewhere.
"""

import ssl
from collections.abc import Mapping

import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from orchestrator.errors import Ambiguous, ApplicationDown, Unavailable
from orchestrator.ports import ScimRequest, ScimResponse

MAX_ANSWER_BYTES = 16 << 20
USER_AGENT = "jml-orchestrator"
_KEPT_HEADERS = ("retry-after", "etag", "location", "content-type")


class HttpScimTransport:
    """`ports.ScimTransport`."""

    def __init__(self, base_url: str, *, token: str | None, concurrency: int, timeout: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._host = httpx.URL(base_url).host
        self._headers = {
            "accept": "application/scim+json, application/json",
            "user-agent": USER_AGENT,
            **({"authorization": f"Bearer {token}"} if token else {}),
        }
        self._timeout = timeout
        self._concurrency = concurrency
        self._client: httpx.AsyncClient | None = None

    async def send(self, request: ScimRequest, *, correlation_id: str = "") -> ScimResponse:
        """Send one call; see `ports.ScimTransport`."""
        client = self._started()
        headers = {"x-request-id": correlation_id} if correlation_id.isascii() and correlation_id else {}
        content = None
        if request.body is not None:
            content = orjson.dumps(request.body)
            headers["content-type"] = "application/scim+json"
        prepared = client.build_request(
            request.method, self._base_url + request.path, params=request.query, content=content, headers=headers
        )
        try:
            response = await client.send(prepared, stream=True)
            try:
                answer = await self._read(response)
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise ApplicationDown(f"{self._host}: TLS failed: check the certificate") from error
            raise ApplicationDown(f"{self._host} cannot be reached") from error
        except (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Unavailable(f"{self._host}: the call was not sent ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise Ambiguous(
                f"{self._host}: no answer to a call that may have arrived ({type(error).__name__})"
            ) from error
        return ScimResponse(response.status_code, _object(answer), _kept(response.headers))

    async def _read(self, response: httpx.Response) -> bytes:
        """The body, unless it is larger than any SCIM answer has reason to be."""
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise Ambiguous(f"{self._host}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    def _started(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = httpx.Limits(
                max_connections=self._concurrency + 4, max_keepalive_connections=self._concurrency + 4
            )
            timeout = httpx.Timeout(self._timeout, pool=self._timeout * 4)
            self._client = httpx.AsyncClient(
                transport=AiohttpTransport(limits=limits),
                headers=self._headers,
                timeout=timeout,
                follow_redirects=False,
                trust_env=False,
            )
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


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
