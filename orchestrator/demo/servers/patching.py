"""SCIM filters and PATCH over plain dicts, for the server `plain`.

Pure functions. They know the two schemas that matter here (core, and the enterprise extension as a nested object)
and treat everything else by its shape, so an attribute nobody thought of still works.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

CORE = {"User": "urn:ietf:params:scim:schemas:core:2.0:User", "Group": "urn:ietf:params:scim:schemas:core:2.0:Group"}
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
READ_ONLY = frozenset({"id", "meta", "schemas"})

_CASE_EXACT = frozenset({"id", "externalId"})
_TERM = re.compile(r'\s*(?P<name>[\w.:$-]+)\s+eq\s+(?P<value>"(?:[^"\\]|\\.)*"|true|false|-?\d+)\s*', re.IGNORECASE)
_AND = re.compile(r"and\s", re.IGNORECASE)
_PATH = re.compile(
    r"(?:(?P<urn>urn:[^\[\]]+):)?(?P<attr>[A-Za-z$][\w$-]*)(?:\[(?P<filter>.+)\])?(?:\.(?P<sub>[A-Za-z$][\w$-]*))?"
)


class ScimError(Exception):
    """An answer other than success, with the keyword of RFC 7644 table 9 where there is one."""

    def __init__(self, status: int, detail: str, scim_type: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.scim_type = scim_type


class Path(NamedTuple):
    """A parsed attribute path: `[urn:]attr[filter].sub`."""

    urn: str | None
    attr: str
    terms: "tuple[Term, ...]"
    sub: str | None


class Term(NamedTuple):
    """One comparison `path eq value`."""

    path: Path
    value: Any


def parse_path(text: str) -> Path:
    """Read a path as PATCH and filters write it; the core schemas are dropped as the default they are."""
    match = _PATH.fullmatch(text)
    if match is None:
        raise ScimError(400, f"{text!r} is not an attribute path", "invalidPath")
    urn, attr, condition, sub = match.groups()
    if urn in CORE.values():
        urn = None
    return Path(urn, attr, parse_filter(condition) if condition else (), sub)


def parse_filter(text: str) -> tuple[Term, ...]:
    """Read `attr eq value`, joined by `and`; any other filter is refused, never ignored."""
    terms = []
    position = 0
    while match := _TERM.match(text, position):
        terms.append(Term(parse_path(match["name"]), _literal(match["value"])))
        position = match.end()
        if position == len(text):
            return tuple(terms)
        joint = _AND.match(text, position)
        if joint is None:
            break
        position = joint.end()
    raise ScimError(400, f"only `attribute eq value`, joined by `and`, is supported: {text!r}", "invalidFilter")


def _literal(text: str) -> Any:
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text)


def comparable(attr: str, value: Any) -> Any:
    """Return a value in the form it is compared in: most SCIM strings are blind to case."""
    return value.casefold() if isinstance(value, str) and attr not in _CASE_EXACT else value


def matches(item: Mapping[str, Any], terms: tuple[Term, ...]) -> bool:
    """Tell whether an item satisfies every term; of several values one must."""
    return all(
        any(comparable(path.attr, found) == comparable(path.attr, wanted) for found in _values(item, path))
        for path, wanted in terms
    )


def _values(item: Mapping[str, Any], path: Path) -> list[Any]:
    if path.urn:
        item = item.get(path.urn) or {}
    found = item.get(_key(item, path.attr))
    values = found if isinstance(found, list) else [found]
    # `emails eq "x"` means the value of any of them (RFC 7644, 3.4.2.2).
    return [
        value.get(_key(value, path.sub or "value")) if isinstance(value, dict) else value
        for value in values
        if value is not None
    ]


def _key(item: Mapping[str, Any], name: str) -> str:
    """Return the key an attribute name stands for; names are blind to case, keys are not."""
    if name in item:
        return name
    folded = name.casefold()
    return next((key for key in item if key.casefold() == folded), name)


def operations(body: Any) -> list[dict[str, Any]]:
    """Return the operations of a PATCH body, checked for their form, `op` in lower case (Entra capitalises it)."""
    listed = body.get("Operations") if isinstance(body, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ScimError(400, "Operations must be a list with at least one operation", "invalidSyntax")
    return [_checked(operation) for operation in listed]


def _checked(operation: Any) -> dict[str, Any]:
    if not isinstance(operation, dict):
        raise ScimError(400, "an operation must be an object", "invalidSyntax")
    op = str(operation.get("op", "")).lower()
    if op not in ("add", "replace", "remove"):
        raise ScimError(400, f"{op!r} is not add, replace or remove", "invalidSyntax")
    if op == "remove" and not operation.get("path"):
        raise ScimError(400, "remove needs a path", "noTarget")
    if op != "remove" and "value" not in operation:
        raise ScimError(400, f"{op} needs a value", "invalidValue")
    if not operation.get("path") and not isinstance(operation["value"], dict):
        raise ScimError(400, "without a path the value must be an object", "invalidValue")
    return {**operation, "op": op}


def apply(resource: dict[str, Any], operation: dict[str, Any]) -> None:
    """Apply one checked operation to a resource, in place."""
    op, path = operation["op"], operation.get("path")
    if op == "remove":
        _remove(resource, _writable(operation["path"]))
    elif path:
        _write(resource, path, operation["value"], op)
    else:
        for name, value in operation["value"].items():
            if name not in READ_ONLY:  # Okta repeats the id of a group it renames
                _write(resource, name, value, op)


def _writable(text: str) -> Path:
    path = parse_path(text)
    if path.attr in READ_ONLY and not path.urn:
        raise ScimError(400, f"{path.attr} is read-only", "mutability")
    return path


def _write(resource: dict[str, Any], name: str, value: Any, op: str) -> None:
    if name == ENTERPRISE or name in CORE.values():  # a whole schema at once
        if not isinstance(value, dict):
            raise ScimError(400, f"{name} takes an object", "invalidValue")
        for inner, part in value.items():
            _write(resource, f"{name}:{inner}", part, op)
        return
    path = _writable(name)
    container = resource.setdefault(path.urn, {}) if path.urn else resource
    key = _key(container, path.attr)
    if path.terms or path.sub:
        part = {path.sub: value} if path.sub else value
        for item in _selected(container, key, path, op):
            if not isinstance(item, dict) or not isinstance(part, dict):
                raise ScimError(400, f"{name} and its value must be objects", "invalidValue")
            item.update({_key(item, inner): new for inner, new in part.items()})
    elif value is None:
        container.pop(key, None)
    else:
        container[key] = _merged(container.get(key), value, op)


def _selected(container: dict[str, Any], key: str, path: Path, op: str) -> list[Any]:
    """Return the complex values that a path means: the object itself, or the items of a list that its filter picks."""
    if not path.terms:
        current = container.setdefault(key, {})
        return current if isinstance(current, list) else [current]
    found = [item for item in container.get(key) or [] if matches(item, path.terms)]
    if found:
        return found
    if op == "replace":
        raise ScimError(400, f"no {key} matches the filter of the path", "noTarget")
    created = {term.path.attr: term.value for term in path.terms}
    container.setdefault(key, []).append(created)
    return [created]


def _merged(current: Any, value: Any, op: str) -> Any:
    if isinstance(current, dict) and isinstance(value, dict):
        return current | value
    if isinstance(current, list) and op == "add":
        return current + [item for item in (value if isinstance(value, list) else [value]) if item not in current]
    return value


def _remove(resource: dict[str, Any], path: Path) -> None:
    container = resource.get(path.urn) or {} if path.urn else resource
    key = _key(container, path.attr)
    if path.sub:
        current = container.get(key) or []
        for item in current if isinstance(current, list) else [current]:
            if matches(item, path.terms):
                item.pop(_key(item, path.sub), None)
    elif path.terms:
        container[key] = [item for item in container.get(key) or [] if not matches(item, path.terms)]
    else:
        container.pop(key, None)
