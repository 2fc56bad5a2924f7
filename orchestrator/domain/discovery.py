"""What an application says of itself: ServiceProviderConfig, ResourceTypes and Schemas (RFC 7643, sections 5 to 7).

All of it is optional, and much of it is wrong in practice: a dialect that knows better goes before it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from orchestrator.domain.paths import split_path

USERS, GROUPS = "/Users", "/Groups"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an application can do; None where nobody says. `max_results` is rows a page, `bulk_bytes` a payload."""

    patch: bool | None = None
    put: bool | None = None
    bulk: bool | None = None
    bulk_operations: int | None = None
    bulk_bytes: int | None = None
    filter: bool | None = None
    max_results: int | None = None
    sort: bool | None = None
    etag: bool | None = None
    cursor: bool | None = None

    def over(self, other: "Capabilities") -> "Capabilities":
        """These, and the other's where these say nothing."""
        mine = {one.name: getattr(self, one.name) for one in fields(self)}
        return Capabilities(**{name: getattr(other, name) if value is None else value for name, value in mine.items()})


RFC = Capabilities(patch=True, put=True, bulk=False, filter=True, max_results=100, sort=False, etag=False, cursor=False)
"""What is taken for granted where neither application nor dialect says."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a schema, as far as it matters for a mapping."""

    path: str
    required: bool = False
    read_only: bool = False
    multi_valued: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that discovery found; nothing at all is a valid outcome."""

    capabilities: Capabilities = field(default_factory=Capabilities)
    users: str = USERS
    groups: str = GROUPS
    attributes: Mapping[str, Attribute] | None = None
    """The user's attributes by their path in lower case; None when the application shows no schema."""
    answered: tuple[str, ...] = ()
    """Which of the endpoints answered."""


def read_capabilities(body: Mapping[str, Any] | None) -> Capabilities:
    """What a ServiceProviderConfig says; tolerant of whatever it may hold."""
    if body is None:
        return Capabilities()
    listed = body.get("Resources")  # some answer with a list of one
    if isinstance(listed, list) and listed and isinstance(listed[0], Mapping):
        body = listed[0]
    bulk, filters, pages = _part(body, "bulk"), _part(body, "filter"), _part(body, "pagination")
    return Capabilities(
        patch=_supported(_part(body, "patch")),
        bulk=_supported(bulk),
        bulk_operations=_positive(bulk.get("maxOperations")),
        bulk_bytes=_positive(bulk.get("maxPayloadSize")),
        filter=_supported(filters),
        max_results=_positive(filters.get("maxResults")),
        sort=_supported(_part(body, "sort")),
        etag=_supported(_part(body, "etag")),
        cursor=_boolean(pages.get("cursor")),
    )


def read_endpoints(body: Mapping[str, Any] | None) -> tuple[str, str]:
    """Where users and groups live."""
    found = {"User": USERS, "Group": GROUPS}
    for row in _rows(body):
        name, endpoint = row.get("name") or row.get("id"), row.get("endpoint")
        if not isinstance(name, str) or name not in found or not isinstance(endpoint, str):
            continue
        if endpoint.strip("/") and "://" not in endpoint:
            found[name] = "/" + endpoint.strip("/").rpartition("/")[2]
    return found["User"], found["Group"]


def read_attributes(body: Mapping[str, Any] | None) -> dict[str, Attribute] | None:
    """The attributes of users by their path in lower case; None when no schema says anything of them."""
    found: dict[str, Attribute] = {}
    for row in _rows(body):
        urn = str(row.get("id") or row.get("schema") or "")
        if "group" in urn.lower() or str(row.get("name", "")).lower() == "group":
            continue
        if not (urn.startswith("urn:") and isinstance(row.get("attributes"), list)):
            continue
        core = urn.endswith((":core:2.0:User", ":core:1.0"))
        for attribute in _attributes(row["attributes"], "" if core else f"{urn}:"):
            found[attribute.path.lower()] = attribute
    return found or None


Trouble = Literal["unknown", "read-only", "required"]


def misalignments(
    mapped: Iterable[str], attributes: Mapping[str, Attribute], *, always: Sequence[str] = ("externalid",)
) -> list[tuple[str, Trouble]]:
    """Mapped attributes that the application's schema lacks or does not let us write, and attributes that it requires
    and nobody maps. `always` names common attributes that schemas leave out (RFC 7643, section 3.1)."""
    troubles: list[tuple[str, Trouble]] = []
    covered: set[str] = set()
    for path in mapped:
        steps = [step.lower() for step in split_path(path)]
        name = f"{steps[0]}:{'.'.join(steps[1:])}" if steps[0].startswith("urn:") else ".".join(steps)
        covered |= {name, name.partition(".")[0]} if not name.startswith("urn:") else {name}
        top = name if name.startswith("urn:") else steps[0]
        known = attributes.get(name) or (attributes.get(top) if "." not in name or name.startswith("urn:") else None)
        if name in always:
            continue
        if known is None:
            troubles.append((path, "unknown"))
        elif known.read_only:
            troubles.append((path, "read-only"))
    for name, attribute in attributes.items():
        plain = "." not in name.rpartition(":")[2]
        if plain and attribute.required and not attribute.read_only and name not in covered and name != "id":
            troubles.append((attribute.path, "required"))
    return troubles


def _attributes(listed: Iterable[Any], prefix: str) -> Iterator[Attribute]:
    for one in listed:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            continue
        path = f"{prefix}{one['name']}"
        read_only = str(one.get("mutability", "")).lower() == "readonly" or one.get("readOnly") is True
        yield Attribute(path, one.get("required") is True, read_only, one.get("multiValued") is True)
        inner = one.get("subAttributes")
        if isinstance(inner, list):
            for part in _attributes(inner, f"{path}."):
                yield Attribute(part.path, part.required, part.read_only or read_only, part.multi_valued)


def _rows(body: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if body is None:
        return []
    listed = body.get("Resources")
    rows = listed if isinstance(listed, list) else [body]
    return [row for row in rows if isinstance(row, Mapping)]


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    return part if isinstance(part, Mapping) else {}


def _supported(part: Mapping[str, Any]) -> bool | None:
    return _boolean(part.get("supported"))


def _boolean(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
