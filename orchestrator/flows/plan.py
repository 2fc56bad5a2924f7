"""Plans: what would be sent now, and what a candidate policy would have made of the events since an instant.

Nothing here writes: neither the store nor a topic nor an application.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.domain.person import Person
from orchestrator.domain.planning import Planned, Rehearsal, as_it_was, plan
from orchestrator.domain.policy import Policy
from orchestrator.domain.resolve import Cause
from orchestrator.errors import Poison
from orchestrator.flows.resolve import Incoming, parse
from orchestrator.ports import PlanStore, TimedRecord
from schemas.changes import TimerFired
from schemas.envelope import MAX_AHEAD


@dataclass(slots=True)
class Totals:
    """Commands by application and kind, the persons they are for, and expressions that failed."""

    persons: int = 0
    touched: int = 0
    commands: dict[str, Counter[str]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)

    def count(self, planned: Iterable[Planned]) -> None:
        """Add the commands of one person."""
        for one in planned:
            self.commands.setdefault(one.app, Counter())[one.kind] += 1


async def plan_everybody(store: PlanStore, policy: Policy, now: datetime, totals: Totals) -> AsyncIterator[Planned]:
    """What would be issued for all persons; `totals` is complete at the end."""
    async for page in store.everybody():
        for person, accounts in page:
            found, problems = plan(person, accounts, policy, now)
            _add(totals, found, problems)
            for one in found:
                yield one


async def plan_persons(
    store: PlanStore, person_ids: Sequence[str], policy: Policy, now: datetime, totals: Totals
) -> list[Planned]:
    """What would be issued for these persons."""
    planned: list[Planned] = []
    for person, accounts in await store.named(person_ids):
        found, problems = plan(person, accounts, policy, now)
        _add(totals, found, problems)
        planned += found
    return planned


def _add(totals: Totals, found: list[Planned], problems: Iterable[str]) -> None:
    totals.persons += 1
    totals.touched += bool(found)
    totals.problems.update(problems)
    totals.count(found)


@dataclass(frozen=True, slots=True)
class Differing:
    """A person for whom the two policies issue different commands."""

    person_id: str
    present: tuple[Planned, ...]
    candidate: tuple[Planned, ...]


@dataclass(slots=True)
class Replayed:
    """The same events under two policies."""

    events: int = 0
    unreadable: int = 0
    unaddressed: int = 0
    """Events of an identity provider whose e-mail address leads to nobody, or to several."""
    present: Totals = field(default_factory=Totals)
    candidate: Totals = field(default_factory=Totals)
    differing: list[Differing] = field(default_factory=list)


async def replay(
    records: AsyncIterator[TimedRecord],
    store: PlanStore,
    present: Policy,
    candidate: Policy,
    since: datetime,
    now: datetime,
) -> Replayed:
    """Tell the events of `records` again to both policies, each person from how things stood at `since`.

    Timers are left out: each policy sets its own, and they fire until `now`. The events are held in memory.
    """
    replayed = Replayed()
    told = await _by_person(records, store, now, replayed)
    known = {person.id: person for person, _ in await store.named(list(told))}
    for person_id in sorted(told):
        keys = {incoming.envelope.key for _, incoming in told[person_id]}
        then = as_it_was(known.get(person_id) or Person(person_id), since, keys)
        lives = [Rehearsal(then, policy, since) for policy in (present, candidate)]
        for life in lives:
            for arrived, incoming in told[person_id]:
                envelope = incoming.envelope
                cause = Cause(envelope.key, envelope.time, envelope.correlation_id or envelope.id)
                life.tell(incoming.change, cause, arrived)
            life.wait_until(now)
        for totals, life in zip((replayed.present, replayed.candidate), lives, strict=True):
            _add(totals, life.commands, ())
        if lives[0].commands != lives[1].commands:
            replayed.differing.append(Differing(person_id, tuple(lives[0].commands), tuple(lives[1].commands)))
    return replayed


async def _by_person(
    records: AsyncIterator[TimedRecord], store: PlanStore, now: datetime, replayed: Replayed
) -> dict[str, list[tuple[datetime, Incoming]]]:
    """Each event once, by the person that it is about, in the order in which the broker took them."""
    found: list[tuple[datetime, str, int, int, Incoming]] = []
    seen: set[str] = set()
    async for record in records:
        try:
            incoming = parse(record, now + MAX_AHEAD)
        except Poison:
            replayed.unreadable += 1
            continue
        if isinstance(incoming.change, TimerFired) or incoming.envelope.key in seen:
            continue
        seen.add(incoming.envelope.key)
        arrived = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        found.append((arrived, record.topic, record.partition, record.offset, incoming))
    replayed.events = len(found)
    found.sort(key=lambda one: one[:4])
    emails = {one[4].change.email.lower() for one in found if one[4].person_id is None}  # type: ignore[attr-defined]  # those have one
    owners = await store.correlate_emails(sorted(emails)) if emails else {}
    told: dict[str, list[tuple[datetime, Incoming]]] = {}
    for arrived, _, _, _, incoming in found:
        person_id = incoming.person_id
        if person_id is None:
            ids = owners.get(incoming.change.email.lower(), [])  # type: ignore[attr-defined]  # as above
            if len(ids) != 1:
                replayed.unaddressed += 1
                continue
            person_id = ids[0]
        told.setdefault(person_id, []).append((arrived, incoming))
    return told
