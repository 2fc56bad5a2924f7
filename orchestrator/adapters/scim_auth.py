"""Credentials as a header: fixed ones, and tokens that are fetched (OAuth 2 client credentials, RFC 6749 section 4.4).

A fetched token is kept until shortly before it ends, fetched once however many calls wait for it, and thrown away when
an application refuses it.
"""

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import quote_plus

import jwt

from orchestrator.auth_config import AuthConfig, can_be_header
from orchestrator.errors import ApplicationDown, ConfigError, Unavailable
from orchestrator.ports import Clock

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE = timedelta(seconds=120)
LEAST_LIFE_SECONDS = 5.0
DEFAULT_LIFE_SECONDS = 300.0
"""Of a token whose answer names no `expires_in`."""
MARGIN = 0.1
"""A token is renewed when this share of its life is left, and never later than half a minute before its end."""

Post = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[tuple[int, dict[str, Any] | None]]]
"""Posts a form with headers to an URL; returns status and JSON object. Raises Unavailable, ApplicationDown."""


class Credentials(Protocol):
    """What goes into the Authorization header of a call."""

    async def header(self) -> bytes | None:
        """The header's value; None for none. Raises ApplicationDown, Unavailable."""
        ...

    def refused(self, header: bytes | None) -> bool:
        """The application answered 401 to this header; True when another try will bring another one."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same header for every call."""

    value: bytes | None

    async def header(self) -> bytes | None:
        """See `Credentials`."""
        return self.value

    def refused(self, header: bytes | None) -> bool:
        """See `Credentials`."""
        return False


def bearer(token: str | None) -> Fixed:
    """A bearer token (RFC 6750)."""
    return Fixed(f"Bearer {token}".encode() if token else None)


def basic(user: str, password: str) -> Fixed:
    """User and password (RFC 7617)."""
    return Fixed(b"Basic " + base64.b64encode(f"{user}:{password}".encode()))


class Fetched:
    """A token from a token endpoint."""

    def __init__(self, url: str, form: Callable[[], tuple[Mapping[str, str], Mapping[str, str]]], post: Post) -> None:
        self._url = url
        self._form = form
        self._post = post
        self._header: bytes | None = None
        self._renew_at = 0.0
        self._fetching: asyncio.Task[None] | None = None

    async def header(self) -> bytes | None:
        """See `Credentials`."""
        if self._header is None or asyncio.get_running_loop().time() >= self._renew_at:
            if self._fetching is None:
                self._fetching = asyncio.create_task(self._fetch(), name="token")
            await asyncio.shield(self._fetching)
        return self._header

    def refused(self, header: bytes | None) -> bool:
        """See `Credentials`. Of many calls that were refused with one token only the first throws it away."""
        if header is not None and header == self._header:
            self._header = None
        return True

    async def _fetch(self) -> None:
        try:
            try:
                status, body = await self._post(self._url, *self._form())
            except ApplicationDown as error:
                raise ApplicationDown(f"the token endpoint: {error}") from error
            if status >= 500 or status == 429:
                raise Unavailable(f"the token endpoint is unavailable ({status})")
            token = (body or {}).get("access_token")
            if status != 200 or not isinstance(token, str) or not token or not can_be_header(token):
                kind = (body or {}).get("error")
                told = f" {kind[:40]}" if isinstance(kind, str) else ""
                raise ApplicationDown(f"the token endpoint refuses our client ({status}{told}): check auth", status)
            life = _seconds((body or {}).get("expires_in"))
            self._header = f"Bearer {token}".encode()
            early = min(max(life * MARGIN, 30.0), life / 2)
            self._renew_at = asyncio.get_running_loop().time() + max(life - early, LEAST_LIFE_SECONDS)
        finally:
            self._fetching = None


def _seconds(value: Any) -> float:
    try:
        life = float(value)
    except (TypeError, ValueError):
        return DEFAULT_LIFE_SECONDS
    return life if 0 < life < 1e9 else DEFAULT_LIFE_SECONDS


def credentials(app: str, auth: AuthConfig, clock: Clock, post: Post) -> Credentials:
    """What the configuration names, with its secrets read. Raises ConfigError."""
    if auth.type == "basic":
        return basic(auth.user or "", auth.secret(app, "password") or "")
    if auth.type == "mtls":
        return Fixed(None)
    if auth.type == "bearer":
        return bearer(auth.token(app))
    grant = {"grant_type": "client_credentials"}
    grant |= {name: value for name in ("scope", "audience") if (value := getattr(auth, name))}
    url, client = str(auth.token_url), auth.client_id or ""
    if auth.type == "oauth2":
        secret = auth.secret(app, "client_secret") or ""
        # RFC 6749, section 2.3.1: both are form-urlencoded before they become user and password.
        header = {"authorization": (basic(quote_plus(client), quote_plus(secret)).value or b"").decode()}
        return Fetched(url, lambda: (grant, header), post)
    key = auth.secret(app, "private_key") or ""
    try:
        jwt.encode({}, key, auth.algorithm)
    except (ValueError, TypeError, jwt.PyJWTError):
        raise ConfigError(
            [f"apps.{app}.auth.private_key_file: {auth.private_key_file}: holds no key for {auth.algorithm}"]
        ) from None

    def assertion() -> tuple[Mapping[str, str], Mapping[str, str]]:
        """RFC 7523, section 3: who asks, for whom it is meant, and for how long."""
        now = clock.now()
        claims = {
            "iss": client,
            "sub": client,
            "aud": url,
            "iat": now,
            "exp": now + ASSERTION_LIFE,
            "jti": str(uuid.uuid4()),
        }
        headers = {"kid": auth.key_id} if auth.key_id else None
        signed = jwt.encode(claims, key, auth.algorithm, headers=headers)
        return {
            **grant,
            "client_id": client,
            "client_assertion_type": ASSERTION,
            "client_assertion": signed,
        }, {}

    return Fetched(url, assertion, post)
