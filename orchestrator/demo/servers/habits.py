"""How applications that people connect deviate from the RFCs, as their vendors' pages say, for the server `vendor`.

Written from those pages, apart from the dialects that the connector goes by: were one copied from the other, a mistake
would meet itself and pass.
"""

from dataclasses import dataclass
from typing import Literal

from .bulk import BY_THE_BOOK as BULK
from .bulk import Bulk


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in so many seconds, and so many at once, for `METHOD /Type`; `*` stands for any method."""

    call: str
    calls: int
    seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class Habits:
    """One application. What is left out is as the RFCs have it."""

    name: str
    page: str
    """The vendor's page that says so."""
    version: Literal["2.0", "1.1"] = "2.0"
    needs_user_agent: bool = False
    needs_accept: str = ""
    discoverable: bool = True

    filters: frozenset[str] = frozenset({"userName", "externalId", "displayName", "id"})
    bad_filter: Literal["refused", "nothing", "everybody"] = "refused"
    default_count: int = 100
    max_count: int = 100
    paging: Literal["index", "cursor", "none"] = "index"

    user_patch: bool = True
    user_put: bool = True
    patch_only: frozenset[str] = frozenset()
    """The attributes that a PATCH of a user may name; empty: all."""
    filter_paths: bool = True
    patch_answers: Literal[200, 204] = 200
    etags: bool = False
    insists: bool = False
    """A change without If-Match is answered with 428."""
    required: frozenset[str] = frozenset()
    """Attributes without which a create is answered with 409."""
    one_value: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    """The attributes that are kept at all; empty: all."""

    inactive_is_gone: bool = False
    delete_disables: bool = False

    groups: Literal["yes", "fixed", "no"] = "yes"
    group_shows_members: bool = True
    most_member_changes: int = 0

    bulk: Bulk | None = None
    ids: Literal["uuid", "number", "externalId"] = "uuid"
    no_schemas: bool = False
    booleans_as_text: bool = False
    manager_as_text: bool = False
    no_total: bool = False
    plain_errors: bool = False
    rates: tuple[Rate, ...] = ()


_GITHUB = "https://docs.github.com/en/enterprise-cloud@latest/rest"
_SLACK_RATES = (
    Rate("POST /Users", 180, 60, 20),
    Rate("PATCH /Users", 180, 60, 20),
    Rate("* /Groups", 180, 60, 80),
    Rate("GET /Users", 300, 60, 300),
)
_ONE_VALUE = frozenset({"emails", "phoneNumbers", "addresses", "roles", "entitlements"})

VENDORS = {
    one.name: one
    for one in (
        Habits("standard", "https://www.rfc-editor.org/rfc/rfc9865", paging="cursor", etags=True, bulk=BULK),
        Habits("standard-1.1", "https://datatracker.ietf.org/doc/html/draft-scim-api-01", version="1.1", bulk=BULK),
        Habits(
            "entra-id",
            "https://learn.microsoft.com/entra/identity/app-provisioning/entra-id-scim-api-reference",
            user_put=False,
            most_member_changes=20,
        ),
        Habits(
            "okta",
            "https://developer.okta.com/docs/api/openapi/okta-scim/guides/scim-20/",
            filters=frozenset({"userName", "displayName"}),
            patch_only=frozenset({"active"}),
            discoverable=False,
        ),
        Habits(
            "salesforce",
            "https://help.salesforce.com/s/articleView?id=sf.identity_scim_rest_api.htm",
            required=frozenset({"entitlements"}),
            delete_disables=True,
            max_count=200,
        ),
        Habits(
            "slack",
            "https://docs.slack.dev/reference/scim-api/",
            default_count=10,
            max_count=1000,
            delete_disables=True,
            rates=_SLACK_RATES,
        ),
        Habits(
            "slack-1.1",
            "https://docs.slack.dev/reference/scim-api/",
            version="1.1",
            default_count=10,
            max_count=1000,
            delete_disables=True,
            rates=_SLACK_RATES,
        ),
        Habits(
            "github-emu",
            f"{_GITHUB}/enterprise-admin/scim",
            needs_user_agent=True,
            rates=(Rate("POST /Users", 1000, 3600, 1000),),
        ),
        Habits(
            "github-organisation",
            f"{_GITHUB}/scim/scim",
            needs_user_agent=True,
            filter_paths=False,
            inactive_is_gone=True,
            groups="no",
            discoverable=False,
        ),
        Habits(
            "gitlab",
            "https://docs.gitlab.com/development/internal_api/#group-scim-api",
            ids="externalId",
            patch_only=frozenset({"id", "active"}),
            patch_answers=204,
            user_put=False,
            kept=frozenset({"userName", "externalId", "active", "emails", "name"}),
            groups="no",
            discoverable=False,
        ),
        Habits(
            "aws-identity-center",
            "https://docs.aws.amazon.com/singlesignon/latest/developerguide/limitations.html",
            one_value=_ONE_VALUE,
            filter_paths=False,
            default_count=50,
            max_count=50,
            most_member_changes=100,
            group_shows_members=False,
        ),
        Habits(
            "atlassian",
            "https://developer.atlassian.com/cloud/admin/user-provisioning/rest/api-group-users/",
            filters=frozenset({"userName", "externalId", "displayName"}),
            filter_paths=False,
            required=frozenset({"emails"}),
        ),
        Habits(
            "snowflake",
            "https://docs.snowflake.com/en/user-guide/scim-user-api-reference",
            filters=frozenset({"userName", "displayName"}),
            bad_filter="nothing",
            one_value=_ONE_VALUE,
            filter_paths=False,
        ),
        Habits(
            "databricks",
            "https://docs.databricks.com/api/account/accountusers",
            ids="number",
            filters=frozenset({"userName", "displayName"}),
            filter_paths=False,
            most_member_changes=100,
            no_total=True,
        ),
        Habits(
            "google-cloud-identity",
            "https://docs.cloud.google.com/identity/docs/scim/reference/rest",
            paging="none",
        ),
        Habits(
            "zoom",
            "https://developers.zoom.us/docs/api/scim2/",
            needs_accept="application/scim+json",
            filters=frozenset({"userName", "displayName"}),
            patch_only=frozenset({"active"}),
            rates=(Rate("* /Users", 1, 1, 1), Rate("* /Groups", 1, 1, 1)),
        ),
        Habits(
            "servicenow",
            "https://www.servicenow.com/docs/bundle/platform-security/page/integrate/scim/concept/scim-overview.html",
            dropped=frozenset({"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"}),
            booleans_as_text=True,
            plain_errors=True,
        ),
        Habits(
            "pagerduty",
            "https://support.pagerduty.com/main/docs/assign-or-deactivate-users",
            inactive_is_gone=True,
            filter_paths=False,
            groups="no",
            one_value=frozenset({"roles", "entitlements"}),
            no_schemas=True,
        ),
        Habits(
            "miro",
            "https://developers.miro.com/docs/scim",
            groups="fixed",
            max_count=1000,
            rates=(Rate("PATCH /Groups", 5, 30, 5),),
        ),
        Habits(
            "dropbox",
            "https://help.dropbox.com/account-settings/scim",
            delete_disables=True,
            filter_paths=False,
            manager_as_text=True,
        ),
        Habits(
            "curity",
            "https://curity.io/resources/learn/managing-users-with-scim/",
            etags=True,
            groups="no",
        ),
    )
}
