"""The audit stream: one entry for every step of a person's life, gapless per writer."""

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class AuditKind(StrEnum):
    """What an entry records. Past tense: an entry is a fact, except `call_intended`, which is written before."""

    EVENT_RECEIVED = "event_received"
    EVENT_DUPLICATED = "event_duplicated"
    EVENT_QUARANTINED = "event_quarantined"
    PERSON_RESOLVED = "person_resolved"
    COMMAND_ISSUED = "command_issued"
    CALL_INTENDED = "call_intended"
    COMMAND_APPLIED = "command_applied"
    ACCOUNT_VERIFIED = "account_verified"
    COMMAND_SUPERSEDED = "command_superseded"
    COMMAND_RETRIED = "command_retried"
    COMMAND_PARKED = "command_parked"
    COMMAND_HELD = "command_held"
    COMMAND_RELEASED = "command_released"
    COMMAND_REJECTED = "command_rejected"
    TIMER_SET = "timer_set"
    TIMER_FIRED = "timer_fired"
    TIMER_CANCELLED = "timer_cancelled"
    APPLICATION_PAUSED = "application_paused"
    APPLICATION_RESUMED = "application_resumed"
    OPERATOR_ACTED = "operator_acted"
    NOTICE_ISSUED = "notice_issued"
    ACCOUNT_LINKED = "account_linked"
    ACCOUNT_UNLINKED = "account_unlinked"
    RECONCILED = "reconciled"
    AUDIT_CONFIGURED = "audit_configured"
    ENTRY_REJECTED = "entry_rejected"
    SUBJECT_ERASED = "subject_erased"


class AuditEntry(BaseModel):
    """One lifecycle event. `(writer, epoch, sequence)` counts without gaps from 1, so a missing entry shows.

    `details` holds codes, counts, names of attributes and instants, never values of personal attributes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str] = "jml.audit.entry.v1"

    id: str = Field(description="writer/epoch/sequence")
    writer: str
    epoch: int
    sequence: int = Field(ge=1)
    at: AwareDatetime
    kind: AuditKind
    actor: str = Field(description="Who caused it: the source of an event, scheduler, operator:NAME")
    subject: str | None = Field(default=None, description="The person's random id in the log")
    app: str | None = None
    revision: int | None = None
    event_id: str | None = Field(default=None, description="The causing event, source#id")
    correlation_id: str | None = None
    policy: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    sealed: str | None = Field(default=None, description="Personal values, encrypted under the subject's key")
