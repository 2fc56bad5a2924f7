"""The resolver: a batch of records becomes persons, accounts, timers, commands and audit entries in one transaction."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from orchestrator.domain.account import Account, lane
from orchestrator.domain.breaker import Held
from orchestrator.domain.lifecycle import Boundary
from orchestrator.domain.person import Person
from orchestrator.domain.policy import Policy
from orchestrator.domain.resolve import MAX_SKEW, Cause, Raised, Resolution, manager_cycle, resolve
from orchestrator.domain.retry import Backoff
from orchestrator.domain.sealing import SOMEBODY, Subject, anonymous, known_as, new_subject
from orchestrator.errors import Poison, StoreUnavailable
from orchestrator.flows.audit_writer import AuditWriter, Entry, actor_of
from orchestrator.flows.breaking import Breaker, Breaking
from orchestrator.flows.end_notices import end_notice, notice_issued, notice_message
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.flows.resolve_entries import About, decided, duplicated, held_back, of_nobody
from orchestrator.metrics import EVENTS
from orchestrator.ports import Clock, InboxRow, Quarantined, ResolveChanges, ResolveStore, ResolveTransaction, Timer
from schemas.audit import AuditKind
from schemas.changes import BY_TYPE, Change, TimerFired
from schemas.commands import AccountCommand
from schemas.envelope import BINARY, MAX_AHEAD, Envelope, EnvelopeError, Headers, Message, read_envelope, timestamp
from schemas.topics import QUARANTINE, lane_topic

log = structlog.get_logger()

_ADAPTERS: dict[str, TypeAdapter[Change]] = {name: TypeAdapter(change) for name, change in BY_TYPE.items()}
_COMMAND_HEADERS: Headers = (
    ("content-type", BINARY.encode()),
    ("ce_specversion", b"1.0"),
    ("ce_source", b"jml/resolver"),
    ("ce_type", AccountCommand.TYPE.encode()),
)
_BACKOFF = Backoff(base=0.1, most=10)
_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+){1,7}")
"""What is shown of a type: the text is the sender's, and the reason is kept for long."""
MAX_CHAIN = 32
"""Managers followed upwards when a manager changes; nobody's chain is longer."""


class Record(Protocol):
    """One record of a topic, as Kafka clients hand it out."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record that could be read."""

    envelope: Envelope
    change: Change
    record: Record

    @property
    def person_id(self) -> str | None:
        """The worker the event names; None where an identity provider gave an e-mail address only."""
        return getattr(self.change, "worker_id", None)


def parse(record: Record, latest: datetime) -> Incoming:
    """Read one record. Raises Poison with a stable code, a reason without personal data, and the envelope if it could
    be read.

    A statement from after `latest` is refused: it would win against every later correction.
    """
    try:
        envelope = read_envelope(record.value, record.headers)
    except EnvelopeError as error:
        raise Poison(error.code, str(error)) from None
    if envelope.time > latest:
        told = "the CloudEvents attribute time is more than a day ahead of our clock"
        raise Poison("from_the_future", told, envelope)
    adapter = _ADAPTERS.get(envelope.type)
    if adapter is None:
        known = envelope.type.rpartition(".v")[0]
        code = "unknown_version" if any(name.startswith(f"{known}.v") for name in _ADAPTERS) else "unknown_type"
        told = f"the type {envelope.type!r}" if _TYPE.fullmatch(envelope.type) else "a type without the form of one"
        raise Poison(code, f"{told} is not supported; jml schema export lists the types", envelope)
    try:
        return Incoming(envelope, adapter.validate_json(envelope.data), record)
    except ValidationError as error:
        raise Poison("invalid", _reasons(error), envelope) from None


def _reasons(error: ValidationError) -> str:
    """Where and why, without the values. A key that no schema names is the sender's text, as a value is: it is shown
    only where it looks like the name of a field."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(_shown(step) for step in one['loc']) or 'data'}: {one['msg']}" for one in problems[:5])


def _shown(step: int | str) -> str:
    return str(step) if re.fullmatch(r"[a-z][a-z_]{0,39}|\d+", str(step)) else "?"


@dataclass(slots=True)
class _Batch:
    """What one transaction collects. `now` is the instant to decide for, `at` the machine's, for the record."""

    now: datetime
    at: datetime
    changes: ResolveChanges = field(default_factory=ResolveChanges)
    entries: list[Entry] = field(default_factory=list)
    commands: list[Message] = field(default_factory=list)
    persons: dict[str, Person] = field(default_factory=dict)
    accounts: dict[str, dict[str, Account]] = field(default_factory=dict)
    timers: dict[str, dict[tuple[str, datetime], Boundary]] = field(default_factory=dict)
    touched: dict[tuple[str, str], Account] = field(default_factory=dict)
    open_timers: set[tuple[str, str, datetime]] = field(default_factory=set)
    managers: set[str] = field(default_factory=set)
    duplicates: list[Incoming] = field(default_factory=list)
    subjects: dict[str, Subject] = field(default_factory=dict)
    breaking: Breaking = field(kw_only=True)


class ResolveFlow:
    """Call it with batches of records; when it returns, everything that follows from them is committed."""

    def __init__(
        self,
        store: ResolveStore,
        outbox: OutboxPublisher,
        writer: AuditWriter,
        policy: Policy,
        clock: Clock,
        wall: Clock,
        *,
        breaker: Breaker | None = None,
    ) -> None:
        self._store = store
        self._breaker = breaker or Breaker()
        self._outbox = outbox
        self._writer = writer
        self._policy = policy
        self._clock = clock
        self._wall = wall
        self._chance = random.Random()

    async def __call__(self, records: Sequence[Record]) -> None:
        """Resolve the records. While the store is down it waits and tries again; it acknowledges nothing."""
        incoming: list[Incoming] = []
        poison: list[tuple[Record, Poison]] = []
        latest = self._clock.now() + MAX_AHEAD
        for record in records:
            try:
                incoming.append(parse(record, latest))
            except Poison as error:
                poison.append((record, error))
        attempt = 0
        while True:
            try:
                segment, messages = await self._transact(incoming, poison)
                break
            except StoreUnavailable as error:
                self._writer.lost()
                attempt += 1
                log.warning("resolve_waits_for_store", reason=error.code, attempt=attempt, records=len(records))
                await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))
        await self._outbox.submit(segment, messages)

    async def _transact(
        self, incoming: Sequence[Incoming], poison: Sequence[tuple[Record, Poison]]
    ) -> tuple[int | None, list[Message]]:
        now = self._clock.now()
        batch = _Batch(now, self._wall.now(), breaking=Breaking(self._breaker, now))
        async with self._store.transaction() as transaction:
            if poison:
                await self._set_aside(batch, transaction, poison)
            fresh = await self._fresh(batch, transaction, incoming)
            addressed = await self._correlate(batch, transaction, fresh)
            await self._load(batch, transaction, sorted({person_id for person_id, _ in addressed}))
            await self._name(batch, transaction, addressed)
            for person_id, one in addressed:
                if isinstance(one.change, TimerFired) and person_id not in batch.persons:
                    batch.entries.append(of_nobody(batch.at, one.envelope, person_id))
                else:
                    await self._decide(batch, transaction, person_id, one)
            await self._note_manager_cycles(batch, transaction)
            messages = self._collect(batch)
            segment = await transaction.save(batch.changes, now=batch.at)
        self._writer.saved(len(batch.entries))
        for outcome, count in Counter(row.outcome for row in batch.changes.inbox).items():
            EVENTS.labels(outcome).inc(count)
        EVENTS.labels("duplicate").inc(sum(one.kind is AuditKind.EVENT_DUPLICATED for one in batch.entries))
        return segment, messages

    async def _set_aside(
        self, batch: _Batch, transaction: ResolveTransaction, poison: Sequence[tuple[Record, Poison]]
    ) -> None:
        """Quarantine what nobody can read. What has no id that the inbox could know is known by its place and bytes."""
        places = [(record.topic, record.partition, record.offset) for record, _ in poison]
        known = await transaction.quarantined(places)
        for place, (record, error) in zip(places, poison, strict=True):
            if place not in known or known[place] != record.value:
                self._quarantine(batch, record, error)

    async def _fresh(
        self, batch: _Batch, transaction: ResolveTransaction, incoming: Sequence[Incoming]
    ) -> list[Incoming]:
        """Those events that were never accepted before."""
        if not incoming:
            return []
        seen = await transaction.seen([one.envelope.key for one in incoming])
        fresh = []
        for one in incoming:
            key = one.envelope.key
            if key in seen:
                batch.duplicates.append(one)
            else:
                seen.add(key)
                fresh.append(one)
        return fresh

    async def _correlate(
        self, batch: _Batch, transaction: ResolveTransaction, fresh: Sequence[Incoming]
    ) -> list[tuple[str, Incoming]]:
        """Whom each event is about. An e-mail address has to lead to exactly one person, of the store or of a hire in
        the same batch."""
        emails = {one.change.email.lower() for one in fresh if one.person_id is None}  # type: ignore[attr-defined]
        owners = (
            {email: set(ids) for email, ids in (await transaction.correlate_emails(sorted(emails))).items()}
            if emails
            else {}
        )
        for one in fresh:
            stated = getattr(getattr(one.change, "attributes", None), "email", None)
            if one.person_id is not None and stated and stated.lower() in emails:
                owners.setdefault(stated.lower(), set()).add(one.person_id)
        addressed = []
        for one in fresh:
            if one.person_id is not None:
                addressed.append((one.person_id, one))
                continue
            found = owners.get(one.change.email.lower(), set())  # type: ignore[attr-defined]
            if len(found) == 1:
                addressed.append((min(found), one))
            else:
                code = "ambiguous_correlation" if found else "uncorrelated"
                reason = f"{len(found)} persons have the e-mail address of the event; it has to be exactly one"
                self._quarantine(batch, one.record, Poison(code, reason, one.envelope))
                batch.changes.inbox.append(InboxRow(one.envelope.key, "quarantined"))
        return addressed

    async def _load(self, batch: _Batch, transaction: ResolveTransaction, person_ids: Sequence[str]) -> None:
        if not person_ids:
            return
        batch.persons, batch.accounts, timers = await transaction.load(person_ids)
        await batch.breaking.load(transaction, person_ids, batch.accounts)
        for person_id, rows in timers.items():
            batch.timers[person_id] = {(t.kind, t.due): Boundary(t.kind, t.due, t.event_id) for t in rows}
            batch.open_timers.update((person_id, t.kind, t.due) for t in rows)

    async def _name(
        self, batch: _Batch, transaction: ResolveTransaction, addressed: Sequence[tuple[str, Incoming]]
    ) -> None:
        """How the log calls everybody. Whoever is new gets a subject here, but not by a duplicate, nor by a timer: what
        those are about was erased with the person."""
        people = {person_id for person_id, _ in addressed}
        repeated = {one.person_id for one in batch.duplicates if one.person_id is not None}
        if people or repeated:
            batch.subjects.update(await transaction.subjects(sorted(people | repeated)))
        known = {person_id for person_id, one in addressed if not isinstance(one.change, TimerFired)}
        if missing := sorted((known | (people & batch.persons.keys())) - batch.subjects.keys()):
            added = await transaction.add_subjects([new_subject(one) for one in missing], now=batch.at)
            batch.subjects.update(added)
        batch.entries += [
            duplicated(batch.at, one.envelope, known_as(batch.subjects, one.person_id) if one.person_id else None)
            for one in batch.duplicates
        ]

    async def _decide(self, batch: _Batch, transaction: ResolveTransaction, person_id: str, one: Incoming) -> None:
        person = batch.persons.get(person_id) or Person(person_id)
        accounts = batch.accounts.setdefault(person_id, {})
        timers = batch.timers.setdefault(person_id, {})
        envelope = one.envelope
        cause = Cause(envelope.key, envelope.time, envelope.correlation_id or envelope.id)
        resolution = resolve(person, accounts, timers.values(), one.change, cause, self._policy, batch.now)
        batch.persons[person_id] = resolution.person
        if "manager_id" in resolution.changed:
            batch.managers.add(person_id)
        for boundary in resolution.timers_set:
            timers[boundary.kind, boundary.due] = boundary
        for boundary in resolution.timers_cancelled:
            del timers[boundary.kind, boundary.due]
        outcome = "superseded" if resolution.superseded_by else "resolved" if resolution.raised else "no_change"
        if not _came_too_early(one.change, batch.now):
            batch.changes.inbox.append(InboxRow(envelope.key, outcome))
        before = batch.breaking.as_issued(person_id, accounts)
        issued, held = await self._pass_or_hold(batch, transaction, resolution.raised, accounts, one)
        self._record(batch, one, person_id, resolution._replace(raised=tuple(issued)), before, cause, outcome)
        for raised in issued:
            batch.touched[person_id, raised.account.app] = raised.account
            batch.commands.append(command(raised, envelope.traceparent, batch.at))
        for warning in resolution.warnings:
            notice = end_notice(resolution.person, warning)
            batch.commands.append(notice_message(notice, cause, envelope.traceparent, batch.at))
            batch.entries.append(notice_issued(notice, batch.subjects[person_id], cause, batch.at))
        batch.entries += [held_back(stopped, batch.at, envelope, batch.subjects[person_id]) for stopped in held]

    async def _pass_or_hold(
        self,
        batch: _Batch,
        transaction: ResolveTransaction,
        decided: Sequence[Raised],
        accounts: dict[str, Account],
        one: Incoming,
    ) -> tuple[list[Raised], list[Held]]:
        """What of the decision is issued, and what the breaker holds."""
        timer = one.change.kind if isinstance(one.change, TimerFired) else None
        issued, held = [], []
        for raised in decided:
            app = raised.account.app
            passed, stopped = await batch.breaking.pass_or_hold(
                transaction, raised, accounts.get(app), one.envelope.source, timer
            )
            accounts[app] = raised.account if stopped is None else stopped.decided
            if passed is not None:
                issued.append(passed)
            if stopped is not None:
                held.append(stopped)
        return issued, held

    def _record(
        self,
        batch: _Batch,
        one: Incoming,
        person_id: str,
        resolution: Resolution,
        before: Mapping[str, Account],
        cause: Cause,
        outcome: str,
    ) -> None:
        if resolution.problems:
            log.warning("policy_failed_for_person", person_id=person_id, problems=len(resolution.problems))
        if resolution.misstated:
            log.warning("statement_does_not_count", person_id=person_id, problems=len(resolution.misstated))
        about = About(batch.at, one.envelope, one.change, batch.subjects[person_id], cause, self._policy.digest)
        batch.entries += decided(about, resolution, before, outcome)

    async def _note_manager_cycles(self, batch: _Batch, transaction: ResolveTransaction) -> None:
        """A cycle of managers is HR's mistake: it goes on the timelines of those in it and stops nothing."""
        if not batch.managers:
            return
        managers = {
            person_id: person.history.at(batch.now).get("manager_id") for person_id, person in batch.persons.items()
        }
        for _ in range(MAX_CHAIN):
            above = {manager for manager in managers.values() if manager is not None} - managers.keys()
            if not above:
                break
            stored = await transaction.managers(sorted(above))
            managers.update({manager: stored.get(manager) for manager in above})
        for person_id in sorted(batch.managers):
            if manager_cycle(person_id, managers):
                details = {"problem": "manager_cycle", "reason": "the chain of managers comes back to this person"}
                batch.entries.append(
                    Entry(AuditKind.PERSON_RESOLVED, batch.at, "resolver", batch.subjects[person_id], details=details)
                )

    def _quarantine(self, batch: _Batch, record: Record, error: Poison) -> None:
        envelope = error.envelope
        batch.changes.quarantined.append(
            Quarantined(
                record.topic,
                record.partition,
                record.offset,
                error.code,
                str(error),
                record.key,
                record.value,
                envelope.key if envelope else None,
                batch.at,
            )
        )
        place = f"{record.topic}/{record.partition}/{record.offset}"
        batch.entries.append(
            Entry(
                AuditKind.EVENT_QUARANTINED,
                batch.at,
                actor_of(envelope.source) if envelope else "unknown",
                event_id=_of_somebody(envelope, record) if envelope else None,
                details={"code": error.code, "reason": str(error), "record": place},
            )
        )
        headers: Headers = (
            ("quarantine-code", error.code.encode()),
            ("quarantine-reason", str(error).encode()),
            ("quarantine-record", place.encode()),
            *((name, value) for name, value in record.headers if value is not None),
        )
        batch.commands.append(Message(QUARANTINE, record.key or b"", record.value or b"", headers))
        log.warning("event_quarantined", code=error.code, record=place)

    def _collect(self, batch: _Batch) -> list[Message]:
        """Everything to be written, commands before the entries that speak of them."""
        changes = batch.changes
        changes.persons = [person for person in batch.persons.values() if person.decision is not None]
        changes.accounts = list(batch.touched.values())
        wanted = {
            (person_id, boundary.kind, boundary.due): boundary
            for person_id, boundaries in batch.timers.items()
            for boundary in boundaries.values()
        }
        changes.timers_set = [
            Timer(person_id, kind, due, boundary.event_id, boundary.kind)
            for (person_id, kind, due), boundary in wanted.items()
            if (person_id, kind, due) not in batch.open_timers
        ]
        changes.timers_cancelled = [Timer(*key, "", "") for key in batch.open_timers - wanted.keys()]
        batch.breaking.collect(changes)
        changes.outbox = [*batch.commands, *self._writer.stamp(batch.entries)]
        return changes.outbox


def _of_somebody(envelope: Envelope, record: Record) -> str | None:
    """An event's key without whoever it names, wherever the record says who that is: the log has no name for them.
    None where nothing of the record can say it."""
    try:
        data = orjson.loads(envelope.data)
    except orjson.JSONDecodeError:
        data = None
    stated = data.get("worker_id") if isinstance(data, dict) else None
    names = {envelope.subject, (record.key or b"").decode(errors="replace"), stated if isinstance(stated, str) else ""}
    names.discard("")
    if data is None and not names:
        return None
    told = anonymous(envelope.key, None, SOMEBODY)
    for name in sorted(names, key=len, reverse=True):
        told = anonymous(told, name, SOMEBODY)
    return told


def _came_too_early(change: Change, now: datetime) -> bool:
    """Whether a scheduler whose clock is far ahead fired a timer. It fires again when it is due, and must then not
    be taken for a duplicate."""
    return isinstance(change, TimerFired) and change.due > now + MAX_SKEW


def command(raised: Raised, traceparent: str, now: datetime) -> Message:
    """The command for a raised account, on its lane, keyed by person."""
    account = raised.account
    body: Mapping[str, Any] = {
        "person_id": account.person_id,
        "app": account.app,
        "kind": raised.kind,
        "revision": account.revision,
        "state": account.state,
        "resource": account.resource,
        "groups": account.groups,
        "event_id": account.event_id,
        "policy": account.policy,
        "effective_at": timestamp(raised.effective_at),
    }
    key = account.person_id.encode()
    headers: Headers = (
        *_COMMAND_HEADERS,  # as `Envelope.headers` has them, without making an envelope for each
        ("ce_id", f"{account.person_id}/{account.app}/{account.revision}".encode()),
        ("ce_time", timestamp(now).encode()),
        ("ce_subject", key),
        ("ce_correlationid", account.correlation_id.encode()),
    )
    if traceparent:
        headers = (*headers, ("traceparent", traceparent.encode()))
    return Message(lane_topic(account.app, lane(raised.kind)), key, orjson.dumps(body), headers)
