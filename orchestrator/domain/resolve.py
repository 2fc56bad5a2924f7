"""The resolver's decision: what a change means for a person's accounts and timers.

One path for every event, timers included: state what the change says, find the standing at `now`, hold the desired
accounts against the present ones, raise the revision of those that differ, and set a timer at every later instant
at which the answer may change.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from orchestrator.domain.account import Account, command_kind
from orchestrator.domain.carrying import with_kept
from orchestrator.domain.days import is_zone, zone
from orchestrator.domain.end_warnings import EndWarning, Warnings, endings, warnings
from orchestrator.domain.entitlements import Grant, entitlement_boundaries, grants
from orchestrator.domain.lifecycle import (
    Boundary,
    Span,
    Standing,
    Status,
    Transition,
    boundaries,
    spans,
    standing,
    transition,
)
from orchestrator.domain.person import ON_LEAVE, SUSPENDED, TIME_ZONE, Decision, Person, apply, zones
from orchestrator.domain.policy import Desire, Policy, retention_end
from orchestrator.domain.superseding import superseded_by, supersedes
from orchestrator.domain.timers import POLICY_CHANGED, policy_event
from schemas.changes import Change, TimerFired
from schemas.commands import CommandKind

MAX_SKEW = timedelta(minutes=10)
"""How far another process's clock may have been ahead of ours. Within it a person is never decided for an earlier
instant than before, so that a timer which fired a moment early is not undone; beyond it the clock was wrong."""

PRE_START = "pre_start"
RETENTION_END = "retention_end"

_EXPECTED_BACK = (Status.ON_LEAVE, Status.SUSPENDED)


class Cause(NamedTuple):
    """The event behind a decision: its key, when its source stated it, the correlation that it carries on."""

    event_id: str
    stated: datetime
    correlation_id: str

    @property
    def source(self) -> str:
        """Who stated it."""
        return self.event_id.partition("#")[0]


class Raised(NamedTuple):
    """An account with a new revision, and the command that goes with it."""

    account: Account
    kind: CommandKind
    effective_at: datetime


class Resolution(NamedTuple):
    """Everything that follows from one change. `problems` are expressions that failed, by `apps.APP.KEY: reason`."""

    person: Person
    transition: Transition
    status: Status
    changed: tuple[str, ...]
    raised: tuple[Raised, ...]
    timers_set: tuple[Boundary, ...]
    timers_cancelled: tuple[Boundary, ...]
    problems: tuple[str, ...]
    attributes_before: Mapping[str, Any]
    attributes: Mapping[str, Any]
    """As the last decision found them, and as this one did; for the audit."""
    superseded_by: tuple[str, ...]
    """The events that leave nothing of what the change stated; none where something of it counts."""
    supersedes: tuple[str, ...]
    """The events whose ends, kinds or entitlements counted until now."""
    warnings: tuple[EndWarning, ...]
    ignored: tuple[str, ...] = ()
    """Attributes that the source stated and does not own."""
    misstated: tuple[str, ...] = ()
    """What the change states and nobody can go by, as `problems` are told: it is kept as stated, and does not count."""


def resolve(
    person: Person,
    accounts: Mapping[str, Account],
    timers: Iterable[Boundary],
    change: Change,
    cause: Cause,
    policy: Policy,
    now: datetime,
) -> Resolution:
    """Decide `change` for `person`. `accounts` are by application, `timers` the open ones."""
    at = _instant(person, change, now)
    admitted, ignored = policy.owners.admit(change, cause.source)
    after = person
    if admitted is not None:
        after = apply(person, admitted, event_id=cause.event_id, stated=cause.stated, default_zone=policy.default_zone)
    engaged = spans(after, policy.default_zone, access_ends=policy.time.access_ends)
    granted = grants(after, policy.default_zone, policy.time.access_ends)
    found = standing(after, policy.default_zone, at, engaged)
    before = person.decision
    known = person.history.at(before.at) if before else {}
    differing = {name for name, _ in known.items() ^ found.attributes.items()}
    changed = tuple(sorted(name for name in differing if known.get(name) != found.attributes.get(name)))
    kept = (found.status.value, found.kind, policy.digest)
    warned = _warnings(after, engaged, granted, policy, at)
    after = after._replace(decision=Decision(at, *kept), warned=warned.warned)
    raised: tuple[Raised, ...] = ()
    problems: tuple[str, ...] = ()
    timer = isinstance(change, TimerFired)
    # Not `changed`: to an expression, an attribute stated to be empty differs from one that nobody stated.
    stated = known != found.attributes or person.entitlements != after.entitlements
    stated = stated or person.identities != after.identities
    if policy.reads_dates:
        stated = stated or _engaged(person) != _engaged(after)
    # A grant may have begun or ended since then, and its timer may be on its way.
    if before is None or stated or granted or before[1:] != kept or found.status is not Status.ACTIVE or timer:
        desires, failed = policy.desires(person.id, found, at)
        desires = _with_grants(desires, granted, found, at)
        problems = tuple(str(error) for error in failed)
        untouched = {error.app for error in failed}

        def wanted_of(app: str) -> Desire | None:
            desire = policy.with_identity(app, desires.get(app), accounts)
            kept, rules = after.identities.get(app), policy.app_policy(app)
            if desire is None or rules is None or kept is None or kept.value is None:
                return desire
            return desire._replace(resource=with_kept(desire.resource, kept.value, rules.attributes))

        raised = tuple(
            one
            for app in sorted({*desires, *accounts} - untouched)
            if (one := _raise(person.id, app, accounts.get(app), wanted_of(app), found, cause, policy, at))
        )
    later = [
        *_boundaries(after, engaged, accounts, raised, found, policy, at),
        *entitlement_boundaries(granted, at),
        *warned.boundaries,
    ]
    wanted = {(one.kind, one.due): one for one in later}
    open_timers = {(one.kind, one.due): one for one in timers}
    was = Status(before.status) if before else Status.UNKNOWN
    return Resolution(
        person=after,
        transition=transition(was, found.status, attributes_changed=bool(set(changed) - {ON_LEAVE, SUSPENDED})),
        status=found.status,
        changed=changed,
        raised=raised,
        timers_set=tuple(one for key, one in wanted.items() if key not in open_timers),
        timers_cancelled=tuple(
            one for key, one in open_timers.items() if key not in wanted and one.due > at and not _outlives(one, policy)
        ),
        problems=problems,
        attributes_before=known,
        attributes=found.attributes,
        ignored=ignored,
        misstated=_misstated(admitted, policy),
        superseded_by=() if timer else superseded_by(after, cause.event_id, policy.default_zone, at),
        supersedes=() if timer else supersedes(person, after, policy.default_zone),
        warnings=warned.issued,
    )


def manager_cycle(person_id: str, managers: Mapping[str, str | None]) -> bool:
    """Whether the chain of managers that begins at a person comes back to that person."""
    seen = set()
    at = managers.get(person_id)
    while at is not None and at not in seen:
        if at == person_id:
            return True
        seen.add(at)
        at = managers.get(at)
    return False


def _misstated(change: Change | None, policy: Policy) -> tuple[str, ...]:
    """A time zone that nobody knows moves the ends of days without anybody noticing."""
    stated = getattr(getattr(change, "attributes", None), TIME_ZONE, None)
    if not stated or is_zone(stated):
        return ()
    counted = zone(None, policy.default_zone).key
    return (f"attributes.{TIME_ZONE}: the IANA database has no zone {stated!r}; days are counted in {counted}",)


def _outlives(timer: Boundary, policy: Policy) -> bool:
    """Whether a timer is about another policy than this one: while roles are restarted one by one, a decision by the
    old one is not what it waits for."""
    return timer.kind == POLICY_CHANGED and timer.event_id != policy_event(policy.digest)


def _engaged(person: Person) -> tuple[object, ...]:
    """What the first and the last day of an engagement follow from."""
    return person.engagements, person.ends, person.contracts


def _instant(person: Person, change: Change, now: datetime) -> datetime:
    """The instant to decide for: never before a timer's due instant, nor before what was decided already."""
    candidates = [now]
    if isinstance(change, TimerFired):
        candidates.append(change.due)
    if person.decision is not None:
        candidates.append(person.decision.at)
    return max(moment for moment in candidates if moment <= now + MAX_SKEW)


def _warnings(after: Person, engaged: list[Span], granted: list[Grant], policy: Policy, at: datetime) -> Warnings:
    rules = policy.time
    ahead = endings(engaged, granted, rules.contract_end_days, rules.entitlement_end_days)
    if not ahead:
        return Warnings((), (), ())
    return warnings(ahead, after.warned, zones(after.history, policy.default_zone), at)


def _with_grants(
    desires: dict[str, Desire], granted: Iterable[Grant], found: Standing, at: datetime
) -> dict[str, Desire]:
    """Temporary entitlements of somebody whose engagement runs, in applications where the policy gives an account."""
    if found.status in (Status.ACTIVE, Status.ON_LEAVE):
        for one in granted:
            desire = desires.get(one.app)
            if desire is not None and one.holds(at):
                desires[one.app] = desire._replace(groups=tuple(sorted({*desire.groups, one.group})))
    return desires


def _raise(
    person_id: str,
    app: str,
    account: Account | None,
    desire: Desire | None,
    found: Standing,
    cause: Cause,
    policy: Policy,
    at: datetime,
) -> Raised | None:
    desire, since = _target(app, account, desire, found, policy, at)
    if desire is None:
        return None
    if account is not None and account.state != "absent" and desire.state != "absent":
        desire = desire._replace(resource=policy.keep_written(app, account.resource, desire.resource))
    again = account is not None and _was_rejected(account, found)
    if (
        account is not None
        and not again
        and (desire.state, desire.resource, desire.groups)
        == (
            account.state,
            account.resource,
            account.groups,
        )
    ):
        return None
    if account is not None and account.state == desire.state and not again:
        since = account.since
    raised = Account(
        person_id=person_id,
        app=app,
        revision=account.revision + 1 if account else 1,
        state=desire.state,
        resource=desire.resource,
        groups=desire.groups,
        since=since,
        event_id=cause.event_id,
        correlation_id=cause.correlation_id,
        policy=policy.digest,
        number=account.number if account else 1,
    )
    kind = command_kind(account, desire.state)
    return Raised(raised, kind, cause.stated if kind == "patch" else since)


def _target(
    app: str, account: Account | None, desire: Desire | None, found: Standing, policy: Policy, at: datetime
) -> tuple[Desire | None, datetime]:
    """What the account should become, and since when; None: it stays as it is."""
    if desire is not None:
        return desire, found.since
    app_policy = policy.app_policy(app)
    if account is None or (account.state == "absent" and not account.hold) or app_policy is None:
        return None, at
    if account.state in ("active", "staged"):
        since = found.since if found.status is not Status.ACTIVE else at
        if app_policy.delete_after == timedelta(0) and found.status not in _EXPECTED_BACK:
            return Desire("absent", account.resource, ()), since
        if (end := retention_end(app_policy, since)) is not None and end <= at:
            since = at  # nobody told us in time; what retention protects from must still be noticed
        return Desire("inactive", account.resource, () if app_policy.remove_groups else account.groups), since
    if _was_rejected(account, found):
        return Desire(account.state, account.resource, ()), found.since
    end = _deletion(account, found, policy)
    if end is not None and end <= at:
        return Desire("absent", account.resource, ()), at
    return None, at


def _was_rejected(account: Account, found: Standing) -> bool:
    """Whether an operator rejected that this account is closed, and the person has left or is away anew since then."""
    return (
        account.hold == "rejected"
        and account.state != "active"
        and found.status not in (Status.ACTIVE, Status.PREHIRE, Status.UNKNOWN)
        and found.since > account.since
    )


def _deletion(account: Account, found: Standing, policy: Policy) -> datetime | None:
    """When an account is to be deleted. Absence does not count: retention begins when nobody is expected back."""
    app_policy = policy.app_policy(account.app)
    if app_policy is None or account.state != "inactive" or account.hold or found.status in _EXPECTED_BACK:
        return None
    settled = found.status in (Status.LEFT, Status.ACTIVE)
    return retention_end(app_policy, max(account.since, found.since) if settled else account.since)


def _boundaries(
    person: Person,
    engaged: list[Span],
    accounts: Mapping[str, Account],
    raised: tuple[Raised, ...],
    found: Standing,
    policy: Policy,
    at: datetime,
) -> list[Boundary]:
    due = boundaries(person, engaged, at)
    for span in engaged:
        if span.start > at and not span.never_begins:
            instants = {span.opens(days) for days in policy.days_before_start}
            due += [Boundary(PRE_START, instant, span.begun_by) for instant in instants if instant > at]
    present = {**accounts, **{one.account.app: one.account for one in raised}}
    for account in present.values():
        end = _deletion(account, found, policy)
        if end is not None and end > at:
            due.append(Boundary(RETENTION_END, end, account.event_id))
    return due
