"""What the resolver tells the audit log of an event: that it came, what it made of the person, what follows."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from orchestrator.domain.account import Account
from orchestrator.domain.breaker import Held
from orchestrator.domain.lifecycle import Boundary
from orchestrator.domain.resolve import Cause, Raised, Resolution
from orchestrator.domain.sealing import SOMEBODY, Subject, anonymous, differing
from orchestrator.flows.audit_writer import Entry, actor_of
from schemas.audit import AuditKind
from schemas.changes import Change, EntitlementGranted, EntitlementRevoked
from schemas.envelope import Envelope, timestamp

EFFECTIVE = ("effective", "starts", "start_date", "ends_at", "last_day", "contract_end", "ends", "due")
"""Where the kinds of change state from when on they count, what says most of it first."""


class About(NamedTuple):
    """What all entries of one event have in common. `policy` is the digest of the one that decided."""

    at: datetime
    envelope: Envelope
    change: Change
    subject: Subject
    cause: Cause
    policy: str


def decided(about: About, resolution: Resolution, before: Mapping[str, Account], outcome: str) -> list[Entry]:
    """The entries of an event that was decided; `before` are the accounts as they were issued last."""
    stated = {"person_id": about.subject.person_id, "stated": orjson.Fragment(about.envelope.data)}
    entries = [_entry(about, AuditKind.EVENT_RECEIVED, _received(about), stated), _resolved(about, resolution, outcome)]
    for raised in resolution.raised:
        was = before.get(raised.account.app)
        changed = differing(was.resource if was else {}, raised.account.resource)
        entries.append(_entry(about, AuditKind.COMMAND_ISSUED, issue(raised, was), changed, raised.account))
    entries += [_entry(about, AuditKind.TIMER_SET, _timer(boundary)) for boundary in resolution.timers_set]
    entries += [_entry(about, AuditKind.TIMER_CANCELLED, _timer(boundary)) for boundary in resolution.timers_cancelled]
    return entries


def duplicated(at: datetime, envelope: Envelope, subject: Subject | None) -> Entry:
    """An event that came before."""
    return Entry(
        AuditKind.EVENT_DUPLICATED,
        at,
        actor_of(envelope.source),
        subject,
        event_id=envelope.key,
        correlation_id=envelope.correlation_id or envelope.id,
    )


def held_back(held: Held, at: datetime, envelope: Envelope, subject: Subject) -> Entry:
    """What the breaker holds until somebody decides, or an operator rejected before."""
    account = held.account
    details = {"command": held.kind, "removes": held.removal, "effective_at": timestamp(held.effective_at)}
    if held.rejected_at is not None:
        details["rejected_at"] = timestamp(held.rejected_at)
    return Entry(
        AuditKind.COMMAND_HELD,
        at,
        actor_of(envelope.source),
        subject,
        account.app,
        account.revision,
        account.event_id,
        account.correlation_id,
        account.policy,
        details,
    )


def of_nobody(at: datetime, envelope: Envelope, person_id: str) -> Entry:
    """A timer of somebody who was erased after it fired. The inbox does not keep it: it would keep the worker id."""
    details = {"outcome": "no_change", "transition": "none", "status": "unknown"}
    told = duplicated(at, envelope, Subject("", person_id))
    return told._replace(kind=AuditKind.PERSON_RESOLVED, details=details)


def _entry(
    about: About,
    kind: AuditKind,
    details: Mapping[str, Any],
    sealed: Mapping[str, Any] | None = None,
    account: Account | None = None,
    policy: str | None = None,
) -> Entry:
    app, revision, policy = (account.app, account.revision, about.policy) if account else (None, None, policy)
    return Entry(
        kind,
        about.at,
        actor_of(about.envelope.source),
        about.subject,
        app,
        revision,
        about.cause.event_id,
        about.cause.correlation_id,
        policy,
        details,
        sealed,
    )


def _received(about: About) -> dict[str, Any]:
    """What an event says about itself. Days and instants are no personal attributes, a reason in free text may be."""
    stated = vars(about.change)
    details: dict[str, Any] = {"type": about.envelope.type, "stated_at": timestamp(about.cause.stated)}
    for name in EFFECTIVE:
        if (effective := stated.get(name)) is not None:
            details["effective"] = timestamp(effective) if isinstance(effective, datetime) else effective.isoformat()
            break
    if stated.get("reason"):
        details["reason_given"] = True
    if isinstance(about.change, EntitlementGranted | EntitlementRevoked):
        details.update(app=about.change.app, group=about.change.group)
    return details


def _resolved(about: About, resolution: Resolution, outcome: str) -> Entry:
    details: dict[str, Any] = {
        "outcome": outcome,
        "transition": resolution.transition.value,
        "status": resolution.status.value,
    }
    if resolution.changed:
        details["changed"] = resolution.changed
    name, stand_in = about.subject.person_id, about.subject.id or SOMEBODY
    for field in ("superseded_by", "supersedes"):
        if events := getattr(resolution, field):
            details[field] = [anonymous(event, name, stand_in) for event in events]
    if resolution.ignored:
        details["ignored"] = resolution.ignored
    values: dict[str, Any] = differing(resolution.attributes_before, resolution.attributes)
    if problems := (*resolution.problems, *resolution.misstated):  # what failed; why may quote a value
        details["problems"] = [problem.partition(":")[0] for problem in problems]
        values["problems"] = problems
    return _entry(about, AuditKind.PERSON_RESOLVED, details, values, policy=about.policy)


def issue(raised: Raised, before: Account | None) -> dict[str, Any]:
    """What is told of a command that goes out; `before` is the account as it was issued last."""
    account = raised.account
    details: dict[str, Any] = {
        "command": raised.kind,
        "state": account.state,
        "groups": account.groups,
        "effective_at": timestamp(raised.effective_at),
    }
    if raised.kind == "patch":  # goes on with a state that began before, perhaps by a decision that was never issued
        details["since"] = timestamp(account.since)
    if before is not None:
        details["previous_state"] = before.state
    return details


def _timer(boundary: Boundary) -> dict[str, str]:
    return {"timer": boundary.kind, "due": timestamp(boundary.due)}
