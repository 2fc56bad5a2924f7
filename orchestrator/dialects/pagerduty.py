"""PagerDuty.

`active: false` deletes the user, so somebody who returns is created anew. A user who is assigned to an open incident
cannot be taken away unless reassignment is switched on. `roles` and `entitlements` hold one value. There are no
groups."""

from orchestrator.dialects.base import Dialect, one_value_each
from orchestrator.domain.discovery import Capabilities

PAGERDUTY = Dialect(
    name="pagerduty",
    title="PagerDuty",
    sources=(
        "https://support.pagerduty.com/main/docs/scim-user-provisioning",
        "https://support.pagerduty.com/main/docs/assign-or-deactivate-users",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False),
    filter_paths=False,
    required=("displayName",),
    shape=one_value_each("roles", "entitlements", "emails"),
    deactivated="gone",
    creates_groups=False,
    note="switch incident reassignment on, or a leaver with an open incident is refused",
)
