"""Dropbox.

An account that is deactivated or deleted is suspended, and removed for good after 30 days; until then it can return."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities

DROPBOX = Dialect(
    name="dropbox",
    title="Dropbox",
    sources=(
        "https://help.dropbox.com/account-settings/scim",
        "https://www.dropbox.com/developers/documentation/http/teams",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False),
    filter_paths=False,
    deleted="inactive",
    note="a suspended account is removed for good by Dropbox after 30 days",
)
