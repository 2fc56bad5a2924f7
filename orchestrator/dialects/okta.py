"""Applications that were built for Okta's provisioning client, the most common kind.

Okta looks users up by userName alone, replaces them with PUT, switches `active` by PATCH and pages by index, so that
is all many of these servers were ever asked to do."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities

OKTA = Dialect(
    name="okta",
    title="an application built for Okta",
    sources=(
        "https://developer.okta.com/docs/api/openapi/okta-scim/guides/scim-20/",
        "https://developer.okta.com/docs/concepts/scim/",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, filter=True, etag=False),
    lookup=("userName",),
    patchable=frozenset({"active"}),
    filter_paths=False,
    page_size=100,
)
