"""What an application's answer means: nothing, or one of the errors of the tree."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from orchestrator.domain.scim_read import scim_type
from orchestrator.errors import ApplicationDown, Changed, RateLimited, Rejected, ScimError, Unavailable

DEFAULT_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=24)
"""A longer Retry-After is taken for a mistake of the application."""


def classify(
    status: int, body: Mapping[str, Any] | None, headers: Mapping[str, str], now: datetime
) -> ScimError | None:
    """The error behind an answer; None for success and for 404 and 409, which the caller has to understand.

    The messages name status and scimType (RFC 7644, section 3.12), never the application's free text, which may
    quote personal data.
    """
    if status < 300 or status in (404, 409):
        return None
    if status == 429:
        return RateLimited("the application limits our rate (429)", retry_after(headers, now) or now + DEFAULT_WAIT)
    if status in (401, 403):
        return ApplicationDown(
            f"the application refuses our credentials ({status}): check auth and its permissions", status
        )
    if status in (408, 425) or (status >= 500 and status != 501):  # 501 stays so: it is nothing to wait for
        return Unavailable(f"the application is unavailable ({status})", retry_after(headers, now))
    if status < 400:
        return ApplicationDown(
            f"the application redirects ({status}): check base_url, redirects are not followed", status
        )
    if status == 412:
        return Changed("the application holds a newer version of the resource (412)")
    kind = scim_type(body)
    return Rejected(f"the application refuses the request ({status}{f' {kind[:40]}' if kind else ''})")


def retry_after(headers: Mapping[str, str], now: datetime) -> datetime | None:
    """The instant that Retry-After names, as seconds or as a date (RFC 9110, section 10.2.3); None where it is absent
    or absurd."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        moment = now + timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment if now <= moment <= now + LONGEST_WAIT else None
