"""Atlassian's user provisioning directory.

Filters are a single `eq` on userName or externalId. DELETE unlinks the account for good; every later call about it is
a 404, which is what should be."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities

ATLASSIAN = Dialect(
    name="atlassian",
    title="Atlassian",
    sources=(
        "https://developer.atlassian.com/cloud/admin/user-provisioning/rest/api-group-users/",
        "https://developer.atlassian.com/cloud/admin/user-provisioning/rest/api-group-groups/",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False, max_results=100),
    filter_paths=False,
    required=("emails",),
    note="an e-mail address on a verified domain is needed to create an account",
)
