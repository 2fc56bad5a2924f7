"""How an application as a whole is doing: what the connectors found out, and what operators say."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ApplicationHealth:
    """`open`, `throttled` or `paused`, with the reason; no call goes out before `not_before`.

    What the connectors find out and what an operator says are kept apart: `stop` stands whatever a probe finds.
    """

    state: str
    reason: str = ""
    since: datetime | None = None
    not_before: datetime | None = None
    next_probe: datetime | None = None
    """When a paused application is asked again whether it is back."""
    stop: "OperatorStop | None" = None


@dataclass(frozen=True, slots=True)
class OperatorStop:
    """An operator wants no call to go out to an application, until an operator says otherwise."""

    by: str
    reason: str
    since: datetime
