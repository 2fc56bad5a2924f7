"""What became of a statement: whether newer ones leave nothing of it, which ones they are, and which it replaced.

For the timeline: an end of a contract that was extended names the extension, an extension names what it extended.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from orchestrator.domain.history import Stated
from orchestrator.domain.lifecycle import Facts, facts
from orchestrator.domain.person import Person, zones


def superseded_by(person: Person, event_id: str, default_zone: str, at: datetime) -> tuple[str, ...]:
    """The events that leave nothing of what `event_id` stated, in the order of their ids; none where it counts."""
    withdrawal = person.withdrawn.get(event_id)
    if withdrawal is not None:
        return (withdrawal.event_id,)
    statements = person.history.statements
    if statements and statements[-1].event_id == event_id:
        return ()  # the usual case: the newest of all
    found = facts(person, zones(person.history, default_zone))
    winners = set()
    for winner in (
        *_lost_facts(person, found, event_id),
        *_lost_statements(person, found, event_id),
        *_lost_attributes(person, event_id, at),
    ):
        if winner is None:
            return ()
        winners.add(winner)
    return tuple(sorted(winners))


def supersedes(before: Person, after: Person, default_zone: str) -> tuple[str, ...]:
    """The events whose ends, kinds or entitlements counted before and do not any more, and those taken back."""
    if before[1:6] == after[1:6] or not (before.engagements or before.entitlements or after.withdrawn):
        return ()
    replaced = set(after.withdrawn.keys() - before.withdrawn.keys())
    if before[2:6] != after[2:6]:
        known, now = _in_force(before, default_zone), _in_force(after, default_zone)
        replaced |= {
            fact.event_id
            for place, fact in known.items()
            if fact.is_stated and fact.value is not None and (place not in now or now[place].value != fact.value)
        }
    return tuple(sorted(replaced))


def _in_force(person: Person, default_zone: str) -> dict[tuple[str, ...], Stated[Any]]:
    """Every fact that counts, by what it is about."""
    found: dict[tuple[str, ...], Stated[Any]] = {
        ("entitlement", *place): one for place, one in person.entitlements.items()
    }
    for one in facts(person, zones(person.history, default_zone)):
        for name in ("kind", "contract_end", "end"):
            found[name, one.engagement.id] = getattr(one, name)
    return found


def _lost_facts(person: Person, found: list[Facts], event_id: str) -> Iterator[str | None]:
    """For each fact that the event states by name, the event that counts instead; None where it counts itself."""
    for one in found:
        named = one.engagement
        for stated, counts in (
            (named.start, named.start),
            (named.kind, one.kind),
            (named.contract_end, one.contract_end),
            (named.end, one.end),
        ):
            if counts.event_id == event_id:
                yield None
            elif _states(stated, event_id):
                yield counts.event_id
    started = {one.engagement.id for one in found}
    for engagement in person.engagements.values():
        if engagement.id not in started and any(_states(fact, event_id) for fact in engagement.facts):
            yield None  # what it says will count when the start is known
    named_facts: tuple[Stated[Any], ...] = (*person.entitlements.values(), *person.identities.values())
    for fact in named_facts:
        if _states(fact, event_id):
            yield fact.event_id if fact.event_id != event_id else None


def _lost_statements(person: Person, found: list[Facts], event_id: str) -> Iterator[str | None]:
    """The same for ends and changes of contract that name no engagement: what was stated next instead."""
    counting = [fact for one in found for fact in (one.end, one.contract_end, one.kind) if fact.is_stated]
    for index, end in enumerate(person.ends):
        if end.event_id == event_id:
            later = [*person.ends[index + 1 :], *(one.end for one in found)]
            yield _next(end.stated, event_id, later)
    for statement in person.contracts:
        stated, stated_by = statement.place
        if stated_by == event_id:
            yield _next(stated, event_id, counting)


def _next(stated: datetime, event_id: str, facts_: list[Stated[Any]]) -> str | None:
    later = [(one.stated, one.event_id) for one in facts_ if (one.stated, one.event_id) > (stated, event_id)]
    return min(later)[1] if later else None


def _lost_attributes(person: Person, event_id: str, at: datetime) -> Iterator[str | None]:
    """For each attribute that the event stated: who states it anew by the time at which it would count."""
    statements = person.history.statements
    for index, statement in enumerate(statements):
        if statement.event_id != event_id:
            continue
        until = max(at, statement.effective)
        for name in statement.values:
            yield next(
                (one.event_id for one in statements[index + 1 :] if one.effective <= until and name in one.values), None
            )


def _states(fact: Stated[Any], event_id: str) -> bool:
    return fact.event_id == event_id or any(one.event_id == event_id for one in fact.earlier)
