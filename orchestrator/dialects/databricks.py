"""Databricks, accounts and workspaces.

ids are numbers as text, `active: false` keeps the account and its objects, DELETE removes it within 30 days."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities

DATABRICKS = Dialect(
    name="databricks",
    title="Databricks",
    sources=(
        "https://docs.databricks.com/api/account/accountusers",
        "https://docs.databricks.com/admin/users-groups/scim/",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, etag=False, max_results=100),
    lookup=("userName",),
    filter_paths=False,
    members_per_patch=100,
)
