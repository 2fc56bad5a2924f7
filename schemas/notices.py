"""Notices: what people should know in time, such as a contract that ends in a week."""

from typing import ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

NoticeKind = Literal["contract_ends", "entitlement_ends", "access_overdue"]


class Notice(BaseModel):
    """Something that is about to happen to a person's access, or should have happened. Its id follows from the person,
    the kind, the due instant and the days before, so that it is issued once whoever computes it.

    It names people by their ids only: whoever delivers it looks up addresses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str] = "jml.notice.v1"

    id: str
    kind: NoticeKind
    person_id: str
    due: AwareDatetime = Field(description="When access ends, or should have ended")
    days_before: int | None = Field(default=None, ge=0, description="Which of the configured warnings this is")
    app: str | None = None
    group: str | None = Field(default=None, description="The temporary entitlement that ends")
    manager_id: str | None = None
    sponsor_id: str | None = None
    event_id: str = Field(description="The event that put the end there (source#id)")
