"""The contract of a dialect: how one application deviates from the RFCs, as data and a few small pure hooks.

A dialect only describes. Whoever calls the application asks the description; no vendor is named outside this package.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.domain.budget import Limit as Limit
from orchestrator.domain.discovery import Capabilities
from orchestrator.domain.scim_read import LENIENT, Tolerance

Kind = Literal["user_create", "user_write", "group_write", "read"]
"""What a call is, for budgets: POST of a user; PUT, PATCH or DELETE of a user; any change of a group; any GET."""

Resource = Mapping[str, Any]


def as_it_is(resource: Resource) -> Resource:
    """The hook of a dialect that changes nothing."""
    return resource


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of application. Whatever is left out is as the RFCs have it.

    `sources` are the pages that the description was made from. `shape` turns a resource as it is mapped into one that
    the application can hold; it must not change a resource that it made.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    version: Literal["2.0", "1.1"] = "2.0"
    user_agent: str | None = None
    accept: str | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    """What is known better here than by asking the application."""

    lookup: tuple[str, ...] = ("externalId", "userName")
    """The attributes that may be searched, the surest first; empty: read everybody and compare."""
    ambiguous: tuple[str, ...] = ()
    """Of these, those that several accounts may share: the next one decides between them."""
    filter_paths: bool = True
    """Whether PATCH understands `emails[type eq "work"]`; if not, multi-valued attributes are replaced whole."""
    patchable: frozenset[str] | None = None
    """The attributes that PATCH changes (None: all); others are PUT, or cannot change where there is no PUT."""
    ignored: frozenset[str] = frozenset()
    """Attributes that it drops in silence, first steps of their paths: they are not sent."""
    required: tuple[str, ...] = ()
    """Attributes without which it refuses to create an account."""
    shape: Callable[[Resource], Resource] = as_it_is

    deactivate: Literal["active", "delete"] = "active"
    """How access is taken away: by `active: false`, or by DELETE where that only disables."""
    deactivated: Literal["inactive", "gone"] = "inactive"
    """What is there afterwards. `gone`: the identity is deleted, and somebody who returns is created anew."""
    deleted: Literal["gone", "inactive"] = "gone"
    """What a DELETE leaves behind: nothing, or an account that nobody can use."""
    hidden: bool = False
    """Whether an inactive account is answered with 404 and shown by searches only."""

    member_filters: bool = True
    """Whether members leave by `members[value eq "x"]`; if not, those who leave are named in `value`."""
    members_per_patch: int | None = None
    """At most so many changes of members in one PATCH."""
    shows_members: bool = True
    """Whether a group is shown with its members; if not, nobody can say who is in it."""
    creates_groups: bool = True
    """Whether groups can be created by SCIM; if not, only those that exist are used."""

    placeholder: str | None = None
    """The userName of a made-up row that a list may show in place of all users: such a list says nothing of anybody."""

    page_size: int | None = None
    page_overlap: bool = True
    """Whether `startIndex` may be any row; some count in pages."""
    tolerance: Tolerance = LENIENT
    limits: tuple[Limit, ...] = ()
    """What it allows; budgets begin with this."""
    note: str = ""
    """What an operator has to know, in one sentence."""


def one_value_each(*names: str) -> Callable[[Resource], Resource]:
    """A shape for applications that hold one value of a multi-valued attribute: the primary one, or the first."""

    def shape(resource: Resource) -> Resource:
        return {
            name: _first(value) if name in names and isinstance(value, list) and len(value) > 1 else value
            for name, value in resource.items()
        }

    return shape


def only(resource: Resource, names: Iterable[str]) -> Resource:
    """The named attributes of a resource."""
    kept = frozenset(names)
    return {name: value for name, value in resource.items() if name in kept}


def _first(values: list[Any]) -> list[Any]:
    primary = [one for one in values if isinstance(one, Mapping) and one.get("primary")]
    return (primary or values)[:1]
