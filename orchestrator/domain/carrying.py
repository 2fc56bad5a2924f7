"""What an account keeps when it moves from one application to another, and the event that says so.

The event goes the way of HR's: the resolver puts the values on the person's record and decides the account anew, the
connector makes it. Nobody else writes to the application that the accounts move to.
"""

import hashlib
from collections.abc import Container, Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from orchestrator.domain.adoption import at_path
from orchestrator.domain.paths import nest, split_path, with_value_of
from orchestrator.domain.person import Person
from schemas.changes import IdentityKept

KEPT = ("userName", "externalId", "emails")
"""What is kept unless somebody says otherwise, as far as it is mapped: the handles of RFC 7643, section 4.1."""
_OF_AN_ELEMENT = ("value", "type", "primary", "display")


class NothingKeptError(ValueError):
    """An account of which nothing can be kept; the message says why, without its values."""


def kept_values(resource: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """The values of an account at these paths, as it shows them. Raises NothingKeptError where it has none of them."""
    found: dict[str, Any] = {}
    for path in paths:
        value = at_path(resource, tuple(split_path(path)))
        if isinstance(value, list):
            elements = [_element(one) for one in value if isinstance(one, Mapping) and one.get("value")]
            if elements:
                found[path] = elements
        elif isinstance(value, str) and value.strip():
            found[path] = value
        elif isinstance(value, int) and not isinstance(value, bool):
            found[path] = str(value)
    if not found:
        raise NothingKeptError(f"has none of {', '.join(paths)}")
    return found


def with_kept(resource: Mapping[str, Any], kept: Mapping[str, Any], mapped: Container[str]) -> Mapping[str, Any]:
    """What is wanted of an account with the values that it keeps, of the attributes that are mapped there."""
    for path, value in kept.items():
        if path in mapped:
            steps = split_path(path)
            resource = with_value_of(nest([(steps, value)]), resource, steps)
    return resource


def _element(element: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the application made of it itself, such as `$ref`."""
    return {name: element[name] for name in _OF_AN_ELEMENT if isinstance(element.get(name), str | bool)}


def identity_kept(person: Person, app: str, values: Mapping[str, Any], reason: str) -> IdentityKept:
    """The change that says what the person's account in `app` keeps. Raises NothingKeptError for a value that is none,
    such as one that is too long."""
    try:
        return IdentityKept(worker_id=person.id, app=app, values=dict(values), reason=reason)
    except ValidationError as error:
        names = sorted({str(one["loc"][1]) for one in error.errors() if len(one["loc"]) > 1})
        raise NothingKeptError(f"has a value that cannot be kept: {', '.join(names)}") from None


def event_id(person: Person, change: IdentityKept) -> str:
    """The same values for the same person are one event, however often they are sent, until it has been taken in.

    Nothing personal can be read from it.
    """
    known = person.identities.get(change.app)
    content = [person.id, change.app, change.model_dump()["values"], known.event_id if known else ""]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
