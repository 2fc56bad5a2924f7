"""Microsoft Entra ID, provisioned through its own SCIM API.

No PUT, no sort; users and groups are changed by PATCH alone. A deleted user stays in the recycle bin for 30 days."""

from orchestrator.dialects.base import Dialect, Limit
from orchestrator.domain.discovery import Capabilities

ENTRA_ID = Dialect(
    name="entra-id",
    title="Microsoft Entra ID",
    sources=(
        "https://learn.microsoft.com/entra/identity/app-provisioning/entra-id-scim-api-reference",
        "https://learn.microsoft.com/graph/throttling-limits#identity-and-access-service-limits",
    ),
    capabilities=Capabilities(patch=True, put=False, bulk=False, sort=False),
    members_per_patch=20,
    limits=(Limit("user_create", 100, 10), Limit("user_write", 100, 10), Limit("group_write", 100, 10)),
)
