"""SCIM commands: what the resolver asks a connector to make true for one account.

A command is a statement of the desired end, never a diff: the connector holds it against what the application
has and sends the least that closes the gap. That is what makes duplicates, coalescing and late arrival harmless.
"""

from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

CommandKind = Literal["create", "patch", "deactivate", "reactivate", "delete"]
DesiredState = Literal["staged", "active", "inactive", "absent"]
Lane = Literal["deprovision", "provision"]


class AccountCommand(BaseModel):
    """One account's desired state at one revision. `kind` is what the resolver expects to happen; the connector
    converges to `state`, `resource` and `groups` whatever it finds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str] = "jml.account.command.v1"

    person_id: str
    app: str
    kind: CommandKind
    revision: int = Field(ge=1)
    state: DesiredState = Field(description="staged: made before the first day, and nobody can sign in with it yet")
    resource: dict[str, Any] = Field(description="The mapped SCIM attributes, complete")
    groups: list[str] = Field(default_factory=list, description="Display names of the groups the person should be in")
    event_id: str = Field(description="The event that caused it (source#id)")
    policy: str = Field(description="Digest of the policy that decided it")
    effective_at: AwareDatetime
