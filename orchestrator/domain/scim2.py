"""The codec of SCIM 2.0 (RFC 7643, RFC 7644): bodies from what should change, and resources from bodies.

A codec is a module with these functions; `domain.scim1` is the other one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.domain.scim_diff import (
    GROUP_SCHEMA,
    USER_SCHEMA,
    create_body,
    member_operations,
    operations,
    patch_body,
    set_active,
)

CONTENT_TYPE = "application/scim+json"
ACCEPT = "application/scim+json, application/json"
CONFIG_PATH = "/ServiceProviderConfig"
BULK_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"


def create(resource: Mapping[str, Any], *, active: bool = True) -> dict[str, Any]:
    """The body of a POST of a user."""
    return create_body(resource, active)


def change(
    held: Mapping[str, Any], wanted: Mapping[str, Any], *, active: bool | None, filters: bool = True
) -> dict[str, Any] | None:
    """The body of a PATCH that turns `held` into `wanted`, and sets `active` unless it is None; None when nothing
    differs. Without `filters` a multi-valued attribute is replaced whole."""
    changes = operations(held, wanted, filters=filters)
    if active is not None:
        changes.append(set_active(active))
    return patch_body(changes) if changes else None


def replace(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a PUT of a whole user."""
    extensions = sorted(name for name in resource if name.startswith("urn:"))
    return {**resource, "schemas": [USER_SCHEMA, *extensions]}


def replace_group(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a PUT of a whole group."""
    return {**resource, "schemas": [GROUP_SCHEMA]}


def create_group(name: str) -> dict[str, Any]:
    """The body of a POST of an empty group."""
    return {"schemas": [GROUP_SCHEMA], "displayName": name}


def members(add: Sequence[str], remove: Sequence[str], *, filters: bool = True) -> dict[str, Any]:
    """The body of a PATCH of a group's members. Without `filters` those who leave are named in `value`, as Entra ID
    does."""
    return patch_body(member_operations(add, remove, filters=filters))


def read(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A resource as SCIM 2.0 names it: as it is."""
    return row
