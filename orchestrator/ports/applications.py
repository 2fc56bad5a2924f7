"""Calls to connected applications."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ScimRequest:
    """One call, built apart from its sending. `path` is relative to the application's base URL."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ScimResponse:
    """What the application answered. `body` is None when there was none or it was no JSON object."""

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    in_bulk: bool = False
    """Whether it answers one of several operations that went out together (RFC 7644, section 3.7)."""


class ScimTransport(Protocol):
    """Carries calls to one application and lives as long as its lane."""

    async def send(self, request: ScimRequest, *, correlation_id: str = "") -> ScimResponse:
        """Send and return whatever status came back.

        Raises Unavailable when the call cannot have taken effect (no connection), Ambiguous when it may have
        (time-out or reset after it was sent), ApplicationDown when TLS or the host name is wrong.
        """
        ...
