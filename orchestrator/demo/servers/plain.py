"""A connected application of our own: SCIM 2.0 from memory, as fast as raw ASGI allows.

For benchmarks, where the application must not be the bottleneck, and for faults, which need a hand inside the
server. Everything between reading a request and sending its answer is synchronous, so requests never interleave
and no lock is needed.

Habits: PATCH answers 200 for a user and 204 for a group; members must exist, and leave by filter or by list; any
attribute is kept; strings are no booleans; other filters than `eq` and `and` are refused; a page holds 100.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from . import bulk as bulk_endpoint
from .asgi import BASE_PATH, SCIM_JSON, Headers, Receive, Scope, Send, error_body, read_body, send_answer
from .directory import GROUP, USER, Directory, Row, Table
from .patching import CORE, ENTERPRISE, READ_ONLY, Path, ScimError, apply, operations, parse_filter, parse_path

_DEFAULT_COUNT = 100
_MAX_COUNT = 1000
_LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_DISCOVERY_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"


class Request(NamedTuple):
    """A request, its path relative to the base path."""

    method: str
    path: str
    query: dict[str, str]
    headers: Headers
    body: bytes
    base_url: str


class Response(NamedTuple):
    """An answer; the body is bytes, so that a fault may answer garbage."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = (SCIM_JSON,)


Behave = Callable[[Request], Awaitable[Response | None]]


class Plain:
    """The ASGI application.

    `behave` is asked before every request and may answer in place of the normal handling; it can also call
    `handle` itself and lose, delay or garble what that returned.
    """

    def __init__(
        self,
        *,
        latency: float = 0.0,
        behave: Behave | None = None,
        bulk: bulk_endpoint.Bulk | None = bulk_endpoint.BY_THE_BOOK,
    ) -> None:
        self.directory = Directory()
        self.bulk = bulk
        self._latency = latency
        self._behave = behave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = _request(scope, await read_body(receive))
        if self._latency:
            await asyncio.sleep(self._latency)
        response = await self._behave(request) if self._behave else None
        if response is None:
            response = self.handle(request)
        await send_answer(send, response.status, response.body, response.headers)

    def handle(self, request: Request) -> Response:
        """Answer one request as an application in good health does."""
        try:
            return self._route(request)
        except ScimError as error:
            return Response(error.status, error_body(error.status, error.detail, error.scim_type))

    def _route(self, request: Request) -> Response:
        endpoint, _, id_ = request.path.strip("/").partition("/")
        if endpoint == bulk_endpoint.ENDPOINT and request.method == "POST" and self.bulk is not None:
            return self._bulk(request, self.bulk)
        table = self.directory.table(endpoint)
        if table is None:
            return _discover(request, endpoint, id_, self.bulk)
        match request.method, bool(id_):
            case "GET", True:
                return _answer(200, _rendered(table.get(id_), request.query))
            case "GET", False:
                return self._search(request, table)
            case "POST", False:
                row = self._writable(table, _object(request.body))
                saved = table.save(row, f"{request.base_url}/{table.type.endpoint}")
                location = (b"location", saved["meta"]["location"].encode())
                return _answer(201, _rendered(saved), (SCIM_JSON, location))
            case "PUT", True:
                table.get(id_)
                row = self._writable(table, _object(request.body)) | {"id": id_}
                return _answer(200, _rendered(table.save(row, "")))
            case "PATCH", True:
                return self._patch(request, table, id_)
            case "DELETE", True:
                self.directory.delete(table, id_)
                return Response(204)
        raise ScimError(405, f"{request.method} is not supported here")

    def _bulk(self, request: Request, bulk: bulk_endpoint.Bulk, version: str = "2.0") -> Response:
        def carry(method: str, path: str, body: bytes, headers: Headers) -> bulk_endpoint.Answer:
            return bulk_endpoint.Answer(*self.handle(Request(method, path, {}, headers, body, request.base_url)))

        return Response(200, bulk_endpoint.carried_out(bulk, request.body, version, request.base_url, carry))

    def _writable(self, table: Table, row: Row) -> Row:
        """Return what a client may set of a whole resource, in the form in which we keep it."""
        row = {name: value for name, value in row.items() if name not in READ_ONLY}
        if table.type is GROUP:
            row["members"] = self.directory.members(row.get("members"))
        return row

    def _search(self, request: Request, table: Table) -> Response:
        condition = request.query.get("filter")
        found = table.find(parse_filter(condition) if condition else ())
        start = max(_integer(request.query, "startIndex", 1), 1)
        count = min(max(_integer(request.query, "count", _DEFAULT_COUNT), 0), _MAX_COUNT)
        page = [_rendered(row, request.query) for row in islice(found, start - 1, start - 1 + count)]
        total = len(found) if isinstance(found, list) else len(table.rows)
        return _answer(200, _listed(page, total, start))

    def _patch(self, request: Request, table: Table, id_: str) -> Response:
        """Apply all operations to a copy, so that a refused one leaves nothing of the others behind."""
        changes = operations(_object(request.body))
        before = table.get(id_)
        if table.type is not GROUP:
            row: Row = orjson.loads(orjson.dumps(before))  # a deep copy, in microseconds
            for change in changes:
                apply(row, change)
            return _answer(200, _rendered(table.save(row, "")))
        row = {**before, "members": dict(before["members"])}
        for change in changes:
            self._change_group(row, change)
        table.save(row, "")
        return Response(204)  # as many servers do: a group of thousands is not sent back for one member

    def _change_group(self, row: Row, change: dict[str, Any]) -> None:
        path, value = change.get("path"), change.get("value")
        if path:
            target = parse_path(path)
            if target.attr.casefold() == "members":
                self._change_members(row["members"], change["op"], target, value)
                return
        elif isinstance(value, dict) and "members" in value:
            self._change_members(row["members"], change["op"], parse_path("members"), value["members"])
            change = {**change, "value": {name: part for name, part in value.items() if name != "members"}}
        apply(row, change)

    def _change_members(self, members: dict[str, Row], op: str, path: Path, value: Any) -> None:
        """Change members by their id: by `members[value eq "x"]`, or by a list as Entra sends it."""
        if any(term.path.attr != "value" for term in path.terms) or path.sub:
            raise ScimError(400, "members are addressed by their value", "invalidPath")
        if op == "remove":
            listed = value if isinstance(value, list) else []
            named = [term.value for term in path.terms] or [member.get("value") for member in listed]
            for id_ in named or list(members):
                members.pop(id_, None)
            return
        if op == "replace":
            members.clear()
        members.update(self.directory.members(value))


def _request(scope: Scope, body: bytes) -> Request:
    path: str = scope["path"]
    query = scope["query_string"]
    host = next((value for name, value in scope["headers"] if name == b"host"), b"localhost")
    return Request(
        scope["method"],
        path.removeprefix(BASE_PATH) if path.startswith(BASE_PATH) else "",
        dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        scope["headers"],
        body,
        f"{scope['scheme']}://{host.decode('latin-1')}{BASE_PATH}",
    )


def _object(body: bytes) -> Row:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ScimError(400, f"the body is not JSON: {error}", "invalidSyntax") from error
    if not isinstance(value, dict):
        raise ScimError(400, "the body must be an object", "invalidSyntax")
    return value


def _integer(query: dict[str, str], name: str, default: int) -> int:
    try:
        return int(query.get(name, default))
    except ValueError:
        raise ScimError(400, f"{name} must be a number", "invalidValue") from None


def _answer(status: int, document: Row, headers: tuple[tuple[bytes, bytes], ...] = (SCIM_JSON,)) -> Response:
    return Response(status, orjson.dumps(document), headers)


def _rendered(row: Row, query: dict[str, str] | None = None) -> Row:
    """Return a row as clients see it, with or without the attributes that the query names."""
    if "members" in row:
        row = {**row, "members": list(row["members"].values())}
    if query and (wanted := query.get("attributes")):
        names = {"schemas", "id", *wanted.split(",")}
        return {name: value for name, value in row.items() if name in names}
    if query and (unwanted := query.get("excludedAttributes")):
        names = set(unwanted.split(",")) - {"schemas", "id"}
        return {name: value for name, value in row.items() if name not in names}
    return row


def _listed(page: list[Row], total: int, start: int = 1) -> Row:
    return {
        "schemas": [_LIST],
        "totalResults": total,
        "itemsPerPage": len(page),
        "startIndex": start,
        "Resources": page,
    }


def _discover(request: Request, endpoint: str, id_: str, bulk: bulk_endpoint.Bulk | None = None) -> Response:
    """Answer the discovery endpoints (RFC 7644, 4), as little as a client needs."""
    if request.method != "GET":
        raise ScimError(404, f"there is no endpoint {request.path}")
    if endpoint == "ServiceProviderConfig":
        offered = {"supported": False, "maxOperations": 0, "maxPayloadSize": 0} if bulk is None else bulk.described()
        return _answer(200, {**_SERVICE_PROVIDER_CONFIG, "bulk": offered})
    if endpoint not in _DISCOVERY:
        raise ScimError(404, f"there is no endpoint {request.path}")
    documents = _DISCOVERY[endpoint]
    if not id_:
        return _answer(200, _listed(list(documents.values()), len(documents)))
    if id_ not in documents:
        raise ScimError(404, f"there is no {endpoint} {id_}")
    return _answer(200, documents[id_])


_SERVICE_PROVIDER_CONFIG: Row = {
    "schemas": [f"{_DISCOVERY_SCHEMA}ServiceProviderConfig"],
    "patch": {"supported": True},
    "filter": {"supported": True, "maxResults": _MAX_COUNT},
    "changePassword": {"supported": False},
    "sort": {"supported": False},
    "etag": {"supported": False},
    "authenticationSchemes": [{"type": "oauthbearertoken", "name": "bearer", "description": "bearer token"}],
}
_DISCOVERY: dict[str, dict[str, Row]] = {
    "ResourceTypes": {
        of.name: {
            "schemas": [f"{_DISCOVERY_SCHEMA}ResourceType"],
            "id": of.name,
            "name": of.name,
            "endpoint": f"/{of.endpoint}",
            "schema": CORE[of.name],
            "schemaExtensions": [{"schema": ENTERPRISE, "required": False}] if of is USER else [],
        }
        for of in (USER, GROUP)
    },
    "Schemas": {
        urn: {"schemas": [f"{_DISCOVERY_SCHEMA}Schema"], "id": urn, "name": name, "attributes": []}
        for name, urn in (*CORE.items(), ("EnterpriseUser", ENTERPRISE))
    },
}
