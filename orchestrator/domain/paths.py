"""Attributes of a resource by their paths: `userName`, `name.givenName`, `enterprise.department`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


def nest(values: Iterable[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """`[(("name", "givenName"), "Ann")]` as `{"name": {"givenName": "Ann"}}`; empty values are left out."""
    resource: dict[str, Any] = {}
    for steps, value in values:
        if value is None or value == "" or value == []:
            continue
        place = resource
        for parent in steps[:-1]:
            place = place.setdefault(parent, {})
        place[steps[-1]] = value
    return resource


def split_path(path: str) -> list[str]:
    """The steps of an attribute path: `enterprise.X` and `urn:...:User:X` are X in that extension, dots go deeper."""
    if path.startswith("enterprise."):
        return [ENTERPRISE, *path.removeprefix("enterprise.").split(".")]
    if path.startswith("urn:"):
        schema, _, attribute = path.rpartition(":")
        return [schema, *attribute.split(".")]
    return path.split(".")


def with_value_of(held: Mapping[str, Any], wanted: Mapping[str, Any], steps: Sequence[str]) -> Mapping[str, Any]:
    """`wanted` with the value that `held` has at the path; unchanged where it has none."""
    first, *rest = steps
    if first not in held:
        return wanted
    if not rest:
        return {**wanted, first: held[first]}
    inner = held[first]
    if not isinstance(inner, Mapping):
        return wanted
    kept = with_value_of(inner, wanted.get(first, {}), rest)
    return {**wanted, first: kept} if kept else wanted
