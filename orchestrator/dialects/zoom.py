"""Zoom.

Wants `Accept: application/scim+json`, takes one call a second for each endpoint, changes users by PUT, and PATCH only
activates and deactivates."""

from orchestrator.dialects.base import Dialect, Limit
from orchestrator.domain.discovery import Capabilities

ZOOM = Dialect(
    name="zoom",
    title="Zoom",
    sources=(
        "https://developers.zoom.us/docs/api/scim2/",
        "https://marketplace.zoom.us/docs/api-reference/scim-api/",
    ),
    accept="application/scim+json",
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False),
    lookup=("userName",),
    patchable=frozenset({"active"}),
    limits=(
        Limit("user_create", 1, 1),
        Limit("user_write", 1, 1),
        Limit("group_write", 1, 1),
        Limit("read", 1, 1),
    ),
)
