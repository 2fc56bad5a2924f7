"""One person's account in one application: what it should be, and how far the connector has come.

`Account` belongs to the resolver, `Progress` to the connector. They meet in one row; neither writes the other's part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from orchestrator.domain.sealing import Subject
from schemas.commands import CommandKind, DesiredState, Lane

Hold = Literal["held", "rejected"]

REPLICA_LAG = timedelta(seconds=60)
"""A read may be answered with a picture of so long ago: by a replica that is behind, as two clocks see it that differ
by up to half a minute."""


@dataclass(frozen=True, slots=True)
class Account:
    """The desired state. `revision` rises by one with every change of it, so that revisions are dense.

    `since` is the effective instant of `state`; `event_id` and `correlation_id` name what caused the revision.
    `issued_at` is when the revision was saved, `subject` the person in the audit log: both are known of an account that
    was loaded, and say nothing about what it should be. `hold` marks what the breaker keeps from being issued: only the
    resolver sees such an account, its row is as issued last.
    """

    person_id: str
    app: str
    revision: int
    state: DesiredState
    resource: Mapping[str, Any]
    groups: tuple[str, ...]
    since: datetime
    event_id: str
    correlation_id: str
    policy: str
    issued_at: datetime | None = field(default=None, compare=False)
    subject: Subject | None = field(default=None, compare=False, repr=False)
    hold: Hold | None = None
    number: int = field(default=1, compare=False)
    """Which of its names the connector found free, as of when the account was loaded; see `domain.unique_names`."""


class AccountStatus(StrEnum):
    """Where the account stands on its way to the desired state."""

    PENDING = "pending"
    APPLIED = "applied"
    RETRYING = "retrying"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the connector knows. `version` is the fence: every save raises it and is refused when it moved meanwhile.

    `intent` is set while a call's outcome is unknown; whoever finds it set reads the account back before trusting
    `resource`, `active` and `groups`, which are the application's state as last seen (only what we map).
    """

    version: int = 0
    applied_revision: int = 0
    remote_id: str | None = None
    active: bool | None = None
    resource: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    intent: str | None = None
    status: AccountStatus = AccountStatus.PENDING
    attempts: int = 0
    error_code: str | None = None
    error: str | None = None
    refers_to: str | None = None
    """The person whose account in the same application this one names, its manager's; see `domain.references`."""
    number: int = 1
    """Which candidate of its unique names the account has, or is about to have."""
    candidates: tuple[str, ...] = ()
    """The ids of the accounts that could be the person's, where there are several and a person has to say which."""
    left_groups: tuple[str, ...] = ()
    """Groups that we took the account out of, so that who is found in one again was put there behind our back."""
    appeared_at: datetime | None = None
    """When the account became known here; kept while a read may be older than it."""
    reopened_at: datetime | None = None
    """When an account that was there was opened; kept while a read may be older than that."""

    def may_be_unseen(self, now: datetime) -> bool:
        """Whether a read that does not show the account may be older than it, and proves nothing."""
        return is_recent(self.appeared_at, now)

    def may_look_closed(self, now: datetime) -> bool:
        """Whether a read that shows the account closed may be from before we opened it, and proves nothing."""
        return is_recent(self.reopened_at, now)


def is_recent(at: datetime | None, now: datetime) -> bool:
    """Whether a read at `now` may be older than what happened at `at`. An instant ahead of our clock is recent."""
    return at is not None and now - at < REPLICA_LAG


def command_kind(before: Account | None, state: DesiredState) -> CommandKind:
    """What the resolver expects the connector to do to get from `before` to `state`."""
    known = before.state if before is not None else "absent"
    if state == "absent":
        return "delete"
    if state == "inactive" or (state, known) == ("staged", "active"):
        return "deactivate"
    if known == "absent":
        return "create"
    return "patch" if known == "active" or state == "staged" else "reactivate"


def takes_access(state: DesiredState) -> bool:
    """Whether the account is a leaver's: it had access and must not have it any more."""
    return state in ("inactive", "absent")


def lane(kind: CommandKind) -> Lane:
    """Everything that takes access away goes ahead of everything that gives it."""
    return "deprovision" if kind in ("deactivate", "delete") else "provision"
