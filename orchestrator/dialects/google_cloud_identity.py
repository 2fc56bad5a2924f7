"""Google Cloud Identity.

No paging of either kind, no sort, no bulk, no ETags: a list is everything at once."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities

GOOGLE_CLOUD_IDENTITY = Dialect(
    name="google-cloud-identity",
    title="Google Cloud Identity",
    sources=("https://docs.cloud.google.com/identity/docs/scim/reference/rest",),
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False, cursor=False),
    page_overlap=False,
)
