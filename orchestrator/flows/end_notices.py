"""Warnings before an end: notices on `lifecycle.notices`, for whoever delivers them, and entries on the timeline."""

from datetime import datetime

from orchestrator.domain.end_warnings import EndWarning
from orchestrator.domain.person import Person
from orchestrator.domain.resolve import Cause
from orchestrator.domain.sealing import Subject
from orchestrator.flows.audit_writer import Entry
from schemas.audit import AuditKind
from schemas.envelope import Envelope, Message, timestamp
from schemas.notices import Notice
from schemas.topics import LIFECYCLE_NOTICES


def end_notice(person: Person, warning: EndWarning) -> Notice:
    """The notice of a warning, to the manager and the sponsor of the instant that was decided for."""
    ending = warning.ending
    attributes = person.history.at(person.decision.at) if person.decision else {}
    about = [part for part in (ending.app, ending.group) if part is not None]
    return Notice(
        id="/".join([person.id, ending.kind, *about, timestamp(ending.due), str(warning.days)]),
        kind=ending.kind,
        person_id=person.id,
        due=ending.due,
        days_before=warning.days,
        app=ending.app,
        group=ending.group,
        manager_id=attributes.get("manager_id") or None,
        sponsor_id=attributes.get("sponsor_id") or None,
        event_id=ending.event_id,
    )


def notice_message(notice: Notice, cause: Cause, traceparent: str, now: datetime) -> Message:
    """The notice on its way, keyed by person. Its id makes it one notice however often it is computed."""
    envelope = Envelope(
        id=notice.id,
        source="jml/resolver",
        type=Notice.TYPE,
        time=now,
        subject=notice.person_id,
        correlation_id=cause.correlation_id,
        traceparent=traceparent,
    )
    body = notice.model_dump_json(exclude_none=True).encode()
    return Message(LIFECYCLE_NOTICES, notice.person_id.encode(), body, envelope.headers())


def notice_issued(notice: Notice, subject: Subject, cause: Cause, now: datetime) -> Entry:
    """The entry about it."""
    details = {"notice": notice.kind, "due": timestamp(notice.due), "days_before": notice.days_before}
    if notice.group is not None:
        details["group"] = notice.group
    return Entry(
        AuditKind.NOTICE_ISSUED,
        now,
        "resolver",
        subject,
        app=notice.app,
        event_id=cause.event_id,
        correlation_id=cause.correlation_id,
        details=details,
    )
