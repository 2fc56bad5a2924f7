"""The blast breaker: how much access may be taken away within a window, and what is held for a person beyond that.

What counts are commands that take access away: deactivations, deletes, removals from groups. They count by the source
that caused them, and all together, for each application. Within the limits they are issued; past them they are held:
the account stays as it was issued last, and the decision waits beside it. Joiners and movers go on. See decision 0027.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from orchestrator.domain.account import Account, command_kind
from schemas.commands import CommandKind

Removal = Literal["deactivate", "delete", "groups"]

OPERATOR = "operator"
OPERATOR_SOURCE = "jml/operator/"
EXEMPTIONS = frozenset(
    {
        OPERATOR,
        "contract_end",
        "termination",
        "retention_end",
        "leave_of_absence_start",
        "scheduled_change",
    }
)
"""What a policy may let pass: what an operator says, and timers by their kind."""

BUCKETS = 60
"""Parts of the window. What passed in a part leaves the window when all of the part is past it, never before."""
LONGEST_SOURCE = 200

_RANK = {"absent": 0, "inactive": 1, "staged": 1, "active": 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """`limit` or `share` of the active accounts, whichever is more, for each source; `total_*` for all of them."""

    limit: int
    share: float
    total_limit: int
    total_share: float
    min_population: int = 0


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When the breaker trips, and for what it never does."""

    window: timedelta
    rule: Rule
    own: Mapping[str, Rule] = field(default_factory=dict)
    """Applications with a rule of their own."""
    exempt: frozenset[str] = frozenset()

    def rule_of(self, app: str) -> Rule:
        """The rule of an application."""
        return self.own.get(app, self.rule)

    def is_exempt(self, source: str, timer: str | None) -> bool:
        """Whether what this source says, or this kind of timer brings about, is neither counted nor held."""
        if timer is not None:
            return timer in self.exempt
        return OPERATOR in self.exempt and source.startswith(OPERATOR_SOURCE)


@dataclass(slots=True)
class Window:
    """What passed for one application within the window, by source."""

    population: int
    """Active accounts, as last counted."""
    passed: dict[str, int] = field(default_factory=dict)
    tripped_at: datetime | None = None

    def limit(self, rule: Rule) -> int:
        """How many commands of one source pass within the window."""
        return max(rule.limit, int(rule.share * self.population))

    def limit_of_all(self, rule: Rule) -> int:
        """How many commands of all sources together do."""
        return max(rule.total_limit, int(rule.total_share * self.population))

    def has_room(self, rule: Rule, source: str) -> bool:
        """Whether one more command of this source may pass."""
        if self.population < rule.min_population:
            return True
        most = self.limit(rule)
        return self.passed.get(source, 0) < most and sum(self.passed.values()) < self.limit_of_all(rule)


@dataclass(frozen=True, slots=True)
class Held:
    """A decision that takes access away and waits for a person; `account` is what it would make of the account."""

    account: Account
    kind: CommandKind
    removal: Removal
    source: str
    effective_at: datetime
    held_at: datetime
    rejected_at: datetime | None = None
    """When an operator said no: it stays on record, so that the same decision said again stays without effect."""

    @property
    def key(self) -> tuple[str, str]:
        """Person and application: an account has at most one."""
        return self.account.person_id, self.account.app

    @property
    def decided(self) -> Account:
        """The account as the resolver has decided it, marked as not issued."""
        return replace(self.account, hold="rejected" if self.rejected_at else "held")


class Verdict(NamedTuple):
    """What becomes of a decision: what is issued, what is held, and whether it counts."""

    issue: Account | None
    held: Held | None
    counts: bool = False


def removal(issued: Account | None, decided: Account) -> Removal | None:
    """What a decision takes away from an account as it was issued last; None: nothing."""
    if issued is None or issued.state == "absent":
        return None
    if _RANK[decided.state] < _RANK[issued.state]:
        return "delete" if decided.state == "absent" else "deactivate"
    if decided.state == issued.state == "active" and not set(issued.groups) <= set(decided.groups):
        return "groups"
    return None


def judge(
    decided: Account,
    issued: Account | None,
    before: Held | None,
    *,
    source: str,
    effective_at: datetime,
    has_room: bool,
    now: datetime,
) -> Verdict:
    """Issue a decision or hold it. `issued` is the account as it was issued last, `before` what is held of it already.

    Whatever takes access away from an account of which something is held joins it, uncounted; one that was rejected
    only while it says the same. Of a change that takes groups away and gives something else, only the groups are held:
    the rest is issued as a revision of its own, with the groups of before and after.
    """
    what = removal(issued, decided)
    if what is None or issued is None:
        return Verdict(decided, None)
    joins = before is not None and (before.rejected_at is None or _same(before, decided, issued))
    if has_room and not joins:
        return Verdict(decided, None, counts=True)
    held = Held(
        decided,
        command_kind(issued, decided.state),
        what,
        before.source if joins and before is not None else source,
        effective_at,
        before.held_at if joins and before is not None else now,
        before.rejected_at if joins and before is not None else None,
    )
    if what != "groups":
        return Verdict(None, held)
    kept = replace(decided, groups=tuple(sorted({*issued.groups, *decided.groups})), since=issued.since)
    if (kept.resource, kept.groups) == (issued.resource, issued.groups):
        return Verdict(None, held)
    return Verdict(kept, replace(held, account=replace(decided, revision=decided.revision + 1)))


def _same(before: Held, decided: Account, issued: Account) -> bool:
    """Whether a decision says nothing that was not rejected already."""
    if before.account.state != decided.state:
        return False
    if decided.state != "active":
        return before.account.since == decided.since
    rejected = set(issued.groups) - set(before.account.groups)
    return set(issued.groups) - set(decided.groups) <= rejected


def source_key(source: str) -> str:
    """A source as it is counted: of bounded length, and without what a database cannot store."""
    source = source.replace("\x00", "\ufffd")
    if len(source) <= LONGEST_SOURCE:
        return source
    return f"{source[: LONGEST_SOURCE - 17]}#{hashlib.sha256(source.encode()).hexdigest()[:16]}"


def bucket(now: datetime, window: timedelta) -> datetime:
    """The beginning of the part of the window that `now` lies in."""
    size = max(int(window.total_seconds()) // BUCKETS, 1)
    return datetime.fromtimestamp(int(now.timestamp()) // size * size, UTC)


def oldest_bucket(now: datetime, window: timedelta) -> datetime:
    """The first part of which some lies within the window."""
    return bucket(now - window, window)
