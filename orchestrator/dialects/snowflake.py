"""Snowflake.

A filter that it does not understand is answered with 200 and nothing, so only those are sent that it documents; a list
without a filter shows one synthetic row until behaviour change bundle 2026_03 is enabled. Multi-valued attributes do
not exist: an e-mail address is one address. Membership is changed on the group alone."""

from orchestrator.dialects.base import Dialect, one_value_each
from orchestrator.domain.discovery import Capabilities

SNOWFLAKE = Dialect(
    name="snowflake",
    title="Snowflake",
    sources=(
        "https://docs.snowflake.com/en/user-guide/scim-user-api-reference",
        "https://docs.snowflake.com/en/user-guide/scim-group-api-reference",
        "https://docs.snowflake.com/en/release-notes/bcr-bundles/2026_03/bcr-2276",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False),
    lookup=("userName",),
    filter_paths=False,
    shape=one_value_each("emails", "phoneNumbers", "addresses", "roles", "entitlements"),
    placeholder="synthesis_user",
    note="lists show real users only since behaviour change bundle 2026_03: reconcile and import need it enabled",
)
