"""Who had what, and why, as of an instant: the accounts rebuilt from the log alone.

Two times count. An entry was *recorded* at an instant, which is when the system knew and acted; what it records is
*effective* at one, which is when HR says that it holds. `Holding.desired` and everything of the application go by the
first: what the database said at that instant. `Holding.effective` goes by the second, with everything the log knows up
to its end: what should have been so, statements that came late included. Where they differ, somebody was told late.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.evidence.entries import Recorded

_STATES = {"create": "active", "patch": "active", "reactivate": "active", "deactivate": "inactive", "delete": "absent"}
_DONE = ("command_applied", "account_verified")
_FAILED = {"command_retried": "retrying", "command_parked": "parked"}
_HOLDS = {"command_held": "held", "command_released": "", "command_rejected": "rejected"}
_MOVES = frozenset({*_DONE, *_FAILED, "call_intended", "account_linked", "account_unlinked"})
_WRITES = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, slots=True)
class Desired:
    """What the account should be, since when, and why. `groups` is None where the log does not say; `began_by` is the
    revision that began the state, 0 where it was not read yet."""

    revision: int
    state: str
    groups: tuple[str, ...] | None
    since: datetime
    effective_at: datetime
    recorded_at: datetime
    event_id: str
    correlation_id: str
    policy: str
    transition: str
    began_by: int = 0


@dataclass(slots=True)
class Holding:
    """One person's account in one application, both sides, as `domain.account` has them.

    `actual` is the state that the application confirmed last, None before there was any; `unsure` says that a call is
    under way or failed since, so that only a look at the application can tell.
    """

    subject: str
    app: str
    desired: Desired | None = None
    effective: Desired | None = None
    applied_revision: int = 0
    actual: str | None = None
    groups: tuple[str, ...] | None = None
    status: str = "pending"
    attempts: int = 0
    code: str = ""
    unsure: bool = False
    applied_at: datetime | None = None
    verified_at: datetime | None = None
    waiting: dict[int, tuple[str, ...] | None] = field(default_factory=dict)
    hold: tuple[int, str] | None = None
    """The revision that the breaker keeps from being issued, and whether it is `held` or `rejected`."""
    outcome: tuple[int, datetime] | None = None
    """Revision and time of the last outcome; one that is older and comes later in the log says nothing new."""
    fence: int = 0
    """The version of the account's row that the newest entry made."""

    @property
    def has_access(self) -> bool:
        """Whether the application lets the person in, as far as the log knows."""
        return self.actual == "active"

    def is_news(self, one: Recorded) -> bool:
        """Whether an entry is newer than what is known of the account.

        An entry may come late: a relay publishes those of a process that died, and those of operators' commands. The
        fence tells. Logs from before there was one have revisions and clocks.
        """
        fence = one.details.get("fence")
        if isinstance(fence, int):
            newer, self.fence = fence > self.fence, max(fence, self.fence)
            return newer
        if self.outcome is None:
            return True
        if one.kind in _DONE or one.kind in _FAILED:
            return (one.revision, one.at) >= self.outcome
        return one.at >= self.outcome[1]


class Replay:
    """Takes the entries of a log in order, and then holds every account as it was at `at` (None: at the log's end)."""

    def __init__(self, at: datetime | None = None, wanted: Callable[[str, str], bool] | None = None) -> None:
        self._at = at
        self._wanted = wanted
        self._transitions: dict[str, tuple[str | None, str]] = {}
        self.holdings: dict[tuple[str, str], Holding] = {}

    def take(self, one: Recorded) -> Holding | None:
        """Take the next entry. Returns the account that it is about, as it is now."""
        subject, app = one.subject, one.app
        if subject is None:
            return None
        if one.kind == "person_resolved":
            self._transitions[subject] = (one.entry.get("event_id"), one.text("transition"))
        if app is None or (self._wanted is not None and not self._wanted(subject, app)):
            return None
        holding = self.holdings.get((subject, app))
        if holding is None:
            holding = self.holdings[subject, app] = Holding(subject, app)
        if one.kind == "command_issued":
            self._issued(holding, one)
        elif self._at is None or one.at <= self._at:
            _happened(holding, one)
        return holding

    def _issued(self, holding: Holding, one: Recorded) -> None:
        found = self._desired(one)
        # Two resolvers may publish in another order than they saved; revisions are dense and say which is newer.
        if self._at is None or one.at <= self._at:
            holding.desired = _newest(holding.desired, found, one)
            if holding.hold is not None and found.revision >= holding.hold[0]:
                holding.hold = None
            if found.revision > holding.applied_revision:
                holding.waiting[found.revision] = found.groups
            elif found.revision == holding.applied_revision and holding.actual == "active":
                holding.groups = found.groups
        if self._at is None or found.effective_at <= self._at:
            holding.effective = _newest(holding.effective, found, one)

    def _desired(self, one: Recorded) -> Desired:
        entry = one.entry
        state = desired_state(one)
        effective_at = one.instant("effective_at") or one.at
        event_id, transition = self._transitions.get(one.subject or "", (None, ""))
        return Desired(
            revision=one.revision,
            state=state,
            groups=one.names("groups") if isinstance(one.details.get("groups"), list) else None,
            since=one.instant("since") or effective_at,
            effective_at=effective_at,
            recorded_at=one.at,
            event_id=entry.get("event_id") or "",
            correlation_id=entry.get("correlation_id") or "",
            policy=entry.get("policy") or "",
            transition=transition if event_id == entry.get("event_id") else "",
        )

    def present(self) -> list[Holding]:
        """The accounts of which anything was known at the instant, by application and subject."""
        known = (one for one in self.holdings.values() if one.desired is not None or one.actual is not None)
        return sorted(known, key=lambda one: (one.app, one.subject))


def desired_state(one: Recorded) -> str:
    """The state that a `command_issued` asks for, also where the entry names the command only."""
    return one.text("state") or _STATES.get(one.text("command"), "")


def was_rejected(one: Recorded) -> bool:
    """Whether a `command_held` says again what an operator has rejected: then nobody has to decide anew."""
    return one.instant("rejected_at") is not None


def _newest(known: Desired | None, found: Desired, one: Recorded) -> Desired:
    """The newer of the two, with the beginning of its state: a patch goes on with a state that an earlier revision
    began, and that one may be read later."""
    began = one.details.get("command") != "patch" or "since" in one.details
    if known is None or found.revision > known.revision:
        if began:
            return replace(found, began_by=found.revision)
        goes_on = known is not None and known.state == found.state
        return replace(found, since=known.since, began_by=known.began_by) if known is not None and goes_on else found
    if began and found.state == known.state and known.began_by < found.revision < known.revision:
        return replace(known, since=found.since, began_by=found.revision)
    return known


def _happened(holding: Holding, one: Recorded) -> None:
    kind = one.kind
    if kind in _HOLDS:
        _held(holding, one)
    elif not _moves(one) or not holding.is_news(one):
        return
    elif kind in _DONE:
        _done(holding, one)
    elif kind in _FAILED:
        _failed(holding, one)
    else:
        holding.unsure = True
        if kind == "account_unlinked":
            holding.status, holding.code = "parked", "unlinked"
        elif kind != "call_intended":  # somebody has the connector look at the account
            holding.status, holding.attempts, holding.code = "pending", 0, ""


def _moves(one: Recorded) -> bool:
    """Whether an entry changes how far the connector has come with an account."""
    if one.kind == "operator_acted":
        return one.text("action") == "retry_parked"
    if one.kind == "reconciled":
        return one.text("action") == "marked"
    return one.kind in _MOVES


def _held(holding: Holding, one: Recorded) -> None:
    """What is held is beside the account, which goes on as it was issued last."""
    if holding.desired is None or one.revision > holding.desired.revision:
        hold = "rejected" if was_rejected(one) else _HOLDS[one.kind]
        holding.hold = (one.revision, hold) if hold else None


def _done(holding: Holding, one: Recorded) -> None:
    holding.outcome = (one.revision, one.at)
    holding.applied_revision = max(holding.applied_revision, one.revision)
    holding.actual = _confirmed(holding, one)
    wanted = holding.waiting.get(one.revision, holding.groups)
    holding.groups = wanted if holding.actual == "active" else () if wanted is not None else None
    holding.waiting = {
        revision: groups for revision, groups in holding.waiting.items() if revision >= holding.applied_revision
    }
    holding.status, holding.attempts, holding.code, holding.unsure = "applied", 0, "", False
    holding.applied_at = one.at
    holding.verified_at = one.instant("verified_at")


def _confirmed(holding: Holding, one: Recorded) -> str | None:
    """What there is now. Of somebody who left before there was an account there is none: nothing was called for, and
    no account's id is sealed."""
    state = one.text("state") or (holding.desired.state if holding.desired else None)
    never_there = holding.actual in (None, "absent") and not one.entry.get("sealed") and not _changed_an_account(one)
    return "absent" if state == "inactive" and never_there else state


def _failed(holding: Holding, one: Recorded) -> None:
    holding.outcome = (one.revision, one.at)
    holding.status, holding.code, holding.unsure = _FAILED[one.kind], one.text("code"), True
    attempts = one.details.get("attempts")
    holding.attempts = attempts if isinstance(attempts, int) else holding.attempts + 1
    if holding.desired is not None and holding.desired.state == "active" and _changed_an_account(one):
        holding.actual = "active"  # its groups failed, say: somebody can sign in with it already


def _changed_an_account(one: Recorded) -> bool:
    """Whether a call that gives access was answered with success."""
    for call in one.details.get("calls") or ():
        method, path, status = call[0], str(call[1]), call[-1]
        if method in _WRITES and path.startswith("/Users") and isinstance(status, int) and status < 300:
            return True
    return False
