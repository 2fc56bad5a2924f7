"""The least that turns the resource an application holds into the one it should hold, as RFC 7644 PATCH operations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.domain.scim_read import OnlyText

PATCH_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
USER_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Group"

Operation = dict[str, Any]


def create_body(resource: Mapping[str, Any], active: bool = True) -> dict[str, Any]:
    """The body of a POST: the mapped attributes, active or not, with the schemas they belong to."""
    extensions = sorted(name for name in resource if name.startswith("urn:"))
    return {"schemas": [USER_SCHEMA, *extensions], **resource, "active": active}


def patch_body(operations: Sequence[Operation]) -> dict[str, Any]:
    """The body of a PATCH."""
    return {"schemas": [PATCH_SCHEMA], "Operations": list(operations)}


def set_active(active: bool) -> Operation:
    """The operation that deactivates or reactivates."""
    return {"op": "replace", "path": "active", "value": active}


def operations(held: Mapping[str, Any], wanted: Mapping[str, Any], *, filters: bool = True) -> list[Operation]:
    """What to change in `held` so that it shows `wanted`. Both hold mapped attributes only, so what `wanted` lacks
    is removed. Empty when nothing differs. Without `filters` no path has a filter, and a multi-valued attribute is
    replaced whole: some applications know no better."""
    return list(_differences(held, wanted, "", filters))


def _differences(held: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str, filters: bool) -> Iterator[Operation]:
    """`prefix` is what stands before an attribute's name in its path, with what separates them. A schema is no
    attribute (RFC 7644, section 3.5.2, figure 7): what is removed of an extension are its attributes, one by one."""
    for name in sorted({*held, *wanted}):
        path = f"{prefix}{name}"
        before, after = held.get(name), wanted.get(name)
        if before == after:
            continue
        if not prefix and is_schema(name):
            inner = before if isinstance(before, Mapping) else {}
            yield from _differences(inner, after if isinstance(after, Mapping) else {}, f"{name}:", filters)
        elif after is None:
            yield {"op": "remove", "path": path}
        elif isinstance(after, Mapping):
            yield from _differences(before if isinstance(before, Mapping) else {}, after, f"{path}.", filters)
        elif filters and isinstance(after, list) and isinstance(before, list) and _typed(before) and _typed(after):
            yield from _element_differences(before, after, path)
        else:
            yield {"op": "replace", "path": path, "value": after}


def _element_differences(before: list[Any], after: list[Any], path: str) -> Iterator[Operation]:
    """Changes within a multi-valued attribute by its `type`, so that elements of others stay as they are."""
    held = {element["type"]: element for element in before}
    wanted = {element["type"]: element for element in after}
    for kind in held.keys() - wanted.keys():
        yield {"op": "remove", "path": f'{path}[type eq "{kind}"]'}
    for kind, element in wanted.items():
        if kind not in held:
            yield {"op": "add", "path": path, "value": [element]}
            continue
        for name in sorted({*held[kind], *element} - {"type"}):
            if held[kind].get(name) == element.get(name):
                continue
            place = f'{path}[type eq "{kind}"].{name}'
            if element.get(name) is None:
                yield {"op": "remove", "path": place}
            else:
                yield {"op": "replace", "path": place, "value": element[name]}


def _typed(elements: list[Any]) -> bool:
    """Whether every element has a type of its own, which makes a filter path unambiguous."""
    kinds = [element.get("type") for element in elements if isinstance(element, Mapping)]
    return (
        len(kinds) == len(elements)
        and all(isinstance(k, str) and '"' not in k for k in kinds)
        and len(set(kinds)) == len(kinds)
    )


def is_schema(name: str) -> bool:
    """Whether a key of a resource names an extension, whose attributes are below it (RFC 7643, section 3.3)."""
    return name.lower().startswith("urn:")


def project(resource: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What an application's resource shows of the attributes we map: comparable with `wanted`.

    Tolerates what applications add (further sub-attributes of an element, another order of a multi-valued attribute),
    and what they leave out where they show a text for an object.
    """
    shown: dict[str, Any] = {}
    for name, value in wanted.items():
        found = _get(resource, name)
        if found is None:
            continue
        if isinstance(value, Mapping):
            if isinstance(found, OnlyText) and found.shows(value):
                shown[name] = value
            else:
                shown[name] = project(found, value) if isinstance(found, Mapping) else found
        elif isinstance(value, list) and isinstance(found, list):
            shown[name] = value if _same_elements(found, value) else [_plain(element, value) for element in found]
        else:
            shown[name] = found
    return shown


def _get(resource: Mapping[str, Any], name: str) -> Any:
    """An attribute, whatever its case: attribute names are case-insensitive (RFC 7643, section 2.1)."""
    if name in resource:
        return resource[name]
    folded = name.lower()
    return next((value for key, value in resource.items() if key.lower() == folded), None)


def value_at(resource: Mapping[str, Any], steps: Sequence[str]) -> Any:
    """The value at the steps of a path, whatever the case of the names; None where it does not lead to one."""
    value: Any = resource
    for step in steps:
        if not isinstance(value, Mapping):
            return None
        value = _get(value, step)
    return value


def values_at(resource: Mapping[str, Any], steps: Sequence[str]) -> list[str]:
    """Every text at the steps of a path, in their order: of a list, that of each element, by its `value` where no step
    is left. `emails` and `emails.value` lead to the same ones. Whole numbers count as text."""
    return list(_texts(resource, tuple(steps)))


def _texts(value: Any, steps: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _texts(one, steps)
    elif isinstance(value, Mapping):
        yield from _texts(_get(value, steps[0] if steps else "value"), steps[1:])
    elif not steps and isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        yield str(value)


def _same_elements(found: list[Any], wanted: list[Any]) -> bool:
    return len(found) == len(wanted) and all(any(_shows(one, value) for one in found) for value in wanted)


def _shows(found: Any, wanted: Any) -> bool:
    if isinstance(found, OnlyText) and isinstance(wanted, Mapping):
        return found.shows(wanted)
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return all(found.get(name) == value for name, value in wanted.items())
    return bool(found == wanted)


def _plain(element: Any, wanted: list[Any]) -> Any:
    """An element without the sub-attributes that we never map, such as `$ref` and `display`."""
    names = {name for value in wanted if isinstance(value, Mapping) for name in value}
    return {k: v for k, v in element.items() if k in names} if isinstance(element, Mapping) and names else element


def is_active(resource: Mapping[str, Any]) -> bool | None:
    """The `active` attribute, also where it comes as text; None when the application does not show it."""
    value = _get(resource, "active")
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def quoted(value: str) -> str:
    """A string in a filter: JSON's escapes (RFC 7644, section 3.4.2.2)."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def member_operations(add: Sequence[str], remove: Sequence[str], *, filters: bool = True) -> list[Operation]:
    """Group membership as deltas: a group is never sent whole. Without `filters` those who leave are named in
    `value`, as Entra ID does."""
    changes: list[Operation] = []
    if add:
        changes.append({"op": "add", "path": "members", "value": [{"value": member} for member in add]})
    if filters:
        changes.extend({"op": "remove", "path": f"members[value eq {quoted(member)}]"} for member in remove)
    elif remove:
        changes.append({"op": "remove", "path": "members", "value": [{"value": member} for member in remove]})
    return changes
