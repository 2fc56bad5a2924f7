"""Who gets a notice, under which id, and what is overdue."""

import hashlib
import re
from datetime import datetime, timedelta
from typing import NamedTuple

from orchestrator.domain.account import Account
from schemas.envelope import timestamp
from schemas.notices import Notice

WEBHOOK, EMAIL, NOBODY = "webhook", "email", "nobody"
MAX_ADDRESS = 254
_ADDRESS = re.compile(r"[^\s\x00-\x20\x7f<>()\[\]\\,;:@\"]{1,64}@[^\s\x00-\x20\x7f<>()\[\]\\,;:@\"]+")
MANAGER, SPONSOR = "manager", "sponsor"

OVERDUE_AFTER = timedelta(seconds=60)
"""An end that is not enforced by then is overdue: on a healthy day it takes a second or two."""


class Receivers(NamedTuple):
    """Who is told, as configured. `addresses` get every notice by e-mail."""

    webhook: bool = False
    email: bool = False
    manager: bool = True
    sponsor: bool = True
    addresses: tuple[str, ...] = ()


class Receiver(NamedTuple):
    """One recipient of a notice. `name` says by which channel and to whom; people appear as what they are, never by
    their addresses, which are looked up when the notice goes out."""

    name: str
    channel: str


def notice_key(notice: Notice) -> str:
    """The notice's id as receivers see it, the same at every attempt.

    It goes into a header and into other people's logs, so it is a digest: of fixed length, plain ASCII without a full
    stop (which the signature of a webhook uses as separator), and silent about whom it is about.
    """
    return "ntc_" + hashlib.sha256(notice.id.encode()).hexdigest()[:40]


def receivers(notice: Notice, configured: Receivers) -> list[Receiver]:
    """Who gets this notice. Each is a delivery of its own, so that one who fails makes no other get it twice."""
    found = [Receiver(WEBHOOK, WEBHOOK)] if configured.webhook else []
    if configured.email:
        people = {MANAGER: notice.manager_id if configured.manager else None}
        people[SPONSOR] = notice.sponsor_id if configured.sponsor and notice.sponsor_id != people[MANAGER] else None
        found += [Receiver(f"{EMAIL}:{who}", EMAIL) for who, person_id in people.items() if person_id]
        found += [Receiver(f"{EMAIL}:{address}", EMAIL) for address in dict.fromkeys(configured.addresses)]
    return found or [Receiver(NOBODY, NOBODY)]


def recipient(receiver: str, notice: Notice) -> tuple[str | None, str | None]:
    """Who a receiver by e-mail is: the id of a person, or an address."""
    to = receiver.removeprefix(f"{EMAIL}:")
    if to == MANAGER:
        return notice.manager_id, None
    if to == SPONSOR:
        return notice.sponsor_id, None
    return None, to


def overdue_notice(account: Account, manager_id: str | None, sponsor_id: str | None) -> Notice:
    """What people are told of an end that could not be enforced, once for each account and end."""
    return Notice(
        id=f"{account.person_id}/access_overdue/{account.app}/{timestamp(account.since)}",
        kind="access_overdue",
        person_id=account.person_id,
        due=account.since,
        app=account.app,
        manager_id=manager_id,
        sponsor_id=sponsor_id,
        event_id=account.event_id,
    )


def is_address(text: str) -> bool:
    """Whether it is one plain e-mail address (RFC 5321), and nothing that a header or a list of recipients would read
    as more."""
    return len(text) <= MAX_ADDRESS and _ADDRESS.fullmatch(text) is not None


def age(since: datetime, now: datetime) -> float:
    """Seconds since an end was due; none before it, by a clock that is behind."""
    return max((now - since).total_seconds(), 0.0)
