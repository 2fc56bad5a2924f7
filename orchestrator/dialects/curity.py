"""The Curity Identity Server.

Its accounts honour PATCH with filter paths, and ETags; it has no groups."""

from orchestrator.dialects.base import Dialect
from orchestrator.domain.discovery import Capabilities

CURITY = Dialect(
    name="curity",
    title="Curity Identity Server",
    sources=(
        "https://curity.io/resources/learn/managing-users-with-scim/",
        "https://curity.io/resources/learn/user-management/",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False),
    creates_groups=False,
)
