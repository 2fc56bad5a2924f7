"""A connected application that behaves as a vendor's does; which one is data, see `habits`.

What it holds is kept as SCIM 2.0. A call with the header `x-administrator` is answered plainly, for whoever has to know
what is really there.
"""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from .asgi import error_body
from .bulk import ENDPOINT
from .directory import USER, Row, Table
from .habits import Habits, Rate
from .patching import ENTERPRISE, ScimError, operations, parse_path
from .plain import Behave, Plain, Request, Response

ADMINISTRATOR = b"x-administrator"
_CORE_1 = "urn:scim:schemas:core:1.0"
_ENTERPRISE_1 = "urn:scim:schemas:extension:enterprise:1.0"
_JSON = (b"content-type", b"application/json")
_CONFIGS = {"2.0": "ServiceProviderConfig", "1.1": "ServiceProviderConfigs"}


class _Users(Table):
    """Users whose ids are made as the vendor makes them."""

    def __init__(self, habits: Habits) -> None:
        super().__init__(USER)
        self._ids = habits.ids
        self._numbers = 7_000_000_000

    def new_id(self, row: Row) -> str:
        if self._ids == "externalId":
            return str(row["externalId"])
        if self._ids == "number":
            self._numbers += 1
            return str(self._numbers)
        return super().new_id(row)


class Vendor(Plain):
    """The ASGI application. `enforce` makes it refuse what passes the vendor's rates."""

    def __init__(self, habits: Habits, *, enforce: bool = False, behave: Behave | None = None) -> None:
        super().__init__(behave=behave, bulk=habits.bulk)
        self.habits = habits
        self.directory.users = _Users(habits)
        self._enforce = enforce
        self._tokens: dict[Rate, tuple[float, float]] = {}
        self._cursors: dict[str, list[str]] = {}
        self._plain = Plain()
        self._plain.directory = self.directory

    def handle(self, request: Request) -> Response:
        """Answer one request as the vendor's application does."""
        if any(name == ADMINISTRATOR for name, _ in request.headers):
            return self._plain.handle(request)
        try:
            self._admit(request)
            return self._answered(request, self._route(request))
        except ScimError as error:
            return self._refused(error)

    # --- before ---------------------------------------------------------------------------------------------------

    def _admit(self, request: Request) -> None:
        habits, headers = self.habits, {name.lower(): value.decode("latin-1") for name, value in request.headers}
        if habits.needs_user_agent and not headers.get(b"user-agent"):
            raise ScimError(403, "a User-Agent is required")
        if habits.needs_accept and headers.get(b"accept") != habits.needs_accept:
            raise ScimError(406, f"Accept must be {habits.needs_accept}")
        if self._enforce:
            self._charge(request)

    def _charge(self, request: Request) -> None:
        """One token bucket for each rate."""
        now, kind = asyncio.get_running_loop().time(), "/" + request.path.strip("/").partition("/")[0]
        for rate in self.habits.rates:
            if rate.call not in (f"{request.method} {kind}", f"* {kind}"):
                continue
            tokens, since = self._tokens.get(rate, (float(rate.burst), now))
            tokens = min(rate.burst, tokens + (now - since) * rate.calls / rate.seconds)
            if tokens < 1:
                self._tokens[rate] = tokens, now
                raise ScimError(429, f"too many calls of {rate.call}")
            self._tokens[rate] = tokens - 1, now

    # --- the work -------------------------------------------------------------------------------------------------

    def _route(self, request: Request) -> Response:
        habits = self.habits
        endpoint, _, id_ = request.path.strip("/").partition("/")
        if endpoint in (*_CONFIGS.values(), "ResourceTypes", "Schemas"):
            return self._described(request, endpoint)
        if endpoint == ENDPOINT:
            if habits.bulk is None or request.method != "POST":
                raise ScimError(404, f"there is no endpoint /{endpoint}")
            return self._bulk(request, habits.bulk, habits.version)
        users = endpoint == "Users"
        if not users and (habits.groups == "no" or (request.method == "POST" and habits.groups == "fixed")):
            raise ScimError(404 if habits.groups == "no" else 405, "groups are made elsewhere")
        if users and not {"PATCH": habits.user_patch, "PUT": habits.user_put}.get(request.method, True):
            raise ScimError(405, f"{request.method} is not supported here")
        if request.method in ("PUT", "PATCH", "DELETE"):
            self._check_version(request, id_)
        if request.method == "DELETE" and users and habits.delete_disables:
            row = {**self.directory.users.get(id_), "active": False}
            self.directory.users.save(row, "")
            return Response(204)
        if request.body and request.method != "DELETE":
            request = self._read(request, id_)
        response = super()._route(request)
        left = self.directory.users.rows.get(id_, {})
        if users and habits.inactive_is_gone and left.get("active") is False:
            self.directory.delete(self.directory.users, id_)
        return response

    def _table(self, path: str) -> Table:
        return self.directory.users if path.startswith("/Users") else self.directory.groups

    def _check_version(self, request: Request, id_: str) -> None:
        wanted = next((value.decode() for name, value in request.headers if name.lower() == b"if-match"), None)
        if wanted is not None and self.habits.etags and wanted != _etag(self._table(request.path).get(id_)):
            raise ScimError(412, "the resource has changed")
        if wanted is None and self.habits.insists:
            raise ScimError(428, "say by If-Match what is to be changed")

    def _read(self, request: Request, id_: str) -> Request:
        """The request as SCIM 2.0 has it, once it has passed what the vendor checks."""
        body: Row = orjson.loads(request.body)
        users = request.path.startswith("/Users")
        if self.habits.version == "1.1":
            body = _from_1(body)
            if request.method == "PATCH":
                table = self.directory.users if users else self.directory.groups
                body = _merged(table.get(id_), body)
                return request._replace(method="PUT", body=orjson.dumps(body))
        if request.method == "PATCH":
            self._check_patch(body, users)
        elif users:
            body = self._check_user(body, creating=request.method == "POST")
        return request._replace(body=orjson.dumps(body))

    def _check_user(self, body: Row, *, creating: bool) -> Row:
        habits = self.habits
        if creating and (missing := [name for name in habits.required if not body.get(name)]):
            raise ScimError(409, f"REQUIRED_FIELD_MISSING: {', '.join(missing)}")
        for name in habits.one_value:
            if isinstance(body.get(name), list) and len(body[name]) > 1:
                raise ScimError(400, f"{name} holds one value", "invalidValue")
        kept = {name: value for name, value in body.items() if name not in habits.dropped}
        return {name: value for name, value in kept.items() if not habits.kept or name in habits.kept}

    def _check_patch(self, body: Row, users: bool) -> None:
        changes, habits = operations(body), self.habits
        if not users:
            changed = sum(
                len(change["value"]) if isinstance(change.get("value"), list) else 1
                for change in changes
                if str(change.get("path", "")).startswith("members")
            )
            if habits.most_member_changes and changed > habits.most_member_changes:
                raise ScimError(400, f"at most {habits.most_member_changes} members can change at once")
            return
        for change in changes:
            paths = [change["path"]] if change.get("path") else list(change["value"])
            for path in paths:
                if "[" in path and not habits.filter_paths:
                    raise ScimError(400, "paths with filters are not supported", "invalidPath")
                if habits.patch_only and parse_path(path).attr not in habits.patch_only:
                    raise ScimError(400, f"{path} cannot be patched", "mutability")
                if path in habits.one_value and isinstance(change.get("value"), list) and len(change["value"]) > 1:
                    raise ScimError(400, f"{path} holds one value", "invalidValue")

    def _search(self, request: Request, table: Table) -> Response:
        habits, query = self.habits, dict(request.query)
        condition = query.get("filter", "")
        if condition and table.type is USER and condition.split(" ")[0] not in habits.filters:
            if habits.bad_filter == "refused":
                raise ScimError(400, "this attribute cannot be searched", "invalidFilter")
            if habits.bad_filter == "nothing":
                return Response(200, orjson.dumps({"schemas": [], "totalResults": 0, "Resources": []}))
            query.pop("filter")
        if habits.paging != "index" and "filter" not in query:
            return self._whole(table, query)
        query["count"] = str(min(int(query.get("count", habits.default_count)), habits.max_count))
        return super()._search(request._replace(query=query), table)

    def _whole(self, table: Table, query: dict[str, str]) -> Response:
        """A list without indices: all of it, or a part and where the next one begins (RFC 9865)."""
        rows = [_plain_row(row) for row in table.rows.values()]
        answer: Row = {"totalResults": len(rows), "Resources": rows}
        if self.habits.paging == "cursor":
            most = min(int(query["count"]), self.habits.max_count)
            ids = self._cursors.get(query.get("cursor", ""), list(table.rows))
            answer["Resources"] = [_plain_row(table.rows[id_]) for id_ in ids[:most] if id_ in table.rows]
            if len(ids) > most:
                answer["nextCursor"] = f"c{len(self._cursors)}"
                self._cursors[answer["nextCursor"]] = ids[most:]
        return Response(200, orjson.dumps(answer))

    def _described(self, request: Request, endpoint: str) -> Response:
        habits = self.habits
        if not habits.discoverable or endpoint in (set(_CONFIGS.values()) - {_CONFIGS[habits.version]}):
            raise ScimError(404, f"there is no endpoint /{endpoint}")
        if endpoint not in _CONFIGS.values():
            return super()._route(request)
        document = {
            "patch": {"supported": habits.user_patch},
            "bulk": habits.bulk.described() if habits.bulk else {"supported": False},
            "filter": {"supported": True, "maxResults": habits.max_count},
            "sort": {"supported": False},
            "etag": {"supported": habits.etags},
            "pagination": {"cursor": habits.paging == "cursor", "index": habits.paging == "index"},
        }
        return Response(200, orjson.dumps(document))

    # --- after ----------------------------------------------------------------------------------------------------

    def _answered(self, request: Request, response: Response) -> Response:
        habits, users = self.habits, request.path.startswith("/Users")
        if request.method == "PATCH" and users and habits.patch_answers == 204:
            return Response(204)
        if not response.body or not request.path.startswith(("/Users", "/Groups")):
            return response
        body: Row = orjson.loads(response.body)
        headers = response.headers
        if "Resources" in body:
            body["Resources"] = [self._shown(row) for row in body["Resources"]]
            if habits.no_total:
                body.pop("totalResults", None)
        else:
            if habits.etags and (row := self._table(request.path).rows.get(str(body.get("id")))) is not None:
                headers = (*headers, (b"etag", _etag(row).encode()))
            body = self._shown(body)
        return Response(response.status, orjson.dumps(body), headers)

    def _shown(self, row: Row) -> Row:
        habits, shown = self.habits, dict(row)
        if not habits.group_shows_members:
            shown.pop("members", None)
        if habits.no_schemas:
            shown.pop("schemas", None)
        if habits.ids == "number" and str(shown.get("id", "")).isdigit():
            shown["id"] = int(shown["id"])
        if habits.booleans_as_text and isinstance(shown.get("active"), bool):
            shown["active"] = str(shown["active"])
        extension = shown.get(ENTERPRISE)
        if habits.manager_as_text and isinstance(extension, Mapping) and isinstance(extension.get("manager"), Mapping):
            shown[ENTERPRISE] = {**extension, "manager": extension["manager"].get("value")}
        return _to_1(shown) if habits.version == "1.1" else shown

    def _refused(self, error: ScimError) -> Response:
        headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)
        if error.status == 429:
            headers = (*headers, (b"retry-after", b"1"))
        if self.habits.version == "1.1":
            body = orjson.dumps({"Errors": [{"description": error.detail, "code": str(error.status)}]})
        elif self.habits.plain_errors:
            body = orjson.dumps({"error": {"message": error.detail}, "status": "failure"})
        else:
            body = error_body(error.status, error.detail, error.scim_type)
        return Response(error.status, body, headers)


def _etag(row: Row) -> str:
    return f'W/"{zlib.crc32(orjson.dumps(row)):08x}"'


def _plain_row(row: Row) -> Row:
    return {**row, "members": list(row["members"].values())} if "members" in row else row


def _to_1(row: Row) -> Row:
    """A resource as SCIM 1.1 names it."""
    shown = {name: value for name, value in row.items() if name != ENTERPRISE}
    shown["schemas"] = [_CORE_1]
    if isinstance(extension := row.get(ENTERPRISE), Mapping):
        renamed = dict(extension)
        if isinstance(manager := renamed.get("manager"), Mapping):
            renamed["manager"] = {"managerId": manager.get("value")}
        shown[_ENTERPRISE_1] = renamed
        shown["schemas"].append(_ENTERPRISE_1)
    return shown


def _from_1(body: Row) -> Row:
    """The inverse of `_to_1`. A body of SCIM 2.0 is refused: a server of 1.1 does not know it."""
    schemas = body.get("schemas")
    if not isinstance(schemas, list) or _CORE_1 not in schemas or "Operations" in body:
        raise ScimError(400, "this is no SCIM 1.1")
    read = {name: value for name, value in body.items() if name != _ENTERPRISE_1}
    if isinstance(extension := body.get(_ENTERPRISE_1), Mapping):
        renamed = dict(extension)
        if isinstance(manager := renamed.get("manager"), Mapping):
            renamed["manager"] = {"value": manager.get("managerId")}
        read[ENTERPRISE] = renamed
    return read


def _merged(row: Row, partial: Row) -> Row:
    """A partial resource laid over the one that is there (draft-scim-api-01, section 3.3.2)."""
    merged: Row = orjson.loads(orjson.dumps(_plain_row(row)))
    gone = partial.get("meta", {}).get("attributes", [])
    for path in gone:
        path = path.replace(_ENTERPRISE_1, ENTERPRISE)
        inner = path.removeprefix(f"{ENTERPRISE}:")
        place, steps = merged, path.split(".")
        if inner != path:
            steps = [ENTERPRISE, *inner.split(".")]
        for step in steps[:-1]:
            place = place.get(step, {})
        place.pop(steps[-1], None)
        if merged.get(ENTERPRISE) == {}:
            del merged[ENTERPRISE]  # an empty value is no value (draft-scim-core-schema-01, section 3)
    for name, value in partial.items():
        if name in ("schemas", "meta", "id"):
            continue
        merged[name] = _laid(merged.get(name), value)
    return merged


def _laid(held: Any, value: Any) -> Any:
    if isinstance(held, Mapping) and isinstance(value, Mapping):
        return {**held, **{name: _laid(held.get(name), part) for name, part in value.items()}}
    if isinstance(value, list):
        elements = list(held or [])
        for one in value:
            bare = {name: part for name, part in one.items() if name != "operation"}
            elements = [element for element in elements if element.get("value") != bare.get("value")]
            if one.get("operation") != "delete":
                elements.append(bare)
        return elements
    return value
