"""The codec of SCIM 1.1, as the drafts draft-scim-core-schema-01 and draft-scim-api-01 of 2012 have it.

It differs from 2.0 in the names of schemas, in PATCH, which is a partial resource with `meta.attributes` naming what
goes and `"operation": "delete"` on elements that go, in the manager, and in the shape of errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.domain.paths import ENTERPRISE
from orchestrator.domain.scim_diff import is_schema

CORE = "urn:scim:schemas:core:1.0"
ENTERPRISE_1 = "urn:scim:schemas:extension:enterprise:1.0"
CONTENT_TYPE = "application/json"
ACCEPT = "application/json"
CONFIG_PATH = "/ServiceProviderConfigs"
BULK_SCHEMA = CORE


def create(resource: Mapping[str, Any], *, active: bool = True) -> dict[str, Any]:
    """The body of a POST of a user."""
    return replace({**resource, "active": active})


def replace(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a PUT of a whole user."""
    written = _written(resource)
    return {**written, "schemas": [CORE, *sorted(name for name in written if name.startswith("urn:"))]}


def replace_group(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a PUT of a whole group."""
    return {**resource, "schemas": [CORE]}


def create_group(name: str) -> dict[str, Any]:
    """The body of a POST of an empty group."""
    return {"schemas": [CORE], "displayName": name}


def members(add: Sequence[str], remove: Sequence[str], *, filters: bool = True) -> dict[str, Any]:
    """The body of a PATCH of a group's members (draft-scim-api-01, section 3.3.2). There are no filter paths."""
    listed: list[dict[str, str]] = [{"value": member} for member in add]
    listed += [{"value": member, "operation": "delete"} for member in remove]
    return {"schemas": [CORE], "members": listed}


def change(
    held: Mapping[str, Any], wanted: Mapping[str, Any], *, active: bool | None, filters: bool = True
) -> dict[str, Any] | None:
    """The body of a PATCH that turns `held` into `wanted`, and sets `active` unless it is None; None when nothing
    differs."""
    partial, gone = _difference(_written(held), _written(wanted), "")
    if active is not None:
        partial["active"] = active
    if gone:
        partial["meta"] = {"attributes": gone}
    if not partial:
        return None
    return {"schemas": [CORE, *sorted(name for name in partial if name.startswith("urn:"))], **partial}


def read(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A resource as SCIM 2.0 names it."""
    enterprise = row.get(ENTERPRISE_1)
    if not isinstance(enterprise, Mapping):
        return row
    read_ = {name: value for name, value in row.items() if name != ENTERPRISE_1}
    manager = enterprise.get("manager")
    if isinstance(manager, Mapping) and "managerId" in manager:
        rest = {name: value for name, value in manager.items() if name != "managerId"}
        enterprise = {**enterprise, "manager": {**rest, "value": manager["managerId"]}}
    return {**read_, ENTERPRISE: enterprise}


def _written(resource: Mapping[str, Any]) -> dict[str, Any]:
    """A resource as SCIM 1.1 names it."""
    enterprise = resource.get(ENTERPRISE)
    if not isinstance(enterprise, Mapping):
        return dict(resource)
    written = {name: value for name, value in resource.items() if name != ENTERPRISE}
    manager = enterprise.get("manager")
    if isinstance(manager, Mapping) and "value" in manager:
        rest = {name: value for name, value in manager.items() if name not in ("value", "$ref")}
        enterprise = {**enterprise, "manager": {**rest, "managerId": manager["value"]}}
    return {**written, ENTERPRISE_1: enterprise}


def _difference(held: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], list[str]]:
    """The partial resource that brings the difference about, and the paths of what is to go."""
    partial: dict[str, Any] = {}
    gone: list[str] = []
    for name in sorted({*held, *wanted}):
        before, after = held.get(name), wanted.get(name)
        if before == after:
            continue
        path, extends = f"{prefix}{name}", not prefix and is_schema(name)
        if after is None and not extends:
            gone.append(path)
        elif isinstance(after, Mapping) or extends:
            place = f"{path}:" if extends else f"{path}."  # section 3.10 of the draft
            inner, inner_gone = _difference(_mapping(before), _mapping(after), place)
            gone += inner_gone
            if inner:
                partial[name] = inner
        elif isinstance(after, list):
            partial[name] = _elements(before if isinstance(before, list) else [], after)
        else:
            partial[name] = after
    return partial, gone


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _elements(before: list[Any], after: list[Any]) -> list[Any]:
    """What is added to a multi-valued attribute, and what leaves it."""
    leaving = [{**one, "operation": "delete"} for one in before if isinstance(one, Mapping) and one not in after]
    return [*leaving, *(one for one in after if one not in before)]
