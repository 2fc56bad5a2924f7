"""The breaker in the resolver's transaction: what a batch decides is issued, or held past the limits.

The counts are rows that are locked from the first command that takes access away until the commit, so that several
resolvers together let no more pass than one would.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from orchestrator.domain.account import Account, command_kind
from orchestrator.domain.breaker import (
    BreakerPolicy,
    Held,
    Window,
    bucket,
    judge,
    oldest_bucket,
    removal,
    source_key,
)
from orchestrator.domain.resolve import Raised
from orchestrator.ports import Passed, ResolveChanges, ResolveTransaction

log = structlog.get_logger()

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Breaker:
    """The policy (None: nothing is ever held) and the applications it is about."""

    policy: BreakerPolicy | None = None
    apps: Sequence[str] = ()


@dataclass(slots=True)
class Breaking:
    """What one batch knows of holds and counts."""

    breaker: Breaker
    now: datetime
    issued: dict[Key, Account] = field(default_factory=dict)
    """The accounts of which something is held, as they were issued last."""
    held: dict[Key, Held] = field(default_factory=dict)
    loaded: set[Key] = field(default_factory=set)
    windows: dict[str, Window] | None = None
    passed: Counter[tuple[str, str]] = field(default_factory=Counter)
    tripped: dict[str, datetime] = field(default_factory=dict)

    async def load(
        self, transaction: ResolveTransaction, person_ids: Sequence[str], accounts: dict[str, dict[str, Account]]
    ) -> None:
        """Put what was decided in the place of what was issued: that is what the next decision has to start from."""
        if not accounts:
            return
        self.held = await transaction.held(person_ids)
        self.loaded = set(self.held)
        for (person_id, app), one in self.held.items():
            self.issued[person_id, app] = accounts[person_id][app]
            accounts[person_id][app] = one.decided

    def as_issued(self, person_id: str, accounts: Mapping[str, Account]) -> dict[str, Account]:
        """The person's accounts as they are known outside, whatever is held of them."""
        return {app: self.issued.get((person_id, app), account) for app, account in accounts.items()}

    async def pass_or_hold(
        self, transaction: ResolveTransaction, raised: Raised, before: Account | None, source: str, timer: str | None
    ) -> tuple[Raised | None, Held | None]:
        """What of a raised account is issued, and what is held. `before` is what the decision started from."""
        decided = raised.account
        key = (decided.person_id, decided.app)
        issued = self.issued.get(key, before)
        policy = self.breaker.policy
        exempt = policy is None or policy.is_exempt(source, timer)
        if exempt or removal(issued, decided) is None:
            self._forget(key)
            return raised._replace(kind=command_kind(issued, decided.state)), None
        assert policy is not None
        source = source_key(source)
        if self.windows is None:
            # All at once and always in one order: two resolvers must not wait for each other.
            apps = sorted({*self.breaker.apps, decided.app})
            self.windows = await transaction.windows(apps, since=oldest_bucket(self.now, policy.window), now=self.now)
        window = self.windows.get(decided.app) or Window(0)
        verdict = judge(
            decided,
            issued,
            self.held.get(key),
            source=source,
            effective_at=raised.effective_at,
            has_room=window.has_room(policy.rule_of(decided.app), source),
            now=self.now,
        )
        if verdict.counts:
            window.passed[source] = window.passed.get(source, 0) + 1
            self.passed[decided.app, source] += 1
        if verdict.held is None:
            self._forget(key)
            return raised, None
        if verdict.issue is not None or issued is not None:
            self.issued[key] = verdict.issue or issued  # type: ignore[assignment]  # one of them is there
        news = key not in self.held or self.held[key].held_at == self.now
        self.held[key] = verdict.held
        if news:
            self._trip(window, decided.app, source, policy)
        issue = verdict.issue
        return (None if issue is None else Raised(issue, command_kind(issued, issue.state), raised.effective_at)), (
            verdict.held
        )

    def _forget(self, key: Key) -> None:
        self.held.pop(key, None)
        self.issued.pop(key, None)

    def _trip(self, window: Window, app: str, source: str, policy: BreakerPolicy) -> None:
        """Tell once, not for every command that is held."""
        if window.tripped_at is not None and window.tripped_at > self.now - policy.window:
            return
        window.tripped_at = self.tripped[app] = self.now
        log.error(
            "breaker_tripped",
            app=app,
            reason=f"{source} takes away more access than the breaker lets pass; see `jml held list`",
        )

    def collect(self, changes: ResolveChanges) -> None:
        """What is to be written."""
        changes.held = list(self.held.values())
        changes.unheld = sorted(self.loaded - self.held.keys())
        changes.tripped = dict(self.tripped)
        if self.passed and self.breaker.policy is not None:
            at = bucket(self.now, self.breaker.policy.window)
            changes.passed = [Passed(app, source, at, number) for (app, source), number in sorted(self.passed.items())]
