"""Identity changes: what HR systems, identity providers and the scheduler tell us, by versioned CloudEvents type.

Dates and instants: a `date` is a calendar day in the worker's own time zone; an instant always carries its zone.
A field that is absent was not stated and changes nothing; a field that is null was stated to be empty.
"""

from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_TEXT = 400


def _clean(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character, which no database or application accepts")
    return text


Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_TEXT), AfterValidator(_clean)]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TEXT), AfterValidator(_clean)
]
WorkerId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00/]+$")]
WorkerKind = Literal["employee", "contractor"]


class Change(BaseModel):
    """What every change has in common. `TYPE` is its CloudEvents type, version included."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str]


class WorkerAttributes(BaseModel):
    """What is known of a worker beside the engagement. Only the fields that are given are stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    given_name: Text | None = None
    family_name: Text | None = None
    display_name: Text | None = None
    user_name: Text | None = None
    email: Text | None = None
    phone: Text | None = None
    department: Text | None = None
    title: Text | None = None
    manager_id: WorkerId | None = None
    sponsor_id: WorkerId | None = Field(default=None, description="Who answers for a contractor beside the manager")
    location: Text | None = None
    cost_center: Text | None = None
    country: Text | None = None
    time_zone: Text | None = Field(default=None, description="IANA name, for example Australia/Melbourne")
    custom: dict[Name, Text | None] | None = Field(default=None, description="Further attributes of the HR system")

    def stated(self) -> dict[str, Any]:
        """The fields that were given, custom ones as `custom.NAME`."""
        fields = {name: getattr(self, name) for name in self.model_fields_set if name != "custom"}
        for name, value in (self.custom or {}).items():
            fields[f"custom.{name}"] = value
        return fields


class _WorkerChange(Change):
    worker_id: WorkerId


class WorkerJoined(_WorkerChange):
    """A joiner: an engagement begins. `contract_end` is the last day of a fixed-term contract."""

    TYPE = "jml.worker.joined.v1"
    engagement_id: Name | None = Field(default=None, description="The HR system's number of this contract")
    kind: WorkerKind = "employee"
    start_date: date
    contract_end: date | None = None
    attributes: WorkerAttributes = WorkerAttributes()

    @model_validator(mode="after")
    def _in_order(self) -> "WorkerJoined":
        if self.contract_end is not None and self.contract_end < self.start_date:
            raise ValueError(f"contract_end {self.contract_end} is before start_date {self.start_date}")
        return self


class WorkerRehired(WorkerJoined):
    """Somebody who left comes back under the same worker id: a further engagement begins."""

    TYPE = "jml.worker.rehired.v1"


class WorkerMoved(_WorkerChange):
    """A mover: attributes change from `effective` on (the event's time when it is absent)."""

    TYPE = "jml.worker.moved.v1"
    effective: date | AwareDatetime | None = None
    attributes: WorkerAttributes


class WorkerLeft(_WorkerChange):
    """A leaver: `last_day` is the last day of access, `ends_at` an exact instant instead. Null in both rescinds it.

    Without `engagement_id` it ends every engagement that began by then; before the first day it is the first one that
    ends, so that somebody who never starts never gets access.
    """

    TYPE = "jml.worker.left.v1"
    engagement_id: Name | None = None
    last_day: date | None = None
    ends_at: AwareDatetime | None = None
    reason: Text | None = Field(default=None, description="Why, in the words of whoever stated it; for the audit")

    @model_validator(mode="after")
    def _one_end(self) -> "WorkerLeft":
        if self.last_day is not None and self.ends_at is not None:
            raise ValueError("last_day and ends_at exclude each other")
        return self


class LeaveOfAbsenceStarted(_WorkerChange):
    """Parental leave, sabbatical and the like begin; the engagement goes on."""

    TYPE = "jml.worker.leave_of_absence_started.v1"
    effective: date | AwareDatetime | None = None


class LeaveOfAbsenceEnded(_WorkerChange):
    """The worker is back; `effective` is the first day back."""

    TYPE = "jml.worker.leave_of_absence_ended.v1"
    effective: date | AwareDatetime | None = None


class ContractChanged(_WorkerChange):
    """A contract is extended, shortened, made permanent (`contract_end` null) or converted (`kind`).

    Without `engagement_id` it speaks of the latest engagement.
    """

    TYPE = "jml.worker.contract_changed.v1"
    engagement_id: Name | None = None
    contract_end: date | None = None
    kind: WorkerKind | None = None
    reason: Text | None = Field(default=None, description="Why, in the words of whoever stated it; for the audit")

    @model_validator(mode="after")
    def _says_something(self) -> "ContractChanged":
        if not self.model_fields_set & {"contract_end", "kind"}:
            raise ValueError("neither contract_end nor kind is given")
        return self


class EntitlementGranted(_WorkerChange):
    """A temporary entitlement: membership of `group` in `app` beside what the policy gives, from `starts` (the event's
    time when it is absent) until `ends`, whose day is the last one. What was stated last counts."""

    TYPE = "jml.worker.entitlement_granted.v1"
    app: Name
    group: Name
    starts: date | AwareDatetime | None = None
    ends: date | AwareDatetime | None = None
    reason: Text | None = Field(default=None, description="Why, in the words of whoever stated it; for the audit")


class EntitlementRevoked(_WorkerChange):
    """A temporary entitlement is taken back at once, before its end."""

    TYPE = "jml.worker.entitlement_revoked.v1"
    app: Name
    group: Name
    reason: Text | None = Field(default=None, description="Why, in the words of whoever stated it; for the audit")


class ChangeWithdrawn(_WorkerChange):
    """An earlier event is taken back as if it had never been stated, a transfer that does not happen for example."""

    TYPE = "jml.worker.change_withdrawn.v1"
    source: Name = Field(description="The CloudEvents source of the event that is withdrawn")
    id: Name = Field(description="Its CloudEvents id")
    reason: Text | None = Field(default=None, description="Why, in the words of whoever stated it; for the audit")


Element = dict[Name, Text | bool]
KeptValue = Name | Annotated[list[Element], Field(min_length=1, max_length=50)]


class IdentityKept(_WorkerChange):
    """The worker's account in `app` is to have these values, whatever the mapping says: those of an account in another
    application that `jml migrate` carries over. Without values the mapping decides again."""

    TYPE = "jml.worker.identity_kept.v1"
    app: Name
    values: dict[Name, KeptValue] = Field(
        max_length=20, description="By attribute path, as the mapping names it: userName, externalId, emails"
    )
    reason: Text | None = Field(default=None, description="Why, in the words of whoever stated it; for the audit")


class WorkerSnapshot(_WorkerChange):
    """The whole record as HR holds it now; what kind of change it is follows from what was known before."""

    TYPE = "jml.worker.snapshot.v1"
    engagement_id: Name | None = None
    kind: WorkerKind = "employee"
    start_date: date
    contract_end: date | None = None
    last_day: date | None = None
    on_leave: bool = False
    attributes: WorkerAttributes = WorkerAttributes()

    @model_validator(mode="after")
    def _in_order(self) -> "WorkerSnapshot":
        for name in ("contract_end", "last_day"):
            end = getattr(self, name)
            if end is not None and end < self.start_date:
                raise ValueError(f"{name} {end} is before start_date {self.start_date}")
        return self


class _IdpChange(Change):
    """An identity provider knows the person by the worker id or by the e-mail address; one of them is needed."""

    worker_id: WorkerId | None = None
    email: Text | None = None

    @model_validator(mode="after")
    def _has_a_handle(self) -> "_IdpChange":
        if self.worker_id is None and not self.email:
            raise ValueError("neither worker_id nor email is given: nobody can say whom this is about")
        return self


class IdpAccountDisabled(_IdpChange):
    """The identity provider blocked the sign-in: access everywhere follows, until it is enabled again."""

    TYPE = "jml.idp.account_disabled.v1"


class IdpAccountEnabled(_IdpChange):
    """The identity provider lifted the block."""

    TYPE = "jml.idp.account_enabled.v1"


class IdpAttributesChanged(_IdpChange):
    """Attributes that the identity provider owns (e-mail address, user name, phone) changed there."""

    TYPE = "jml.idp.attributes_changed.v1"
    attributes: WorkerAttributes


class TimerFired(_WorkerChange):
    """The scheduler says that an instant has come; the person is decided anew with the state of that moment."""

    TYPE = "jml.timer.fired.v1"
    kind: Name
    due: AwareDatetime


CHANGES: tuple[type[Change], ...] = (
    WorkerJoined,
    WorkerRehired,
    WorkerMoved,
    WorkerLeft,
    LeaveOfAbsenceStarted,
    LeaveOfAbsenceEnded,
    ContractChanged,
    WorkerSnapshot,
    EntitlementGranted,
    EntitlementRevoked,
    ChangeWithdrawn,
    IdentityKept,
    IdpAccountDisabled,
    IdpAccountEnabled,
    IdpAttributesChanged,
    TimerFired,
)

BY_TYPE: dict[str, type[Change]] = {change.TYPE: change for change in CHANGES}
