"""AWS IAM Identity Center.

Filters know `eq` and `and` only, there is no bulk, a list has at most 50 rows, a group is shown without its members and
takes at most 100 changes of them at once. Multi-valued attributes hold one value."""

from orchestrator.dialects.base import Dialect, one_value_each
from orchestrator.domain.discovery import Capabilities

AWS_IDENTITY_CENTER = Dialect(
    name="aws-identity-center",
    title="AWS IAM Identity Center",
    sources=(
        "https://docs.aws.amazon.com/singlesignon/latest/developerguide/limitations.html",
        "https://docs.aws.amazon.com/singlesignon/latest/developerguide/patchgroup.html",
        "https://docs.aws.amazon.com/singlesignon/latest/developerguide/listusers.html",
    ),
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, etag=False, max_results=50),
    filter_paths=False,
    shape=one_value_each("emails", "phoneNumbers", "addresses", "roles", "entitlements"),
    members_per_patch=100,
    shows_members=False,
    page_size=50,
)
