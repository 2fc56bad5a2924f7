"""What did not go by itself: operators' acts, and accounts that were parked or held."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.evidence.access import desired_state, was_rejected
from orchestrator.evidence.entries import Recorded, name_of
from orchestrator.evidence.reports.base import Column, Question, Row, in_order

OVERRIDE_COLUMNS = (
    Column("recorded_at", "Recorded"),
    Column("operator", "Operator"),
    Column("act", "Act"),
    Column("app", "Application"),
    Column("person", "Person"),
    Column("revision", "Revision"),
    Column("code", "Code"),
    Column("reason", "Reason"),
    Column("event_id", "Caused by"),
)

_ACTS = {
    "event_received": "state an event",
    "command_held": "hold",
    "command_released": "release",
    "command_rejected": "reject",
    "account_linked": "link",
    "account_unlinked": "unlink",
    "subject_erased": "erase",
    "application_paused": "pause application",
    "application_resumed": "resume application",
}


_CONFIGURED = "audit_configured"


class Overrides:
    """Every operator's act, and what else only an operator decides. What then came of it is not listed again.

    How the log itself is kept is somebody's decision too, but it is a role that tells of it, at its next start.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._rows: list[Row] = []

    def take(self, one: Recorded) -> None:
        """The next entry."""
        actor = one.entry.get("actor") or ""
        question = self._question
        decided = one.kind in _ACTS and actor.startswith("operator:")
        if one.kind not in ("operator_acted", _CONFIGURED) and not decided:
            return
        if not question.covers(one.at) or not question.is_about(one.subject, one.app):
            return
        self._rows.append(
            (
                one.at,
                actor.removeprefix("operator:"),
                "configure audit" if one.kind == _CONFIGURED else one.text("action") or _ACTS.get(one.kind, one.kind),
                one.app or "",
                name_of(one.subject, question.keys),
                one.revision,
                one.text("code") or one.text("error_code"),
                _how(one) if one.kind == _CONFIGURED else one.text("reason"),
                one.entry.get("event_id") or "",
            )
        )

    def rows(self, cutoff: datetime | None) -> Iterable[Row]:
        """One for each act."""
        return in_order(self._rows)


def _how(one: Recorded) -> str:
    """With which key, where, and before which witnesses the log is kept from here on."""
    witnesses = one.details.get("witnesses")
    keys = [str(each.get("key")) for each in witnesses if isinstance(each, dict)] if isinstance(witnesses, list) else []
    return f"key {one.text('key')} in {one.text('dir')}, witnesses: {', '.join(keys) or 'none'}"


STOP_COLUMNS = (
    Column("stopped_at", "Stopped"),
    Column("app", "Application"),
    Column("person", "Person"),
    Column("stopped", "How"),
    Column("leaver", "Leaver"),
    Column("code", "Code"),
    Column("revision", "Revision"),
    Column("ended_at", "Ended"),
    Column("ended_by", "Ended by"),
    Column("seconds", "Seconds"),
    Column("operator", "Operator"),
    Column("reason", "Reason"),
)

_ENDS = {
    "command_applied": "applied",
    "account_verified": "applied",
    "command_retried": "tried again",
    "command_released": "released",
    "command_rejected": "rejected",
    "command_issued": "newer revision",
}


@dataclass(slots=True)
class _Stop:
    one: Recorded
    how: str
    leaver: bool
    ended: Recorded | None = None
    by: str = ""


def _acted_before(one: Recorded, other: Recorded) -> bool:
    """Whether an operator's entry is the older one: the relay publishes it, often after what came of it."""
    return (one.entry.get("actor") or "").startswith("operator:") and one.at < other.at


class Stops:
    """Accounts that were parked or held: from when, until when, and what ended it."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._states: dict[tuple[str, str], str] = {}
        self._open: dict[tuple[str, str], _Stop] = {}
        self._over: list[_Stop] = []
        self._last: dict[tuple[str, str], _Stop] = {}

    def take(self, one: Recorded) -> None:
        """The next entry."""
        subject, app = one.subject, one.app
        if subject is None or app is None or not self._question.is_about(subject, app):
            return
        key = subject, app
        if one.kind == "command_issued":
            self._states[key] = desired_state(one)
        if one.kind in ("command_parked", "command_held") and not was_rejected(one):
            self._end(key, one, "stopped again")
            leaver = one.details.get("leaver")
            state = desired_state(one) or self._states.get(key)
            known = leaver if isinstance(leaver, bool) else state != "active"
            self._open[key] = _Stop(one, one.kind.removeprefix("command_"), known)
        elif one.kind in _ENDS and not self._is_older(key, one):
            self._end(key, one, _ENDS[one.kind])
        elif one.kind == "operator_acted" and one.text("action") == "retry_parked":
            self._end(key, one, "retried by an operator")

    def _is_older(self, key: tuple[str, str], one: Recorded) -> bool:
        """Whether it is about an older revision than the one that was stopped, which came of it late."""
        stop = self._open.get(key)
        return stop is not None and None not in (stop.one.revision, one.revision) and one.revision < stop.one.revision

    def _end(self, key: tuple[str, str], one: Recorded, by: str) -> None:
        stop = self._open.get(key)
        if stop is not None and not _acted_before(one, stop.one):
            stop.ended, stop.by = one, by
            self._over.append(self._open.pop(key))
            self._last[key] = stop
        elif (last := self._last.get(key)) is not None and last.ended is not None and _acted_before(one, last.ended):
            last.ended, last.by = one, by

    def rows(self, cutoff: datetime | None) -> Iterable[Row]:
        """One for each time that an account was stopped."""
        return in_order(self._rows(cutoff))

    def _rows(self, cutoff: datetime | None) -> Iterator[Row]:
        question = self._question
        for stop in [*self._over, *self._open.values()]:
            one, ended = stop.one, stop.ended
            if not question.covers(one.at):
                continue
            until = ended.at if ended is not None else cutoff
            actor = (ended.entry.get("actor") or "") if ended is not None else ""
            yield (
                one.at,
                one.app or "",
                name_of(one.subject, question.keys),
                stop.how,
                "yes" if stop.leaver else "no",
                one.text("code"),
                one.revision,
                ended.at if ended is not None else None,
                stop.by or "open",
                None if until is None else round((until - one.at).total_seconds(), 3),
                actor.removeprefix("operator:") if actor.startswith("operator:") else "",
                ended.text("reason") if ended is not None else one.text("reason"),
            )
