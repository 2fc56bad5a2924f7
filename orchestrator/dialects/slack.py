"""Slack, by SCIM 2.0 and by SCIM 1.1.

DELETE deactivates; an account is never gone. A page has ten rows unless more are asked for."""

from orchestrator.dialects.base import Dialect, Limit
from orchestrator.domain.discovery import Capabilities

_SOURCES = (
    "https://docs.slack.dev/reference/scim-api/",
    "https://docs.slack.dev/reference/scim-api/rate-limits",
)
_LIMITS = (
    Limit("user_create", 180, 60, 20),
    Limit("user_write", 180, 60, 20),
    Limit("group_write", 180, 60, 80),
    Limit("read", 300, 60),
)
"""Per minute and endpoint; all writes together may not pass 600 a minute, which these do not."""

SLACK = Dialect(
    name="slack",
    title="Slack",
    sources=_SOURCES,
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, max_results=1000),
    deleted="inactive",
    page_size=200,
    limits=_LIMITS,
)

SLACK_1 = Dialect(
    name="slack-1.1",
    title="Slack (SCIM 1.1)",
    sources=_SOURCES,
    version="1.1",
    capabilities=Capabilities(patch=True, put=True, bulk=False, sort=False, max_results=1000),
    deleted="inactive",
    page_size=200,
    limits=_LIMITS,
)
