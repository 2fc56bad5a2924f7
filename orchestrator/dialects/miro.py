"""Miro.

Groups are made in Miro and only used here. Changes of a group of more than 500 bytes are allowed five times in half a
minute, smaller ones a hundred times: few large changes go out, and the budget counts with five."""

from orchestrator.dialects.base import Dialect, Limit
from orchestrator.domain.discovery import Capabilities

MIRO = Dialect(
    name="miro",
    title="Miro",
    sources=(
        "https://developers.miro.com/reference/rate-limits",
        "https://developers.miro.com/docs/scim",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False, max_results=1000),
    creates_groups=False,
    members_per_patch=8000,
    page_size=100,
    limits=(
        Limit("user_create", 200, 30),
        Limit("user_write", 100, 30),
        Limit("group_write", 5, 30),
        Limit("read", 200, 30),
    ),
)
