"""Persons out of the accounts of an application: for the first connection, when no HR system has spoken yet.

An account becomes a snapshot of a worker. The events go the way of HR's: the resolver makes the person, the connector
finds the account again by its identity and adopts it. So links are made by the one rule that makes all of them.
"""

import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from orchestrator.domain.paths import ENTERPRISE
from orchestrator.domain.scim_diff import is_active
from schemas.changes import WorkerAttributes, WorkerSnapshot

_PATHS: Mapping[str, tuple[str, ...]] = {
    "given_name": ("name", "givenName"),
    "family_name": ("name", "familyName"),
    "display_name": ("displayName",),
    "user_name": ("userName",),
    "title": ("title",),
    "time_zone": ("timezone",),
    "department": (ENTERPRISE, "department"),
    "cost_center": (ENTERPRISE, "costCenter"),
}


class NoWorkerError(ValueError):
    """An account that cannot become a worker; the message says why, without its values."""


def snapshot(resource: Mapping[str, Any], worker_id_path: tuple[str, ...], today: date) -> WorkerSnapshot:
    """The worker that an account tells of. Raises NoWorkerError where the worker id is missing or unfit.

    The engagement begins when the account was made (`meta.created`), or today where nobody says. An inactive account
    is somebody who left the day before today.
    """
    worker_id = at_path(resource, worker_id_path)
    if not isinstance(worker_id, str | int) or isinstance(worker_id, bool) or worker_id == "":
        raise NoWorkerError(f"has no {'.'.join(worker_id_path)} to be the worker id")
    stated: dict[str, Any] = {name: at_path(resource, path) for name, path in _PATHS.items()}
    stated |= {"email": _primary(resource.get("emails")), "phone": _primary(resource.get("phoneNumbers"))}
    start = min(_created(resource) or today, today)
    yesterday = date.fromordinal(today.toordinal() - 1)
    left = is_active(resource) is False
    try:
        return WorkerSnapshot(
            worker_id=str(worker_id),
            start_date=min(start, yesterday) if left else start,
            last_day=yesterday if left else None,
            attributes=WorkerAttributes(**{name: value for name, value in stated.items() if isinstance(value, str)}),
        )
    except ValidationError as error:
        names = sorted({".".join(str(step) for step in one["loc"]) for one in error.errors()})
        raise NoWorkerError(f"does not fit a worker: {', '.join(names)}") from None


def event_id(resource: Mapping[str, Any], change: WorkerSnapshot) -> str:
    """The same account with the same content is one event, whenever it is imported."""
    content = orjson.dumps(change.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return f"{resource['id']}/{hashlib.sha256(content).hexdigest()[:16]}"


def at_path(resource: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path of attribute names; None where it does not lead to one."""
    value: Any = resource
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _primary(elements: Any) -> str | None:
    if not isinstance(elements, list):
        return None
    found = [one for one in elements if isinstance(one, Mapping) and isinstance(one.get("value"), str)]
    chosen = next((one for one in found if one.get("primary") is True), found[0] if found else None)
    return None if chosen is None else str(chosen["value"])


def _created(resource: Mapping[str, Any]) -> date | None:
    text = at_path(resource, ("meta", "created"))
    try:
        return datetime.fromisoformat(text).date() if isinstance(text, str) else None
    except ValueError:
        return None
