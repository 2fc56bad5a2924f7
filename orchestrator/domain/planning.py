"""What a policy would do, without doing it: for one person as things stand, and for a life that is told again.

Both ask the resolver's own decision, so a plan cannot differ from what happens later.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from orchestrator.domain.account import Account
from orchestrator.domain.history import EARLIEST, History, Stated
from orchestrator.domain.lifecycle import Boundary
from orchestrator.domain.person import Engagement, Person
from orchestrator.domain.policy import Policy
from orchestrator.domain.resolve import Cause, Raised, resolve
from orchestrator.domain.scim_diff import operations
from schemas.changes import Change, TimerFired
from schemas.commands import CommandKind

PLAN = "jml/plan"
"""The source that a planned decision names. It never reaches a topic."""


class Planned(NamedTuple):
    """A command that would be issued: `attributes` and `groups` as pairs of what is and what would be."""

    person_id: str
    app: str
    kind: CommandKind
    attributes: Mapping[str, tuple[Any, Any]]
    groups_added: tuple[str, ...]
    groups_removed: tuple[str, ...]


def plan(
    person: Person, accounts: Mapping[str, Account], policy: Policy, now: datetime
) -> tuple[list[Planned], tuple[str, ...]]:
    """What would be issued for a person whose desired accounts are `accounts`; and the expressions that fail."""
    look = TimerFired(worker_id=person.id, kind="plan", due=now)
    told = resolve(person, accounts, (), look, Cause(f"{PLAN}#{person.id}", now, PLAN), policy, now)
    return [planned(accounts.get(one.account.app), one) for one in told.raised], told.problems


def planned(before: Account | None, raised: Raised) -> Planned:
    """A raised account held against the one before it."""
    after = raised.account
    held = before.resource if before is not None and before.state != "absent" else {}
    had = set(before.groups) if before is not None else set()
    return Planned(
        after.person_id,
        after.app,
        raised.kind,
        _differences(held, after.resource) if after.state == "active" else {},
        tuple(sorted(set(after.groups) - had)),
        tuple(sorted(had - set(after.groups))),
    )


def _differences(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By the attribute's path as the patch would name it. What is removed becomes None."""
    forth = {one["path"]: one.get("value") for one in operations(held, wanted)}
    back = {one["path"]: one.get("value") for one in operations(wanted, held)}
    return {path: (back.get(path), forth.get(path)) for path in sorted({*forth, *back})}


def as_it_was(person: Person, since: datetime, told: Collection[str] = ()) -> Person:
    """The person without what was stated at `since` or later, or by one of the events `told`, which may be backdated,
    as far as the record knows.

    Of an engagement only the latest statement of each fact is kept: an end that was stated anew since then counts as
    open before, a start and a kind as the same.
    """

    def known(stated: datetime, event_id: str) -> bool:
        return stated < since and event_id not in told

    return Person(
        person.id,
        History(tuple(one for one in person.history.statements if known(one.stated, one.event_id))),
        {one.id: _engagement(one, known) for one in person.engagements.values()},
        tuple(fact for fact in person.ends if known(fact.stated, fact.event_id)),
        tuple(one for one in person.contracts if known(*one.place)),
        {key: fact for key, fact in person.entitlements.items() if known(fact.stated, fact.event_id)},
        {event: one for event, one in person.withdrawn.items() if known(one.stated, one.event_id)},
        identities={app: fact for app, fact in person.identities.items() if known(fact.stated, fact.event_id)},
    )


def _engagement(engagement: Engagement, known: Callable[[datetime, str], bool]) -> Engagement:
    kept: dict[str, Any] = {
        name: fact
        if known(fact.stated, fact.event_id)
        else Stated(fact.value if name in ("start", "kind") else None, EARLIEST)
        for name, fact in engagement._asdict().items()
        if isinstance(fact, Stated)
    }
    return engagement._replace(**kept)


class Rehearsal:
    """One person's life under one policy, told again from an instant on. Timers fire at their instants."""

    def __init__(self, person: Person, policy: Policy, since: datetime) -> None:
        self._person = person
        self._policy = policy
        self._accounts: dict[str, Account] = {}
        self._timers: dict[tuple[str, datetime], Boundary] = {}
        self._now = since
        self.commands: list[Planned] = []
        if person.engagements:
            self._look("begin", since)
            self.commands.clear()  # how it stood at the beginning is no change

    def tell(self, change: Change, cause: Cause, now: datetime) -> None:
        """The change arrives at `now`."""
        self.wait_until(now)
        self._decide(change, cause, max(now, self._now))

    def wait_until(self, now: datetime) -> None:
        """Time passes; what comes due is decided in the order of its instants."""
        while due := [key for key in self._timers if key[1] <= now]:
            kind, at = min(due, key=lambda key: (key[1], key[0]))
            del self._timers[kind, at]
            self._now = max(self._now, at)
            self._look(kind, at)
        self._now = max(self._now, now)

    def _look(self, kind: str, at: datetime) -> None:
        cause = Cause(f"{PLAN}#{kind}/{at.isoformat()}", at, PLAN)
        self._decide(TimerFired(worker_id=self._person.id, kind=kind, due=at), cause, at)

    def _decide(self, change: Change, cause: Cause, now: datetime) -> None:
        told = resolve(self._person, self._accounts, self._timers.values(), change, cause, self._policy, now)
        self._person = told.person
        self._timers = _without(self._timers, told.timers_cancelled)
        self._timers.update({(one.kind, one.due): one for one in told.timers_set})
        for raised in told.raised:
            self.commands.append(planned(self._accounts.get(raised.account.app), raised))
            self._accounts[raised.account.app] = raised.account


def _without(
    timers: Mapping[tuple[str, datetime], Boundary], cancelled: Iterable[Boundary]
) -> dict[tuple[str, datetime], Boundary]:
    gone = {(one.kind, one.due) for one in cancelled}
    return {key: one for key, one in timers.items() if key not in gone}
