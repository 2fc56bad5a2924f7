"""What the auditor must know of a record before it becomes an entry: that it is one, and its number."""

import re
from datetime import datetime
from typing import Any

import orjson

from orchestrator.domain.tlog import MAX_ENTRY_BYTES

_KIND = re.compile(r"[a-z][a-z_]{0,31}")
"""Not only the kinds that this version knows: a newer writer's entry is evidence as well."""


class Unfit(ValueError):
    """The record cannot become an entry. `code` is stable; `entry` is what could be read of it, if anything."""

    def __init__(self, code: str, message: str, entry: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.entry = entry


def read_entry(record: bytes) -> dict[str, Any]:
    """The entry of a record; it has writer, epoch, sequence, kind and an instant. Raises Unfit."""
    try:
        entry = orjson.loads(record)
    except orjson.JSONDecodeError as error:
        raise Unfit("undecodable", f"it is not JSON: {error}") from None
    problem = _problem(entry)
    if problem is not None:
        raise Unfit("invalid", problem)
    if len(record) > MAX_ENTRY_BYTES:
        raise Unfit("too_large", f"it has {len(record)} bytes, the limit is {MAX_ENTRY_BYTES}", entry)
    return entry  # type: ignore[no-any-return]  # `_problem` has looked


def _problem(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return "it is no JSON object"
    writer, epoch, sequence = entry.get("writer"), entry.get("epoch"), entry.get("sequence")
    if type(writer) is not str or not writer or type(epoch) is not int or type(sequence) is not int or sequence < 1:
        return "it has no writer, epoch and sequence from 1"
    if entry.get("id") != f"{writer}/{epoch}/{sequence}":
        return "its id is not writer/epoch/sequence"
    kind = entry.get("kind")
    if type(kind) is not str or not _KIND.fullmatch(kind):
        return "its kind is none"
    try:
        at = datetime.fromisoformat(entry["at"])
    except (KeyError, TypeError, ValueError):
        return "`at` is no instant"
    return None if at.tzinfo is not None else "`at` has no time zone"
