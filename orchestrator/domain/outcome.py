"""What an application's answer means: nothing, or one of the errors of the tree."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from orchestrator.domain.scim_read import scim_type
from orchestrator.errors import (
    ApplicationDown,
    Changed,
    CursorLost,
    NoTarget,
    RateLimited,
    Rejected,
    ScimError,
    Unavailable,
    Unconditional,
)

DEFAULT_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=1)
"""A longer Retry-After is cut to this: an application that is wrong about it must not be lost for days."""

FARTHEST_SECONDS = 10 * 365 * 86400.0
"""What a number of seconds is read as at most, so that it is an instant at all."""


def classify(
    status: int,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str],
    now: datetime,
    *,
    longest: timedelta = LONGEST_WAIT,
    own: datetime | None = None,
) -> ScimError | None:
    """The error behind an answer; None for success and for 404 and 409, which the caller has to understand.

    The messages name status and scimType (RFC 7644, section 3.12), never the application's free text, which may
    quote personal data. No wait is longer than `longest`; `own` is when to call again after a 429 that does not say.
    """
    if status < 300 or status in (404, 409):
        return None
    if status == 429:
        not_before = retry_after(headers, now, longest) or own or now + DEFAULT_WAIT
        return RateLimited("the application limits our rate (429)", not_before)
    if status in (401, 403):
        return ApplicationDown(
            f"the application refuses our credentials ({status}): check auth and its permissions", status
        )
    if status in (408, 425) or (status >= 500 and status != 501):  # 501 stays so: it is nothing to wait for
        return Unavailable(f"the application is unavailable ({status})", retry_after(headers, now, longest))
    if status < 400:
        return ApplicationDown(
            f"the application redirects ({status}): check base_url, redirects are not followed", status
        )
    if status == 412:
        return Changed("the application holds a newer version of the resource (412)")
    if status == 428:
        return Unconditional("the application takes a change only with If-Match (428)")
    kind = scim_type(body)
    if kind == "noTarget":
        return NoTarget(f"the application has nothing at the place of a change ({status} noTarget)")
    if kind in ("expiredCursor", "invalidCursor"):
        return CursorLost(f"the application has lost the place in its list ({status} {kind})")
    return Rejected(f"the application refuses the request ({status}{f' {kind[:40]}' if kind else ''})")


def retry_after(headers: Mapping[str, str], now: datetime, longest: timedelta = LONGEST_WAIT) -> datetime | None:
    """When the application wants to be called again, at most `longest` from now; None where it does not say."""
    moment = asked_to_wait(headers, now)
    return None if moment is None else min(moment, now + longest)


def asked_to_wait(headers: Mapping[str, str], now: datetime) -> datetime | None:
    """The instant that Retry-After names, as seconds or as a date (RFC 9110, section 10.2.3); None where it is absent,
    cannot be read or lies in the past."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment if now <= moment else None
    if not seconds >= 0:  # not a number, or negative
        return None
    return now + timedelta(seconds=min(seconds, FARTHEST_SECONDS))
