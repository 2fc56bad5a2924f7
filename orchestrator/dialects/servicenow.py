"""ServiceNow.

Drops the enterprise extension in silence unless it is mapped there, so it is not sent; map what you need to core
attributes or to ServiceNow's own extension. Several users may share an externalId: userName decides."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities
from orchestrator.domain.paths import ENTERPRISE

SERVICENOW = Dialect(
    name="servicenow",
    title="ServiceNow",
    sources=(
        "https://www.servicenow.com/docs/bundle/platform-security/page/integrate/scim/concept/scim-overview.html",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, etag=False),
    ambiguous=("externalId",),
    ignored=frozenset({ENTERPRISE}),
)
