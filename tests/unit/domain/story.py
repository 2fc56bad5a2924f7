"""One person's life as the resolver sees it: changes arrive, time passes, timers fire. For tests that tell it."""

from datetime import datetime

from orchestrator.domain.account import Account
from orchestrator.domain.lifecycle import Boundary
from orchestrator.domain.person import Person
from orchestrator.domain.policy import ApplicationPolicy, Policy, compile_policy
from orchestrator.domain.resolve import Cause, Raised, Resolution, resolve
from schemas.changes import Change, TimerFired


def policy(*applications: ApplicationPolicy, default_zone: str = "UTC") -> Policy:
    """A policy that has to compile."""
    compiled, problems = compile_policy(list(applications), default_zone)
    assert compiled is not None, problems
    return compiled


def app(name: str = "directory", **settings: object) -> ApplicationPolicy:
    """An application for everybody, unless the settings say otherwise."""
    attributes = {"userName": "person.id", "title": "person.title"}
    return ApplicationPolicy(name, **{"attributes": attributes, **settings})  # type: ignore[arg-type]


class Story:
    """Keeps what the store would keep, and every command that was issued."""

    def __init__(self, rules: Policy, person_id: str = "w1") -> None:
        self.rules = rules
        self.person = Person(person_id)
        self.accounts: dict[str, Account] = {}
        self.timers: dict[tuple[str, datetime], Boundary] = {}
        self.raised: list[Raised] = []
        self._told = 0

    def tell(self, change: Change, now: datetime, *, stated: datetime | None = None, event: str = "") -> Resolution:
        """A change arrives at `now`; it was stated then too, unless another time is given."""
        self._told += 1
        cause = Cause(event or f"hr#{self._told:04}", stated or now, "c1")
        told = resolve(self.person, self.accounts, self.timers.values(), change, cause, self.rules, now)
        self.person = told.person
        for one in told.timers_cancelled:
            del self.timers[one.kind, one.due]
        for one in told.timers_set:
            assert (one.kind, one.due) not in self.timers, "set already"
            self.timers[one.kind, one.due] = one
        for raised in told.raised:
            before = self.accounts.get(raised.account.app)
            assert raised.account.revision == (before.revision if before else 0) + 1, "revisions are dense"
            self.accounts[raised.account.app] = raised.account
        self.raised += told.raised
        return told

    def wait_until(self, now: datetime) -> None:
        """Time passes, and every timer that comes due fires at its instant."""
        while due := sorted(key for key in self.timers if key[1] <= now):
            kind, at = min(due, key=lambda key: key[1])
            del self.timers[kind, at]
            self.tell(TimerFired(worker_id=self.person.id, kind=kind, due=at), at, event=f"timer#{kind}/{at}")

    def state(self, name: str = "directory") -> str:
        """What the account should be; `none` when there never was one."""
        return self.accounts[name].state if name in self.accounts else "none"

    def access(self) -> dict[str, tuple[object, tuple[str, ...]]]:
        """What the person has: the resource and groups of each active account."""
        return {a.app: (a.resource, a.groups) for a in self.accounts.values() if a.state == "active"}

    def due(self) -> dict[str, datetime]:
        """The open timers; of several of one kind the first."""
        return dict(sorted(self.timers, key=lambda key: key[1], reverse=True))

    def kinds(self) -> list[str]:
        """The kinds of the commands issued so far."""
        return [one.kind for one in self.raised]
