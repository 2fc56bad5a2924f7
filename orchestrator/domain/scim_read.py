"""What an application answers, in one form: the tolerance of a dialect as data, and a page of which no row can fail
another.

Everything is read into the names and shapes of SCIM 2.0 (RFC 7643), whatever the application speaks.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.paths import ENTERPRISE

_TEXT_BOOLEANS = {"true": True, "false": False}
_PLURAL = frozenset(
    {
        "emails",
        "phoneNumbers",
        "ims",
        "photos",
        "addresses",
        "groups",
        "entitlements",
        "roles",
        "x509Certificates",
        "members",
    }
)
"""The multi-valued attributes of a user (RFC 7643, section 4.1.2) and of a group (section 4.2)."""
_STEPS = (".", "..")
"""In a path these lead elsewhere: a DELETE of such an id would be one of something else (RFC 3986, section 5.2.4)."""
_BOOLEANS = frozenset({"active", "primary"})
_NAMES = frozenset(
    re.findall(
        r"\S+",
        """
        id externalId meta schemas resourceType created lastModified location version Resources totalResults
        nextCursor scimType Errors userName name formatted familyName givenName middleName honorificPrefix
        honorificSuffix displayName nickName profileUrl title userType preferredLanguage locale timezone active emails
        phoneNumbers ims photos addresses groups entitlements roles x509Certificates members value display type
        primary $ref streetAddress locality region postalCode country employeeNumber costCenter organization division
        department manager
        """,
    )
)
"""Attributes of RFC 7643 and of lists and errors (RFC 7644)."""
_FOLDED = {name.lower(): name for name in (*_NAMES, ENTERPRISE)}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Deviations from the RFCs that an answer may show and still be read. What is not tolerated costs the row, never
    the page.

    `numbers_as_ids`: `"id": 17`. `text_as_booleans`: `"active": "False"`. `text_as_objects`: `"manager": "17"`,
    `"name": "Ada King"`, `"emails": ["a@b"]`, one object where a list belongs. `no_schemas`: rows without `schemas`.
    `no_total`: a list without `totalResults`. `plain_errors`: errors that are no SCIM errors.
    """

    name: str
    numbers_as_ids: bool = True
    text_as_booleans: bool = True
    text_as_objects: bool = True
    no_schemas: bool = True
    no_total: bool = True
    plain_errors: bool = True


LENIENT = Tolerance("lenient")
STRICT = Tolerance("strict", False, False, False, False, False, False)
TOLERANCES = {one.name: one for one in (LENIENT, STRICT)}


class OnlyText(dict[str, Any]):
    """An object of which an application shows nothing but a text. What its text does not say is not known: it may
    well be as it should."""

    def shows(self, wanted: Mapping[str, Any]) -> bool:
        """Whether the text is that of the object wanted, as far as a text can tell."""
        (text,) = self.values()
        if "value" in wanted:
            return bool(text == wanted["value"])
        parts = [part for part in wanted.values() if isinstance(part, str)]
        return bool(parts) and all(part in text for part in parts)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `total` is None where the application does not say, `skipped` counts the rows that nobody
    could read."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    total: int | None = None
    cursor: str | None = None
    skipped: int = 0
    ends_legibly: bool = False
    """Whether the last row that came is the last of `rows`."""

    @property
    def received(self) -> int:
        """How far the application has come with its rows, legible or not."""
        return len(self.rows) + self.skipped


def read_resource(row: Any, tolerance: Tolerance) -> dict[str, Any] | None:
    """A user or group with a text `id`, real booleans, and objects where objects belong; None when it is none."""
    if not isinstance(row, Mapping):
        return None
    row = _named(row)
    identity = row.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool) and tolerance.numbers_as_ids:
        identity = str(identity)
    if not isinstance(identity, str) or not identity or identity in _STEPS:
        return None
    if not tolerance.no_schemas and not isinstance(row.get("schemas"), list):
        return None
    read = {name: _value(name, value, tolerance) for name, value in row.items()}
    read["id"] = identity
    return read


def read_page(body: Mapping[str, Any] | None, tolerance: Tolerance) -> Page | None:
    """The rows of a list; None when the answer is no list at all."""
    if body is None:
        return None
    body = _named(body)
    listed = body.get("Resources")
    total = _count(body.get("totalResults"))
    if listed is None and (total == 0 or _says_list(body)):
        listed = []  # RFC 7644, section 3.4.2: Resources may be left out when there are none
    if not isinstance(listed, list) or (total is None and not tolerance.no_total):
        return None
    read = [read_resource(row, tolerance) for row in listed]
    rows = [row for row in read if row is not None]
    cursor = body.get("nextCursor")
    named = cursor if isinstance(cursor, str) and cursor else None
    return Page(rows, total, named, len(listed) - len(rows), bool(read) and read[-1] is not None)


def scim_type(body: Mapping[str, Any] | None) -> str | None:
    """The keyword of a SCIM error (RFC 7644, table 9), also where a 1.1 server wraps it in `Errors`."""
    if body is None:
        return None
    body = _named(body)
    wrapped = body.get("Errors")
    if isinstance(wrapped, list) and wrapped and isinstance(wrapped[0], Mapping):
        body = _named(wrapped[0])
    kind = body.get("scimType")
    return kind if isinstance(kind, str) and kind else None


def _says_list(body: Mapping[str, Any]) -> bool:
    schemas = body.get("schemas")
    return isinstance(schemas, list) and any(str(one).endswith(":ListResponse") for one in schemas)


def _value(name: str, value: Any, tolerance: Tolerance) -> Any:
    if name in _BOOLEANS:
        return _boolean(value, tolerance)
    if name in _PLURAL and value is not None:
        return list(_elements(value, tolerance))
    if name == "name" and isinstance(value, str) and tolerance.text_as_objects:
        return OnlyText(formatted=value)
    if name == "manager" and isinstance(value, str) and tolerance.text_as_objects:
        return OnlyText(value=value)
    if name.startswith("urn:") and isinstance(value, Mapping):
        inside = _named(value) if name == ENTERPRISE else value
        return {inner: _value(inner, part, tolerance) for inner, part in inside.items()}
    return _named(value) if isinstance(value, Mapping) else value


def _elements(value: Any, tolerance: Tolerance) -> Iterable[Any]:
    """The elements of a multi-valued attribute, each an object where that is tolerated."""
    lenient = tolerance.text_as_objects
    for element in value if isinstance(value, list) else [value] if lenient else []:
        if isinstance(element, Mapping):
            yield {
                name: _boolean(part, tolerance) if name in _BOOLEANS else part for name, part in _named(element).items()
            }
        elif isinstance(element, str) and lenient:
            yield OnlyText(value=element)


def _named(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes by the names that the RFCs give them, which may come in any case (RFC 7643, section 2.1). Those of
    an application's own stay as they are: it may want them back so."""
    if all(name in _NAMES for name in value):
        return value
    return {name if name in _NAMES else _FOLDED.get(name.lower(), name): part for name, part in value.items()}


def _boolean(value: Any, tolerance: Tolerance) -> Any:
    if isinstance(value, str) and tolerance.text_as_booleans:
        return _TEXT_BOOLEANS.get(value.lower(), value)
    return value


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
