"""Names that only one account can have: the plain one, then the same with a counter in it.

The policy makes the plain name and stays pure. Which of the candidates is free is known by the application alone, so
the connector finds out, and keeps the number with the account; see decision 0029. All attributes of an account that
are unique have the same number: `jdoe2` reads mail at `jdoe2@example.com`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.domain.scim_diff import value_at

MOST_NAMES = 50
"""Candidates that are tried for one account; then a person has to decide."""

Paths = Sequence[tuple[str, ...]]
"""The unique attributes, each by the steps of its path."""


def candidate(name: str, number: int) -> str:
    """`jdoe` is `jdoe2` as the second one, `jdoe@example.com` is `jdoe2@example.com`. The first one is plain."""
    if number == 1:
        return name
    local, at, domain = name.rpartition("@")
    return f"{local}{number}@{domain}" if at and local else f"{name}{number}"


def numbered(resource: Mapping[str, Any], paths: Paths, number: int) -> Mapping[str, Any]:
    """The resource with that candidate of each unique attribute. Of a list, the `value` of every element is one."""
    if number == 1:
        return resource
    for steps in paths:
        resource = _with_candidate(resource, steps, number)
    return resource


def number_of(shown: Mapping[str, Any], plain: Mapping[str, Any], paths: Paths) -> int | None:
    """Which candidate an account shows, by the first unique attribute that is mapped; None: none of them."""
    for steps in paths:
        name = value_at(plain, steps)
        if isinstance(name, str):
            held = value_at(shown, steps)
            folded = held.lower() if isinstance(held, str) else None
            return next((n for n in range(1, MOST_NAMES + 1) if candidate(name, n).lower() == folded), None)
    return None


def _with_candidate(resource: Mapping[str, Any], steps: Sequence[str], number: int) -> Mapping[str, Any]:
    first, *rest = steps
    if first not in resource:
        return resource
    value = resource[first]
    if not rest:
        return {**resource, first: _candidate_value(value, number)}
    return {**resource, first: _with_candidate(value, rest, number)} if isinstance(value, Mapping) else resource


def _candidate_value(value: Any, number: int) -> Any:
    if isinstance(value, str):
        return candidate(value, number)
    if isinstance(value, Mapping) and isinstance(value.get("value"), str):
        return {**value, "value": candidate(value["value"], number)}
    return [_candidate_value(one, number) for one in value] if isinstance(value, list) else value
