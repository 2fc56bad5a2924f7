"""What an application did to an account, or refused to do: the part of the log that other products log too."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from orchestrator.evidence.access import Replay, desired_state, was_rejected
from orchestrator.evidence.entries import Recorded

Action = Literal["create", "enable", "update", "disable", "delete", "link", "unlink", "none"]
Outcome = Literal["success", "failure", "held", "rejected"]

_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_OUTCOMES: dict[str, Outcome] = {
    "command_applied": "success",
    "account_verified": "success",
    "command_retried": "failure",
    "command_parked": "failure",
    "command_held": "held",
    "command_rejected": "rejected",
    "account_linked": "success",
    "account_unlinked": "success",
}


@dataclass(frozen=True, slots=True)
class AccountChange:
    """One entry that tells of an account. `before` and `after` are its states, None where nothing was known.

    `action` is what happened, or should have happened; `none` where the account was as it should be, but for groups.
    """

    one: Recorded
    action: Action
    outcome: Outcome
    before: str | None
    after: str | None
    groups_added: tuple[str, ...]
    groups_removed: tuple[str, ...]
    started: Recorded | None
    """The intent, written before the first call."""


class AccountChanges:
    """Takes the entries of a log from its beginning, in order, because what a call did follows from what was before."""

    def __init__(self) -> None:
        self._replay = Replay()
        self._intents: dict[tuple[str, str], Recorded] = {}

    def take(self, one: Recorded) -> AccountChange | None:
        """The change that an entry tells of, if it does."""
        subject, app = one.subject, one.app
        if subject is None or app is None:
            self._replay.take(one)
            return None
        known = self._replay.holdings.get((subject, app))
        before = known.actual if known is not None else None
        holding = self._replay.take(one)
        outcome = "rejected" if was_rejected(one) else _OUTCOMES.get(one.kind)
        if one.kind == "call_intended":
            self._intents[subject, app] = one
        if outcome is None or holding is None:
            return None
        wanted = holding.desired.state if holding.desired is not None else None
        if outcome in ("held", "rejected"):
            wanted = desired_state(one) or wanted
        after = one.text("state") or (holding.actual if outcome == "success" else wanted)
        if one.kind in ("account_linked", "account_unlinked"):
            action: Action = "link" if one.kind == "account_linked" else "unlink"
        else:
            action = _action(before, after, outcome, one)
        added, removed = one.names("groups_added"), one.names("groups_removed")
        started = self._intents.pop((subject, app), None)
        return AccountChange(one, action, outcome, before, after, added, removed, started)


def _action(before: str | None, after: str | None, outcome: Outcome, one: Recorded) -> Action:
    had, wrote = before or "absent", _wrote(one.details.get("calls"))
    if after in ("active", "staged") and had == "absent":
        return "create"
    if after == "active" and had != "active":
        return "enable"
    if after == "active" or (after == "staged" and had != "active"):
        return "update" if wrote or outcome != "success" else "none"
    if not wrote and had != "active" and (after != "absent" or had == "absent"):
        return "none"
    return "delete" if after == "absent" else "disable"


def _wrote(calls: Iterable[list[object]] | None) -> bool:
    """Whether an account itself was changed, by `[method, path, status]`."""
    return any(call[0] in _WRITES and str(call[1]).startswith("/Users") for call in calls or ())
