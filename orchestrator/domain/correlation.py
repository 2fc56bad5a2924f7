"""Which account of an application is a person's: rules that never take somebody else's account."""

from collections.abc import Iterable, Mapping
from typing import Any

RULES = ("externalId", "userName")
"""Attributes to look an account up by, the surest first."""


def matches(found: Iterable[Any], rule: str, wanted: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of the application's resources that can be the account described by `wanted`.

    The application's filter is not trusted: some ignore a filter they do not understand and answer with everybody.
    An account with the right userName and another externalId belongs to somebody else and is no match.
    """
    value = wanted.get(rule)
    if not isinstance(value, str):
        return []
    return [
        one
        for one in found
        if isinstance(one, Mapping)
        and one.get("id")
        and str(one.get(rule, "")).lower() == value.lower()
        and not _anothers(one, wanted)
    ]


def _anothers(resource: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    ours, theirs = wanted.get("externalId"), resource.get("externalId")
    return bool(ours and theirs) and str(theirs) != str(ours)
