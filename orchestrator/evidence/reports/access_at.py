"""Access as of an instant, one row per account."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from orchestrator.evidence.access import Holding, Replay
from orchestrator.evidence.entries import Keyring, Recorded, name_of
from orchestrator.evidence.reports.base import Column, Question, Row

COLUMNS = (
    Column("app", "Application"),
    Column("person", "Person"),
    Column("access", "Access"),
    Column("desired", "Desired state"),
    Column("since", "Since"),
    Column("groups", "Groups"),
    Column("actual", "Confirmed state"),
    Column("confirmed_at", "Confirmed"),
    Column("status", "Status"),
    Column("why", "Why"),
    Column("event_id", "Event"),
    Column("recorded_at", "Decided"),
    Column("revision", "Revision"),
    Column("applied_revision", "Applied revision"),
    Column("policy", "Policy"),
    Column("known_later", "Known later"),
)


class AccessAt:
    """The accounts of whoever is asked for. With `open_only`, those that have access or should have it."""

    def __init__(self, question: Question, *, open_only: bool = False) -> None:
        self.replay = Replay(question.cutoff, question.is_about)
        self._question = question
        self._open_only = open_only

    def take(self, one: Recorded) -> None:
        """The next entry."""
        self.replay.take(one)

    def rows(self, cutoff: datetime | None) -> Iterator[Row]:
        """One for each account."""
        keys = self._question.keys
        for holding in self._sorted(keys):
            if not self._open_only or access(holding) != "no" or _should_have_access(holding):
                yield access_row(holding, keys)

    def _sorted(self, keys: Keyring) -> Iterable[Holding]:
        return sorted(self.replay.present(), key=lambda one: (one.app, name_of(one.subject, keys)))


def access(holding: Holding) -> str:
    """Whether the person can get in: `yes`, `no`, or `unsure` while a call is under way or failed."""
    if holding.unsure:
        return "unsure"
    return "yes" if holding.has_access else "no"


def _should_have_access(holding: Holding) -> bool:
    return holding.desired is not None and holding.desired.state == "active"


def status(holding: Holding) -> str:
    """Where the account stands; one whose newest revision the connector has not taken up yet is pending."""
    desired = holding.desired
    if holding.hold is not None:
        return holding.hold[1]
    if desired is not None and holding.status == "applied" and desired.revision > holding.applied_revision:
        return "pending"
    return holding.status if not holding.code else f"{holding.status}: {holding.code}"


def access_row(holding: Holding, keys: Keyring) -> Row:
    """One account in the columns above."""
    desired = holding.desired
    groups = holding.groups if holding.groups is not None else desired.groups if desired is not None else None
    return (
        holding.app,
        name_of(holding.subject, keys),
        access(holding),
        desired.state if desired else "",
        desired.since if desired else None,
        ", ".join(groups or ()),
        holding.actual or "",
        holding.verified_at or holding.applied_at,
        status(holding),
        desired.transition if desired else "",
        desired.event_id if desired else "",
        desired.recorded_at if desired else None,
        desired.revision if desired else 0,
        holding.applied_revision,
        desired.policy if desired else "",
        _known_later(holding),
    )


def _known_later(holding: Holding) -> str:
    """What was stated after the instant and holds at it already: somebody was told late."""
    desired, effective = holding.desired, holding.effective
    if effective is None or (desired is not None and effective.revision <= desired.revision):
        return ""
    since, recorded = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" for at in (effective.since, effective.recorded_at))
    return f"{effective.state} since {since}, recorded {recorded}"
