"""Fixed-term contracts: when each ends, and every time that changed, with the reason."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestrator.evidence.entries import SEALED, Recorded, name_of
from orchestrator.evidence.reports.base import Column, Question, Row, in_order

COLUMNS = (
    Column("recorded_at", "Recorded"),
    Column("person", "Person"),
    Column("change", "Change"),
    Column("end_before", "End before"),
    Column("end_after", "End after"),
    Column("stated_at", "Stated"),
    Column("source", "Stated by"),
    Column("reason", "Reason"),
    Column("event_id", "Event"),
)

_TIMER = "contract_end"
_CHANGED = "jml.worker.contract_changed.v1"


@dataclass(slots=True)
class _Statement:
    """One event, until the next one of the same person."""

    one: Recorded
    cancelled: datetime | None = None
    set: datetime | None = None
    fired: datetime | None = None


class Contractors:
    """The end of a contract is a timer: what sets, moves or cancels one changes the contract."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._ends: dict[str, datetime] = {}
        self._statements: dict[str, _Statement] = {}
        self._rows: list[Row] = []

    def take(self, one: Recorded) -> None:
        """The next entry."""
        subject = one.subject
        if subject is None or not self._question.is_about(subject, None):
            return
        if one.kind == "event_received":
            self._close(subject)
            self._statements[subject] = _Statement(one)
        elif one.details.get("timer") == _TIMER:
            if one.kind == "timer_fired":
                self._fired(subject, one)
                return
            statement = self._statements.get(subject)
            if statement is None or statement.one.entry.get("event_id") != one.entry.get("event_id"):
                self._close(subject)
                statement = self._statements[subject] = _Statement(one)
            if one.kind == "timer_set":
                statement.set = one.instant("due")
            elif one.kind == "timer_cancelled":
                statement.cancelled = one.instant("due")

    def _fired(self, subject: str, one: Recorded) -> None:
        self._close(subject)
        self._ends.pop(subject, None)
        if self._question.covers(one.at):
            self._add(subject, one, "ended", one.instant("due"), None)

    def _close(self, subject: str) -> None:
        statement = self._statements.pop(subject, None)
        if statement is None:
            return
        changed = statement.one.text("type") == _CHANGED
        if statement.set is None and statement.cancelled is None and not changed:
            return
        before = statement.cancelled or self._ends.get(subject)
        after = statement.set if statement.set is not None else None if statement.cancelled else before
        if after is None:
            self._ends.pop(subject, None)
        else:
            self._ends[subject] = after
        if self._question.covers(statement.one.at):
            self._add(subject, statement.one, _change(before, after, changed=changed), before, after)

    def _add(self, subject: str, one: Recorded, change: str, before: datetime | None, after: datetime | None) -> None:
        name = name_of(subject, self._question.keys)
        stated_at = one.instant("stated_at")
        event_id = one.entry.get("event_id") or ""
        actor = one.entry.get("actor") or ""
        self._rows.append((one.at, name, change, before, after, stated_at, actor, self._reason(one), event_id))

    def _reason(self, one: Recorded) -> str:
        """HR's own words, which may say anything of a person: sealed like every personal value."""
        if not one.entry.get("sealed"):
            return one.text("reason")
        stated = self._question.keys.open(one.entry).get("stated") if self._question.values else None
        return str(stated.get("reason") or "") if isinstance(stated, Mapping) else SEALED

    def rows(self, cutoff: datetime | None) -> Iterable[Row]:
        """One for each change of a contract's end."""
        for subject in list(self._statements):
            self._close(subject)
        return in_order(self._rows)


def _change(before: datetime | None, after: datetime | None, *, changed: bool) -> str:
    if before is None:
        return "fixed term" if after is not None else "changed"
    if after is None:
        return "made permanent" if changed else "end replaced"
    if after > before:
        return "extended"
    return "shortened" if after < before else "changed"
