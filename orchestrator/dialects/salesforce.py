"""Salesforce.

A user is not created without an entitlement that is a profile: it answers 409 to that, so the mapping is checked
before. Users are never deleted, DELETE only freezes them. In a filter AND binds no tighter than OR, so no filter here
joins anything."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities

SALESFORCE = Dialect(
    name="salesforce",
    title="Salesforce",
    sources=(
        "https://help.salesforce.com/s/articleView?id=sf.identity_scim_rest_api.htm",
        "https://help.salesforce.com/s/articleView?id=sf.identity_scim_overview.htm",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, max_results=200),
    required=("entitlements",),
    deleted="inactive",
    note="map `entitlements` to the id of a profile: no user is created without one",
)
