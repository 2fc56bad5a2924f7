"""GitHub: enterprises with managed users, and organisations.

Both refuse calls without a User-Agent. In an enterprise `active: false` suspends and can be taken back, DELETE is for
ever. In an organisation `active: false` removes the member and the identity with it, so somebody who returns is
created anew; paths with filters are not understood there."""

from orchestrator.dialects.base import Dialect, Limit
from orchestrator.domain.discovery import Capabilities

GITHUB_EMU = Dialect(
    name="github-emu",
    title="GitHub Enterprise Managed Users",
    sources=(
        "https://docs.github.com/en/enterprise-cloud@latest/rest/enterprise-admin/scim",
        "https://docs.github.com/en/enterprise-cloud@latest/admin/managing-iam/"
        "provisioning-user-accounts-with-scim/provisioning-users-and-groups-with-scim-using-the-rest-api",
        "https://docs.github.com/en/enterprise-cloud@latest/admin/managing-iam/"
        "provisioning-user-accounts-with-scim/deprovisioning-and-reinstating-users",
    ),
    user_agent="jml-orchestrator (SCIM provisioning)",
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False, max_results=100),
    limits=(Limit("user_create", 1000, 3600), Limit("user_write", 1000, 3600)),
    note="a deleted user can never come back under the same name: leave `delete_after_days` out unless you mean it",
)

GITHUB_ORGANISATION = Dialect(
    name="github-organisation",
    title="GitHub organisation",
    sources=("https://docs.github.com/en/enterprise-cloud@latest/rest/scim/scim",),
    user_agent="jml-orchestrator (SCIM provisioning)",
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False, max_results=100),
    filter_paths=False,
    deactivated="gone",
    creates_groups=False,
    limits=(Limit("user_create", 300, 3600), Limit("user_write", 300, 3600)),
    note="there are no groups: teams follow the identity provider by themselves",
)
