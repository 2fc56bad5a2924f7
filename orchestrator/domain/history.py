"""What was stated of a person over time, the same whatever the order in which it arrived.

Every statement has a place: the instant from which it is effective, then the instant at which it was stated, then
the event that stated it. The attributes at an instant are all statements effective by then, folded in that order,
so the newest effective statement of each attribute wins and a late arrival slips into its place.
"""

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Statement(NamedTuple):
    """Some attributes have these values from `effective` on; that is where `day` begins, if a day was stated."""

    effective: datetime
    stated: datetime
    event_id: str
    values: Mapping[str, Any]
    day: date | None = None

    @property
    def place(self) -> tuple[datetime, datetime, str]:
        """Where it stands among the others."""
        return self[:3]


def _place(statement: Statement) -> tuple[datetime, datetime, str]:
    return statement[:3]


class History(NamedTuple):
    """Statements in the order of their places."""

    statements: tuple[Statement, ...] = ()

    def state(self, statement: Statement, *, repeats: bool = False) -> "History":
        """The history with one more statement.

        A feed that `repeats` the whole record every night would grow it without end, so of a chain of equal statements
        at the end only the first (it says since when) and the last (late arrivals from before it lose) are kept.
        One that is still to come stays: something that arrives late may come before it and end with it.
        """
        statements = self.statements
        if not statements or statement.place > statements[-1].place:
            in_force = statement.effective <= statement.stated
            if (
                repeats
                and in_force
                and len(statements) > 1
                and statements[-1].values == statements[-2].values == statement.values
            ):
                return History((*statements[:-1], statement))
            return History((*statements, statement))
        placed = list(statements)
        insort(placed, statement, key=_place)
        return History(tuple(placed))

    def without(self, event_id: str) -> "History":
        """The history as if the event had never stated anything."""
        kept = tuple(one for one in self.statements if one.event_id != event_id)
        return self if len(kept) == len(self.statements) else History(kept)

    def moved(self, effective: Callable[[Statement], datetime]) -> "History":
        """The history with every statement at the instant that `effective` says."""
        return History(tuple(sorted((one._replace(effective=effective(one)) for one in self.statements), key=_place)))

    def at(self, now: datetime) -> dict[str, Any]:
        """The attributes in force at `now`."""
        attributes: dict[str, Any] = {}
        for statement in self.statements:
            if statement.effective > now:
                break
            attributes.update(statement.values)
        return attributes

    def after(self, now: datetime) -> Sequence[Statement]:
        """The statements that are not effective yet."""
        return [statement for statement in self.statements if statement.effective > now]


EARLIEST = datetime.min.replace(tzinfo=UTC)


class Stated(NamedTuple, Generic[T]):
    """A fact that is not effective-dated, such as a contract's end: the latest statement counts.

    `earlier` are the statements that it superseded, in their order: the last of them counts when this one is withdrawn.
    """

    value: T
    stated: datetime = EARLIEST
    event_id: str = ""
    earlier: tuple["Stated[T]", ...] = ()

    @property
    def is_stated(self) -> bool:
        """Whether anybody has stated it, so that it is no assumption of ours."""
        return (self.stated, self.event_id) > (EARLIEST, "")

    def newer(self, value: T, stated: datetime, event_id: str, *, repeats: bool = False) -> "Stated[T]":
        """The fact after one more statement; one that was stated earlier takes its place behind the latest.

        Of what a feed `repeats`, only the first and the last statement are kept, as in `History.state`.
        """
        known = self._all()
        fact = Stated(value, stated, event_id)
        if not known or (stated, event_id) > _when(known[-1]):
            if repeats and len(known) > 1 and known[-1].value == known[-2].value == value:
                known = known[:-1]
            return fact._replace(earlier=known)
        return _latest(sorted((*known, fact), key=_when))

    def or_newer(self, other: "Stated[T]") -> "Stated[T]":
        """Whichever was stated last."""
        return other if _when(other) > _when(self) else self

    def without(self, event_id: str, unstated: "Stated[T]") -> "Stated[T]":
        """The fact as if the event had never stated it; `unstated` when nobody else has."""
        known = [one for one in self._all() if one.event_id != event_id]
        return _latest(known) if known else unstated

    def _all(self) -> tuple["Stated[T]", ...]:
        return (*self.earlier, self._replace(earlier=())) if self.is_stated else ()


def _when(fact: Stated[Any]) -> tuple[datetime, str]:
    return fact.stated, fact.event_id


def _latest(known: Sequence[Stated[T]]) -> Stated[T]:
    return known[-1]._replace(earlier=tuple(known[:-1]))
