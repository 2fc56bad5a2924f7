"""What operators read of the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.health import ApplicationHealth
from orchestrator.domain.person import Person
from orchestrator.ports.resolving import Timer


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The whole store in one look, all of it as of the same instant."""

    persons: Mapping[str, int]
    """By standing."""
    accounts: Mapping[str, Mapping[str, int]]
    """By application and status."""
    parked_leavers: Mapping[str, int]
    """By application: accounts that should be closed and are parked. Each of them is an alarm."""
    open_timers: int
    next_due: datetime | None
    outbox_segments: int
    outbox_oldest: datetime | None
    quarantined: int
    health: Mapping[str, ApplicationHealth]
    held: Mapping[str, int] = field(default_factory=dict)
    """By application: what the breaker holds and nobody has decided yet."""


@dataclass(frozen=True, slots=True)
class ParkedAccount:
    """An account that waits for a person, or for a newer revision."""

    person_id: str
    app: str
    state: str
    since: datetime
    revision: int
    applied_revision: int
    attempts: int
    error_code: str | None
    error: str | None
    event_id: str
    correlation_id: str
    policy: str
    candidates: tuple[str, ...] = ()
    """The ids of the accounts that could be the person's, where there are several."""
    version: int = 0
    """Of the row; see `domain.account.Progress`."""

    @property
    def leaver(self) -> bool:
        """Whether somebody has access who should not."""
        return self.state in ("inactive", "absent")


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account: what it should be, how far that has come, and when it is looked at again."""

    account: Account
    progress: Progress
    attention_at: datetime | None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One audit entry about a person. `position` is its place in the audit log, `values` what is sealed in it."""

    position: int
    at: datetime
    kind: str
    app: str | None
    revision: int | None
    details: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class PersonView:
    """Everything the store knows of one person. The timeline is in the order of the audit log."""

    person: Person
    accounts: Sequence[AccountView]
    timers: Sequence[Timer]
    timeline: Sequence[TimelineEntry]
    subject: str | None = None
    """How the audit log calls the person."""


@dataclass(frozen=True, slots=True)
class QuarantineSummary:
    """A quarantined record without its bytes, of which there may be many."""

    topic: str
    partition: int
    offset: int
    code: str
    reason: str
    bytes: int
    event_id: str | None
    received_at: datetime
