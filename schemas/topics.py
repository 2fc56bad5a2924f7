"""Every topic: its name, what travels on it, its key, partitions and retention. The one place that owns names."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from schemas.audit import AuditEntry
from schemas.changes import (
    BY_TYPE,
    IdpAccountDisabled,
    IdpAccountEnabled,
    IdpAttributesChanged,
    TimerFired,
)
from schemas.commands import AccountCommand, Lane
from schemas.notices import Notice

HR_EVENTS = "hr.events"
IDP_EVENTS = "idp.events"
LIFECYCLE_TIMERS = "lifecycle.timers"
LIFECYCLE_NOTICES = "lifecycle.notices"
AUDIT_ENTRIES = "audit.entries"
AUDIT_CHECKPOINTS = "audit.checkpoints"
QUARANTINE = "quarantine"

DAY_MS = 24 * 60 * 60 * 1000
FOREVER_MS = -1
LANES: tuple[Lane, ...] = ("deprovision", "provision")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as `jml topics create` makes it. `partitions` None means the configured number."""

    name: str
    messages: tuple[type[BaseModel], ...]
    key: Literal["person", "none"]
    about: str
    partitions: int | None = None
    retention_ms: int = 7 * DAY_MS
    settings: dict[str, str] = field(default_factory=dict)


_IDP = (IdpAccountDisabled, IdpAccountEnabled, IdpAttributesChanged)
_HR = tuple(change for change in BY_TYPE.values() if change not in (*_IDP, TimerFired))


def lane_topic(app: str, lane: Lane) -> str:
    """The topic of one lane of one application, `scim.APP.LANE`."""
    return f"scim.{app}.{lane}"


def topics(apps: tuple[str, ...]) -> tuple[Topic, ...]:
    """All topics for the connected applications `apps`."""
    lanes = [
        Topic(
            lane_topic(app, lane),
            (AccountCommand,),
            "person",
            f"SCIM commands for {app}: " + ("leavers, ahead of all else" if lane == "deprovision" else "all others"),
        )
        for app in apps
        for lane in LANES
    ]
    return (
        Topic(HR_EVENTS, _HR, "person", "Identity changes from HR systems", retention_ms=30 * DAY_MS),
        Topic(IDP_EVENTS, _IDP, "person", "Identity changes from identity providers", retention_ms=30 * DAY_MS),
        Topic(LIFECYCLE_TIMERS, (TimerFired,), "person", "Instants that have come, from the scheduler"),
        Topic(
            LIFECYCLE_NOTICES,
            (Notice,),
            "person",
            "What people should know in time: contracts and entitlements that end",
            retention_ms=30 * DAY_MS,
        ),
        *lanes,
        Topic(
            AUDIT_ENTRIES,
            (AuditEntry,),
            "person",
            "Every lifecycle event, in one total order",
            partitions=1,
            retention_ms=FOREVER_MS,
            settings={"cleanup.policy": "delete"},
        ),
        Topic(
            AUDIT_CHECKPOINTS,
            (),
            "none",
            "Signed checkpoints of the audit log, each once it is durable (C2SP tlog-checkpoint, text)",
            partitions=1,
            retention_ms=FOREVER_MS,
            settings={"cleanup.policy": "delete"},
        ),
        Topic(
            QUARANTINE,
            (),
            "none",
            "Records that nobody could read: the original bytes, the reason in headers",
            retention_ms=90 * DAY_MS,
            settings={"max.message.bytes": str(16 << 20)},
        ),
    )
