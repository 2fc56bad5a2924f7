"""SCIM Bulk: what fits into one request, and one answer taken apart into the answers of its operations.

RFC 7644, section 3.7; the drafts of SCIM 1.1 have the same with another schema and with the status as an object. Only
operations that have nothing to do with each other go together, so no operation refers to another one's bulkId.
`failOnErrors` is not sent: without it the application "MUST continue performing as many changes as possible and
disregard partial failures" (section 3.7.3), and one person's mistake is no reason to stop another one's. With any
number, what comes after that many failures would be left out, and each of those accounts would have to be read back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

PATH = "/Bulk"
MOST_OPERATIONS = 100
"""Where the application allows more. One lost answer costs so many looks, and whoever leaves waits for the request
that their own account is in."""
MOST_BYTES = 1 << 20
"""Where the application says nothing of a payload."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A change of one resource. `path` is relative to the base URL, `version` the ETag it must still have."""

    method: str
    path: str
    data: Mapping[str, Any] | None = None
    version: str | None = None
    size: int = field(init=False)
    """Bytes of it in a request, but for its bulkId."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(orjson.dumps(self.written(""))))

    def written(self, bulk_id: str) -> dict[str, Any]:
        """As it stands in a request."""
        written: dict[str, Any] = {"method": self.method, "bulkId": bulk_id, "path": self.path}
        if self.version is not None:
            written["version"] = self.version
        if self.data is not None:
            written["data"] = self.data
        return written

    @property
    def resource(self) -> str | None:
        """What it changes; None for what is yet to be made."""
        return None if self.method == "POST" else self.path


class Answered(NamedTuple):
    """The answer to one operation, as it would have been the answer to a call of its own."""

    status: int
    body: dict[str, Any] | None
    headers: dict[str, str]


def bulk_id(index: int) -> str:
    """The bulkId of an operation by its place; it has to be unique within its request alone."""
    return str(index + 1)


def request_body(schema: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The body of a Bulk request."""
    written = [one.written(bulk_id(index)) for index, one in enumerate(operations)]
    return {"schemas": [schema], "Operations": written}


def taken_along(
    first: Operation, waiting: Iterable[Operation], schema: str, *, operations: int, size: int
) -> Iterator[int]:
    """Which of those that wait, by index, go into the request of `first`: at most so many operations in all, the body
    within so many bytes as it is sent, and no resource twice. What is too large for the room that is left waits for a
    request of its own, and keeps nobody."""
    length = len(orjson.dumps(request_body(schema, [first])))
    resources, count = {first.resource}, 1
    for index, one in enumerate(waiting):
        if count >= operations:
            return
        longer = length + 1 + one.size + len(bulk_id(count))
        if longer > size or (one.resource is not None and one.resource in resources):
            continue
        resources.add(one.resource)
        length, count = longer, count + 1
        yield index


def taken_apart(operations: Sequence[Operation], body: Mapping[str, Any] | None) -> list[Answered | None] | None:
    """The answer to each operation, None where there is none that can be trusted; None instead of a list when the body
    is no answer to a Bulk request.

    An answer belongs to the operation of its bulkId. Where it names none, as many do but for a POST, its location
    decides; and where that is missing too, its place, if every operation was answered and the methods agree. Two
    answers for one operation are none.
    """
    listed = None if body is None else body.get("Operations")
    if not isinstance(listed, list):
        return None
    rows = [row if isinstance(row, Mapping) else {} for row in listed]
    found: dict[int, list[Mapping[str, Any]]] = {}
    named = {bulk_id(index): index for index in range(len(operations))}
    lying = {_last_steps(one.path): index for index, one in enumerate(operations) if one.resource is not None}
    complete = len(rows) == len(operations)
    for place, row in enumerate(rows):
        index: int | None
        if row.get("bulkId") not in (None, ""):
            index = named.get(str(row["bulkId"]))
        elif location := row.get("location"):
            index = lying.get(_last_steps(str(location)))
        else:
            index = place if complete and "method" in row and operations[place].resource is not None else None
        if index is not None and _agrees(row, operations[index]):
            found.setdefault(index, []).append(row)
    return [
        _read(one, found[index][0]) if len(found.get(index, ())) == 1 else None for index, one in enumerate(operations)
    ]


def _agrees(row: Mapping[str, Any], operation: Operation) -> bool:
    method = row.get("method")
    return method is None or str(method).upper() == operation.method


def _read(operation: Operation, row: Mapping[str, Any]) -> Answered | None:
    status = _status(row.get("status"))
    if status is None:
        return None
    response, location, version = row.get("response"), row.get("location"), row.get("version")
    body = dict(response) if isinstance(response, Mapping) else None
    headers = {}
    if isinstance(version, str) and version:
        headers["etag"] = version
    if isinstance(location, str) and location:
        headers["location"] = location
    if operation.method == "POST" and status < 300 and not (body or {}).get("id"):
        made = _last_steps(headers.get("location", ""))
        if made is None or made[0] != operation.path.strip("/").rpartition("/")[2].lower():
            return None  # it was made, and nobody says what it is called: whoever asked has to look for it
        body = {"schemas": list((operation.data or {}).get("schemas", ())), **(body or {}), "id": made[1]}
    return Answered(status, body, headers)


def _status(value: Any) -> int | None:
    """A status as a text (RFC 7644), as a number, or as an object with a `code` (SCIM 1.1)."""
    if isinstance(value, Mapping):
        value = value.get("code")
    if isinstance(value, str):
        text = value.strip().partition(" ")[0]
        value = int(text) if text.isascii() and text.isdigit() and len(text) == 3 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599 else None


def _last_steps(location: str) -> tuple[str, str] | None:
    """The endpoint in lower case and the id at the end of a location; ids may be quoted or not."""
    steps = [unquote(step) for step in location.partition("?")[0].rstrip("/").split("/")]
    return (steps[-2].lower(), steps[-1]) if len(steps) > 1 and steps[-2] and steps[-1] else None
