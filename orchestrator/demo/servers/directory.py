"""The resources of the server `plain`, indexed so that neither a lookup nor a member change walks anything."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from .patching import CORE, ENTERPRISE, ScimError, Term, comparable, matches

Row = dict[str, Any]


class Type(NamedTuple):
    """A resource type and the attributes it is looked up by."""

    name: str
    endpoint: str
    required: str
    unique: bool
    indexed: tuple[str, ...]


USER = Type("User", "Users", "userName", True, ("userName", "externalId", "displayName"))
GROUP = Type("Group", "Groups", "displayName", False, ("displayName", "externalId"))


class Table:
    """The rows of one resource type, in the order of their creation."""

    def __init__(self, of: Type) -> None:
        self.type = of
        self.rows: dict[str, Row] = {}
        # attribute -> value as compared -> ids; a dict for its order
        self._index: dict[str, dict[Any, dict[str, None]]] = {attr: {} for attr in of.indexed}

    def get(self, id_: str) -> Row:
        """Return a row, which only `save` may change."""
        try:
            return self.rows[id_]
        except KeyError:
            raise ScimError(404, f"{self.type.name} {id_} does not exist") from None

    def find(self, terms: tuple[Term, ...]) -> Iterable[Row]:
        """Return the rows that satisfy every term, by index where one helps."""
        if not terms:
            return self.rows.values()
        return [row for row in self._candidates(terms) if matches(row, terms)]

    def _candidates(self, terms: tuple[Term, ...]) -> Iterator[Row]:
        for path, value in terms:
            if path.attr == "id":
                return iter([self.rows[value]] if value in self.rows else [])
            if path.attr in self._index and not path.urn:
                ids = self._index[path.attr].get(comparable(path.attr, value), {})
                return (self.rows[id_] for id_ in ids)
        return iter(self.rows.values())

    def save(self, row: Row, location: str) -> Row:
        """Check and store a new row, or the new state of one, and stamp its id and meta."""
        self._check(row)
        before = self.rows.get(row.get("id", ""))
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if before is None:
            row["id"] = self.new_id(row)
            meta = {"resourceType": self.type.name, "created": now, "location": f"{location}/{row['id']}"}
        else:
            self._unindex(before)
            meta = before["meta"]
        row["meta"] = meta | {"lastModified": now}
        row["schemas"] = [CORE[self.type.name], *([ENTERPRISE] if row.get(ENTERPRISE) else [])]
        self.rows[row["id"]] = row
        for attr, values in self._index.items():
            if (value := row.get(attr)) is not None:
                values.setdefault(comparable(attr, value), {})[row["id"]] = None
        return row

    def new_id(self, row: Row) -> str:
        """What a new row is called."""
        return uuid4().hex

    def delete(self, id_: str) -> None:
        self._unindex(self.get(id_))
        del self.rows[id_]

    def _check(self, row: Row) -> None:
        required = row.get(self.type.required)
        if not isinstance(required, str) or not required:
            raise ScimError(400, f"{self.type.required} is required", "invalidValue")
        if not isinstance(row.get("active", True), bool):
            raise ScimError(400, "active must be true or false", "invalidValue")
        if any(not isinstance(row.get(attr, ""), str) for attr in self._index):
            raise ScimError(400, f"{', '.join(self._index)} must be strings", "invalidValue")
        if self.type.unique:
            owners = self._index[self.type.required].get(comparable(self.type.required, required), {})
            if any(owner != row.get("id") for owner in owners):
                raise ScimError(409, f"{self.type.required} {required!r} is taken", "uniqueness")

    def _unindex(self, row: Row) -> None:
        for attr, values in self._index.items():
            value = comparable(attr, row.get(attr))
            ids = values.get(value, {})
            ids.pop(row["id"], None)
            if not ids:
                values.pop(value, None)


class Directory:
    """The users and the groups of one application."""

    def __init__(self) -> None:
        self.users = Table(USER)
        self.groups = Table(GROUP)

    def table(self, endpoint: str) -> Table | None:
        return {"Users": self.users, "Groups": self.groups}.get(endpoint)

    def delete(self, table: Table, id_: str) -> None:
        """Delete a resource; it leaves its groups as well, which the RFC does not say and most servers do."""
        table.delete(id_)
        for group in self.groups.rows.values():
            group["members"].pop(id_, None)

    def members(self, listed: Any) -> dict[str, Row]:
        """Return members by their id, each known to us. Kept so in a row, a change costs no walk over the others."""
        members = {}
        for member in listed if isinstance(listed, list) else [listed] if listed else []:
            id_ = member.get("value") if isinstance(member, dict) else None
            if id_ not in self.users.rows and id_ not in self.groups.rows:
                raise ScimError(400, f"member {id_!r} does not exist", "invalidValue")
            members[str(id_)] = member
        return members
