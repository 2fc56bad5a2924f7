"""What timers that are still to come will do, as things stand now: the resolver's own decision, made ahead of time."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from orchestrator.domain.account import Account
from orchestrator.domain.days import zone
from orchestrator.domain.person import TIME_ZONE, Person
from orchestrator.domain.policy import Policy
from orchestrator.domain.resolve import Cause, resolve
from schemas.changes import TimerFired
from schemas.commands import DesiredState


class Foreseen(NamedTuple):
    """What one timer will do. `local` is its instant in the zone in which the worker is then; `becomes` has the
    applications whose account changes, with its new state; `problems` are expressions that fail."""

    person_id: str
    kind: str
    due: datetime
    local: datetime
    becomes: Mapping[str, DesiredState]
    problems: tuple[str, ...]


class Foresight:
    """Looks at timers in the order in which they are due; what one does, the next one of the same person finds done."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._people: dict[str, tuple[Person, dict[str, Account]]] = {}

    def unknown(self, person_ids: Iterable[str]) -> list[str]:
        """Those of these people of whom nothing was told yet."""
        return sorted(set(person_ids) - self._people.keys())

    def tell(self, people: Mapping[str, tuple[Person, dict[str, Account]]]) -> None:
        """These are the people and their accounts as they are now."""
        self._people.update(people)

    def look(self, timers: Iterable[tuple[str, str, datetime]]) -> Iterator[Foreseen]:
        """What each of them, given as person, kind and due instant, will do."""
        for person_id, kind, due in timers:
            person, accounts = self._people.get(person_id, (Person(person_id), {}))
            change = TimerFired(worker_id=person_id, kind=kind, due=due)
            resolution = resolve(person, accounts, (), change, Cause("", due, ""), self._policy, due)
            raised = {one.account.app: one.account for one in resolution.raised}
            self._people[person_id] = (resolution.person, {**accounts, **raised})
            where = zone(person.history.at(due).get(TIME_ZONE), self._policy.default_zone)
            becomes = {app: account.state for app, account in sorted(raised.items())}
            yield Foreseen(person_id, kind, due, due.astimezone(where), becomes, resolution.problems)
