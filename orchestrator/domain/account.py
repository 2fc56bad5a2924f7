"""One person's account in one application: what it should be, and how far the connector has come.

`Account` belongs to the resolver, `Progress` to the connector. They meet in one row; neither writes the other's part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from schemas.commands import CommandKind, DesiredState, Lane


@dataclass(frozen=True, slots=True)
class Account:
    """The desired state. `revision` rises by one with every change of it, so that revisions are dense.

    `since` is the effective instant of `state`; `event_id` and `correlation_id` name what caused the revision.
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


def command_kind(before: Account | None, state: DesiredState) -> CommandKind:
    """What the resolver expects the connector to do to get from `before` to `state`."""
    known = before.state if before is not None else "absent"
    if state == "absent":
        return "delete"
    if state == "inactive":
        return "deactivate"
    if known == "absent":
        return "create"
    return "patch" if known == "active" else "reactivate"


def lane(kind: CommandKind) -> Lane:
    """Everything that takes access away goes ahead of everything that gives it."""
    return "deprovision" if kind in ("deactivate", "delete") else "provision"


def lane_of(account: Account) -> Lane:
    """The lane on which the present desired state of an account is (re-)issued."""
    return "provision" if account.state == "active" else "deprovision"
