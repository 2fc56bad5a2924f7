"""The Bulk endpoint of a server (RFC 7644, section 3.7; the drafts of SCIM 1.1): one request, each operation carried
out as the call that it stands for, in its order.

`failOnErrors` is honoured: the answer ends with the operation that reached it. A reference to another operation's
bulkId is not: nobody who connects here makes one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from .asgi import Headers
from .patching import ScimError

ENDPOINT = "Bulk"
_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
_CORE_1 = "urn:scim:schemas:core:1.0"


@dataclass(frozen=True, slots=True)
class Bulk:
    """What the endpoint takes, and how it answers: statuses as text or as an object with a code, resources or no."""

    operations: int = 1000
    size: int = 1 << 20
    status: Literal["text", "object", "number"] = "text"
    bodies: bool = True

    def described(self) -> dict[str, Any]:
        """The same as a ServiceProviderConfig has it."""
        return {"supported": True, "maxOperations": self.operations, "maxPayloadSize": self.size}


BY_THE_BOOK = Bulk()


class Answer(NamedTuple):
    """What one operation came to."""

    status: int
    body: bytes
    headers: Headers


Carry = Callable[[str, str, bytes, Headers], Answer]
"""Carries a call out, by method, path, body and headers, and never raises."""


def carried_out(bulk: Bulk, body: bytes, version: str, base_url: str, carry: Carry) -> bytes:
    """The answer to a Bulk request. Raises ScimError for one that is refused as a whole."""
    if len(body) > bulk.size:
        raise ScimError(413, f"the size of the bulk operation exceeds maxPayloadSize ({bulk.size})")
    operations, tolerated = _operations(body)
    if len(operations) > bulk.operations:
        raise ScimError(413, f"the number of operations exceeds maxOperations ({bulk.operations})")
    rows: list[dict[str, Any]] = []
    failures = 0
    for one in operations:
        method, path = one["method"].upper(), one["path"]
        headers = ((b"if-match", one["version"].encode()),) if one.get("version") else ()
        answer = carry(method, path, b"" if one.get("data") is None else orjson.dumps(one["data"]), headers)
        rows.append(_row(bulk, one, answer, version, base_url))
        failures += answer.status >= 400
        if tolerated and failures >= tolerated:
            break
    return orjson.dumps({"schemas": [_CORE_1 if version == "1.1" else _RESPONSE], "Operations": rows})


def _operations(body: bytes) -> tuple[list[dict[str, Any]], int]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = None
    operations = request.get("Operations") if isinstance(request, dict) else None
    if not isinstance(operations, list) or not operations:
        raise ScimError(400, "a bulk request has Operations", "invalidSyntax")
    for one in operations:
        if not isinstance(one, dict) or str(one.get("method")).upper() not in _METHODS or "path" not in one:
            raise ScimError(400, "an operation has a method and a path", "invalidSyntax")
        if one["method"].upper() == "POST" and not one.get("bulkId"):
            raise ScimError(400, "a POST has a bulkId", "invalidSyntax")
    ids = [one["bulkId"] for one in operations if one.get("bulkId")]
    if len(ids) != len(set(ids)):
        raise ScimError(400, "a bulkId is unique within its request", "invalidSyntax")
    return operations, int(request.get("failOnErrors") or 0)


def _row(bulk: Bulk, one: Mapping[str, Any], answer: Answer, version: str, base_url: str) -> dict[str, Any]:
    resource = orjson.loads(answer.body) if answer.body else None
    row: dict[str, Any] = {"method": one["method"]}
    if one.get("bulkId"):
        row["bulkId"] = one["bulkId"]
    if one["method"].upper() != "POST":
        row["location"] = base_url + one["path"]
    elif answer.status < 300 and resource:
        row["location"] = f"{base_url}{one['path']}/{resource['id']}"
    etag = next((value.decode() for name, value in answer.headers if name == b"etag"), None)
    if etag:
        row["version"] = etag
    shape = "object" if version == "1.1" else bulk.status
    row["status"] = {"object": {"code": str(answer.status)}, "number": answer.status}.get(shape, str(answer.status))
    if resource is not None and (bulk.bodies or answer.status >= 400):
        row["response"] = resource
    return row
