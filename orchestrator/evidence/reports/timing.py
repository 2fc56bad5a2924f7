"""Leavers and joiners: how long it took from when access should have ended or begun to when it did."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from orchestrator.evidence.access import desired_state, was_rejected
from orchestrator.evidence.entries import Recorded, name_of
from orchestrator.evidence.reports.base import Question, Row, in_order

_DONE = ("command_applied", "account_verified")
_STOPPED = {"command_parked": "parked", "command_held": "held", "command_rejected": "rejected"}
_OPERATORS = ("operator_acted", "command_released", "command_rejected", "command_held")


@dataclass(slots=True)
class Journey:
    """One account on its way from having access to not having it, or the other way round."""

    subject: str
    app: str
    revision: int
    effective: datetime
    received: datetime
    issued: datetime
    event_id: str
    sent: datetime | None = None
    verified: datetime | None = None
    ended: datetime | None = None
    attempts: int = 0
    outcome: str = "open"
    code: str = ""
    owner: str = ""
    reason: str = ""
    held: bool = False
    """Whether it was decided and never issued yet."""

    @property
    def due(self) -> datetime:
        """From when it counts: nobody can act before the instant has come, or before hearing of it."""
        return max(self.effective, self.received)


class _Done(NamedTuple):
    """The newest success of an account. It may be read before the command that it carried out."""

    revision: int
    at: datetime
    sent: datetime | None
    verified: datetime
    worked: bool


class Journeys:
    """Follows the accounts whose desired state crosses between `active` and the rest, in one direction."""

    def __init__(self, question: Question, *, leaving: bool) -> None:
        self._question = question
        self._leaving = leaving
        self._desired: dict[tuple[str, str], tuple[int, str]] = {}
        self._received: dict[str, tuple[str | None, datetime]] = {}
        self._open: dict[tuple[str, str], Journey] = {}
        self._ended: list[Journey] = []
        self._last: dict[tuple[str, str], Journey] = {}
        self._done: dict[tuple[str, str], _Done] = {}

    def take(self, one: Recorded) -> None:
        """The next entry."""
        subject, app = one.subject, one.app
        if subject is None:
            return
        if one.kind == "event_received":
            self._received[subject] = (one.entry.get("event_id"), one.at)
        if app is None or not self._question.is_about(subject, app):
            return
        if one.kind == "command_issued":
            self._issued(subject, app, one)
            return
        if one.kind == "command_held":
            self._held(subject, app, one)
        if one.kind in _DONE:
            self._succeeded((subject, app), one)
        if journey := self._open.get((subject, app)):
            self._went_on(journey, one)
        elif (journey := self._last.get((subject, app))) and journey.revision == one.revision:
            _owned(journey, one)  # operators' entries are published by the relay, often after what came of them

    def _held(self, subject: str, app: str, one: Recorded) -> None:
        """The breaker holds back a leaver: time counts all the same."""
        key = subject, app
        revision, state = self._desired.get(key, (0, "absent"))
        crosses = state == "active" and desired_state(one) != "active"
        if self._leaving and crosses and one.revision > revision and key not in self._open:
            self._open[key] = self._begun(subject, app, one, held=True)

    def _issued(self, subject: str, app: str, one: Recorded) -> None:
        key = subject, app
        revision, before = self._desired.get(key, (0, "absent"))
        if one.revision <= revision:
            return
        state = desired_state(one)
        self._desired[key] = one.revision, state
        journey = self._open.get(key)
        if journey is not None and journey.held and state != "active":
            journey.held, journey.revision, journey.outcome = False, one.revision, "open"
            self._arrive(key)
            return
        last = self._last.get(key)
        if last is not None and last.held and last.revision == one.revision:
            last.held = False
            return
        if (before == "active") == (state == "active") and not (journey is not None and journey.held):
            return
        if journey is not None:  # turned back before it was there
            journey.outcome, journey.ended = "superseded", one.at
            self._ended.append(self._open.pop(key))
        if (state != "active") is self._leaving:
            self._open[key] = self._begun(subject, app, one)
            self._arrive(key)

    def _begun(self, subject: str, app: str, one: Recorded, *, held: bool = False) -> Journey:
        event_id, received = self._received.get(subject, (None, one.at))
        known = event_id == one.entry.get("event_id")
        return Journey(
            subject=subject,
            app=app,
            revision=one.revision,
            effective=one.instant("effective_at") or one.at,
            received=received if known else one.at,
            issued=one.at,
            event_id=one.entry.get("event_id") or "",
            held=held,
        )

    def _succeeded(self, key: tuple[str, str], one: Recorded) -> None:
        known = self._done.get(key)
        if known is None or (one.revision, one.at) > (known.revision, known.at):
            details = one.details
            worked = bool(details.get("calls") or one.names("groups_added") or one.names("groups_removed"))
            verified = one.instant("verified_at") or one.at
            self._done[key] = _Done(one.revision, one.at, one.instant("sent_at"), verified, worked)
        self._arrive(key)

    def _arrive(self, key: tuple[str, str]) -> None:
        """End the account's journey if a success of its revision, or of a newer one, is known."""
        journey, done = self._open.get(key), self._done.get(key)
        if journey is None or done is None or done.revision < journey.revision:
            return
        journey.outcome = "done" if done.worked else "nothing to do"
        journey.sent = journey.sent if journey.attempts else done.sent or journey.sent
        journey.verified, journey.ended, journey.code = done.verified, done.at, ""
        self._last[key] = self._open.pop(key)
        self._ended.append(journey)

    def _went_on(self, journey: Journey, one: Recorded) -> None:
        kind = one.kind
        if kind == "call_intended" and one.revision >= journey.revision and journey.sent is None:
            journey.sent = one.at
        elif kind in ("command_retried", "command_parked") and one.revision >= journey.revision:
            attempts = one.details.get("attempts")
            journey.attempts = attempts if isinstance(attempts, int) else journey.attempts + 1
            journey.code = one.text("code")
        if kind in _STOPPED and one.revision >= journey.revision:
            journey.outcome = "rejected" if was_rejected(one) else _STOPPED[kind]
        elif kind in ("command_released", "command_retried"):
            journey.outcome = "open"
        _owned(journey, one)

    def rows(self, cutoff: datetime | None) -> Iterable[Row]:
        """One for each crossing that was issued in the period."""
        return in_order(self._rows(cutoff))

    def _rows(self, cutoff: datetime | None) -> Iterator[Row]:
        question = self._question
        limit = question.limit.total_seconds()
        for one in [*self._ended, *self._open.values()]:
            if not question.covers(one.issued):
                continue
            end = one.verified or one.ended or cutoff
            seconds = None if end is None else max(0.0, round((end - one.due).total_seconds(), 3))
            yield (
                one.due,
                name_of(one.subject, question.keys),
                one.app,
                one.effective,
                one.received,
                one.sent,
                one.verified,
                seconds,
                _within(one, seconds, limit),
                one.outcome,
                one.attempts,
                one.code,
                one.owner,
                one.reason,
                one.revision,
                one.event_id,
            )


def _owned(journey: Journey, one: Recorded) -> None:
    """Note the operator who acted last on an account that did not go by itself."""
    actor = one.entry.get("actor") or ""
    if one.kind in _OPERATORS and actor.startswith("operator:"):
        journey.owner, journey.reason = actor.removeprefix("operator:"), one.text("reason") or one.text("action")


def _within(one: Journey, seconds: float | None, limit: float) -> str:
    if one.outcome == "superseded":
        return "superseded"
    if seconds is not None and seconds > limit:
        return "no"
    return "yes" if one.verified is not None else "open"
