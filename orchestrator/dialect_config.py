"""What an operator knows better of an application than its dialect: `[apps.X] capabilities` and `behaves`."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.dialects.base import Dialect
from orchestrator.domain.bulk import MOST_OPERATIONS
from orchestrator.domain.correlation import RuleText
from orchestrator.domain.discovery import Capabilities
from orchestrator.domain.scim_read import TOLERANCES

HEADER = r"^[ -~]+$"
"""What a header can carry."""


class CapabilitiesConfig(BaseModel):
    """What the application can do; a key that is absent is left to the dialect and to discovery."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch: bool | None = None
    put: bool | None = None
    filter: bool | None = None
    etag: bool | None = None
    cursor: bool | None = None
    bulk: bool | None = None
    bulk_operations: int | None = Field(default=None, ge=2, le=MOST_OPERATIONS)
    bulk_bytes: int | None = Field(default=None, ge=1_000)
    max_results: int | None = Field(default=None, ge=1, le=10_000)

    def known(self) -> Capabilities:
        """The same as a domain value."""
        return Capabilities(**self.model_dump())


class CorrelateConfig(BaseModel):
    """A rule by which an account is found: an attribute to search by, CEL over `person` for its value (else the mapped
    one), and CEL over `person` and `resource` that has to be true of what was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: str
    value: str | None = None
    where: str | None = None

    def text(self) -> RuleText:
        """The same as a domain value."""
        return RuleText(self.search, self.value, self.where)


class BehavesConfig(BaseModel):
    """How the application behaves; the keys are those of `dialects.base.Dialect`, absent ones stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lookup: tuple[str, ...] | None = None
    ambiguous: tuple[str, ...] | None = None
    filter_paths: bool | None = None
    patchable: frozenset[str] | None = None
    ignored: frozenset[str] | None = None
    required: tuple[str, ...] | None = None
    deactivate: Literal["active", "delete"] | None = None
    deactivated: Literal["inactive", "gone"] | None = None
    deleted: Literal["gone", "inactive"] | None = None
    member_filters: bool | None = None
    shows_members: bool | None = None
    page_size: int | None = Field(default=None, ge=1, le=10_000)
    user_agent: str | None = Field(default=None, pattern=HEADER)
    accept: str | None = Field(default=None, pattern=HEADER)
    tolerance: Literal["lenient", "strict"] | None = None

    def over(self, dialect: Dialect) -> Dialect:
        """The dialect with what is given in place of its own."""
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        if self.tolerance is not None:
            given["tolerance"] = TOLERANCES[self.tolerance]
        return replace(dialect, **given)
