"""The Employees sample database as CSV: effective-dated tables in, the working lives they tell out.

How the tables are read:

- A row holds on every day from `from_date` to `to_date`, both included; 9999-01-01 means open. Where several hold on
  the same day the latest begun counts, so the usual "to_date is the next from_date" is a clean change on that day.
- Department rows that touch or overlap are one engagement, a gap between them is a leave and a rehire. The first
  engagement begins with `hire_date`, before which nothing counts. Without a department row there is no employment.
- Whoever has an even number and no open department row is a contractor: `contract_end` is stated at the beginning of
  each engagement and nobody says when it is over. Everybody else leaves by an event on the last day.
- Managers are passed on as stated, even one who is hired later or who left: that is for the policy to judge.

The export is read and checked as a whole, since files need not be in order. Then the days are turned one by one, and
events exist only while somebody takes them: memory follows the size of the export, not the number of events.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from orchestrator.sources.base import Line, lines
from schemas.changes import MAX_TEXT, Change, WorkerJoined, WorkerLeft, WorkerMoved, WorkerRehired
from schemas.envelope import Envelope

NAME = "employees_csv"
SOURCE = "hr/employees-csv"
OPEN = date(9999, 1, 1)

_ONE_DAY = timedelta(days=1)
_MAIL_DOMAIN = "example.com"
_PERIOD = ("from_date", "to_date")
_MAX_DIGITS = 18
_MAX_NAME = 24
"""Characters of a name that go into the user name: the part of an address before the @ may have 64."""


def events(folder: Path) -> Iterator[Envelope]:
    """The working lives in `folder`, sorted by time, then worker id. Reads and checks all files before it returns."""
    export = _read(folder)
    return _replay(export)


# The files.


class Span(NamedTuple):
    """A row of an effective-dated table. The order of spans is their precedence: the greatest that holds counts."""

    start: date
    end: date
    value: str


@dataclass(frozen=True, slots=True)
class _Employee:
    given_name: str
    family_name: str
    hired: date


@dataclass(frozen=True, slots=True)
class _Export:
    """The five tables. Spans of a person or department are in the order of the file."""

    department_names: dict[str, str] = field(default_factory=dict)
    managers: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    employees: dict[str, _Employee] = field(default_factory=dict)
    departments: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    titles: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))


def _read(folder: Path) -> _Export:
    export = _Export()
    for line in lines(folder / "department.csv", "dept_no", "dept_name"):
        number = _new(line, "dept_no", line.name("dept_no"), export.department_names)
        export.department_names[number] = line.name("dept_name")
    for line in lines(folder / "employee.csv", "emp_no", "first_name", "last_name", "hire_date"):
        number = _new(line, "emp_no", _number(line), export.employees)
        export.employees[number] = _Employee(line.text("first_name"), line.text("last_name"), line.day("hire_date"))
    for line in lines(folder / "dept_manager.csv", "emp_no", "dept_no", *_PERIOD):
        export.managers[_department(line, export)].append(_span(line, _number(line)))
    for line in lines(folder / "dept_emp.csv", "emp_no", "dept_no", *_PERIOD):
        export.departments[_employee(line, export)].append(_span(line, _department(line, export)))
    for line in lines(folder / "title.csv", "emp_no", "title", *_PERIOD):
        export.titles[_employee(line, export)].append(_span(line, line.name("title")))
    return export


def _new(line: Line, column: str, key: str, table: Mapping[str, object]) -> str:
    if key in table:
        raise line.problem(column, f"{key} is there twice")
    return key


def _number(line: Line) -> str:
    """An employee number, without leading zeros: it is an identity, and its parity says who is a contractor."""
    text = line.name("emp_no")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise line.problem("emp_no", f"{text!r} is not an employee number")
    return text.lstrip("0") or "0"


def _employee(line: Line, export: _Export) -> str:
    number = _number(line)
    if number not in export.employees:
        raise line.problem("emp_no", f"{number} is not in employee.csv")
    return number


def _department(line: Line, export: _Export) -> str:
    number = line.name("dept_no")
    if number not in export.department_names:
        raise line.problem("dept_no", f"{number!r} is not in department.csv")
    return number


def _span(line: Line, value: str) -> Span:
    start, end = line.day("from_date"), line.day("to_date")
    if end < start:
        raise line.problem("to_date", f"{end} is before from_date {start}")
    return Span(start, min(end, OPEN), value)


# What happens on which day.


@dataclass(frozen=True, slots=True)
class _Engagement:
    number: int
    start: date
    end: date


@dataclass(slots=True)
class _Agenda:
    """What one day brings: new managers by department, all else by worker. None means that nothing follows."""

    managers: dict[str, str | None] = field(default_factory=dict)
    departments: dict[str, str | None] = field(default_factory=dict)
    titles: dict[str, str | None] = field(default_factory=dict)
    begins: dict[str, _Engagement] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)


def steps(spans: list[Span]) -> Iterator[tuple[date, str | None]]:
    """The value that counts, from each day on which it changes; None from the day on which none holds any more.

    Spans are pushed in the order of their precedence, so the top of the stack is the one that counts once
    those that are over have been taken off it.
    """
    waiting = sorted(spans, reverse=True)
    days = {span.start for span in spans} | {span.end + _ONE_DAY for span in spans if span.end < OPEN}
    begun: list[Span] = []
    held: str | None = None
    for day in sorted(days):
        while waiting and waiting[-1].start <= day:
            begun.append(waiting.pop())
        while begun and begun[-1].end < day:
            begun.pop()
        value = begun[-1].value if begun else None
        if value != held:
            yield day, value
            held = value


def _engagements(hired: date, spans: list[Span]) -> Iterator[_Engagement]:
    """The stretches without a gap. The first begins with the hire, what was over before it does not count."""
    number, start, end = 1, hired, date.min
    for span in sorted(span for span in spans if span.end >= hired):
        if span.start > end > date.min:
            yield _Engagement(number, start, end)
            number, start = number + 1, span.start
        end = max(end, span.end)
    if end > date.min:
        yield _Engagement(number, start, end)


def _agendas(export: _Export) -> dict[date, _Agenda]:
    days: dict[date, _Agenda] = defaultdict(_Agenda)
    for department, spans in export.managers.items():
        for day, manager in steps(spans):
            days[day].managers[department] = manager
    for worker, spans in export.departments.items():
        for engagement in _engagements(export.employees[worker].hired, spans):
            days[engagement.start].begins[worker] = engagement
            if engagement.end < OPEN:
                days[engagement.end].ends.add(worker)
        for day, own_department in steps(spans):
            days[day].departments[worker] = own_department
        for day, title in steps(export.titles.get(worker, [])):
            days[day].titles[worker] = title
    return days


# The days turned one by one.

_Statement = tuple[type[Change], dict[str, Any]]


class _Place(NamedTuple):
    """What HR states of somebody's place in the company, named like the attributes of a worker."""

    department: str | None
    title: str | None
    manager_id: str | None


_NOWHERE = _Place(None, None, None)


@dataclass(slots=True)
class _Worker:
    """Somebody with at least one department row, on the day the replay has come to."""

    id: str
    employee: _Employee
    contractor: bool
    department: str | None = None
    title: str | None = None
    engagement: _Engagement | None = None
    stated: _Place = _NOWHERE

    def engagement_id(self, engagement: _Engagement) -> str:
        return f"{self.id}-{engagement.number}"

    def begin(self, engagement: _Engagement, place: _Place) -> _Statement:
        """A hire states what is known. A rehire also states what is not, else it would still be as it was."""
        rehired = engagement.number > 1
        attributes = self._names() | {name: value for name, value in place._asdict().items() if value or rehired}
        data: dict[str, Any] = {
            "worker_id": self.id,
            "engagement_id": self.engagement_id(engagement),
            "kind": "contractor" if self.contractor else "employee",
            "start_date": engagement.start,
            "attributes": attributes,
        }
        if self.contractor:
            data["contract_end"] = engagement.end
        return (WorkerRehired if rehired else WorkerJoined), data

    def move(self, day: date, place: _Place) -> _Statement:
        """Only what changed: an attribute that is not stated stays as it is."""
        changed = {
            name: value
            for name, value, before in zip(place._fields, place, self.stated, strict=True)
            if value != before
        }
        return WorkerMoved, {"worker_id": self.id, "effective": day, "attributes": changed}

    def leave(self, engagement: _Engagement) -> _Statement:
        return WorkerLeft, {
            "worker_id": self.id,
            "engagement_id": self.engagement_id(engagement),
            "last_day": engagement.end,
        }

    def _names(self) -> dict[str, str | None]:
        given, family = self.employee.given_name, self.employee.family_name
        address = ".".join(filter(None, (_ascii(given), _ascii(family), self.id))) + f"@{_MAIL_DOMAIN}"
        return {
            "given_name": given or None,
            "family_name": family or None,
            "display_name": f"{given} {family}".strip()[:MAX_TEXT] or self.id,
            "user_name": address,
            "email": address,
        }


@lru_cache(maxsize=1 << 14)
def _ascii(name: str) -> str:
    """The letters and digits of a name as an address can carry them; nothing where it has none of them."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "".join(filter(str.isalnum, plain))[:_MAX_NAME]


@dataclass(slots=True)
class _Company:
    """Who works where under whom, on the day the replay has come to."""

    department_names: Mapping[str, str]
    workers: dict[str, _Worker]
    managers: dict[str, str | None] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def turn(self, day: date, agenda: _Agenda) -> Iterator[tuple[int, str, _Statement]]:
        """What HR states on this day: per worker a number that counts the statements, the worker, the statement."""
        self.managers.update(agenda.managers)
        concerned = {worker for department in agenda.managers for worker in self.members[department]}
        concerned |= agenda.departments.keys() | agenda.titles.keys() | agenda.begins.keys() | agenda.ends
        for id_ in concerned:
            for count, statement in enumerate(self._live(self.workers[id_], day, agenda)):
                yield count, id_, statement

    def _live(self, worker: _Worker, day: date, agenda: _Agenda) -> Iterator[_Statement]:
        """One worker's day: arrive or move, and then perhaps leave, for the last day is a day in the company."""
        if worker.id in agenda.departments:
            self._assign(worker, agenda.departments[worker.id])
        worker.title = agenda.titles.get(worker.id, worker.title)
        place = self._place(worker)
        if worker.id in agenda.begins:
            worker.engagement = agenda.begins[worker.id]
            yield worker.begin(worker.engagement, place)
            worker.stated = place
        elif worker.engagement is not None and place != worker.stated:
            yield worker.move(day, place)
            worker.stated = place
        if worker.id in agenda.ends and worker.engagement is not None:
            if not worker.contractor:
                yield worker.leave(worker.engagement)
            worker.engagement = None

    def _assign(self, worker: _Worker, department: str | None) -> None:
        if worker.department is not None:
            self.members[worker.department].discard(worker.id)
        if department is not None:
            self.members[department].add(worker.id)
        worker.department = department

    def _place(self, worker: _Worker) -> _Place:
        if worker.department is None:
            return _Place(None, worker.title, None)
        manager = self.managers.get(worker.department)
        return _Place(
            self.department_names[worker.department],
            worker.title,
            manager if manager != worker.id else None,  # nobody manages themselves
        )


def _replay(export: _Export) -> Iterator[Envelope]:
    agendas = _agendas(export)
    company = _Company(
        export.department_names,
        {id_: _worker(id_, export.employees[id_], spans) for id_, spans in export.departments.items()},
    )
    for day in sorted(agendas):
        for count, worker, (change, data) in sorted(company.turn(day, agendas.pop(day)), key=itemgetter(0, 1)):
            yield _envelope(day, count, worker, change, data)


def _worker(id_: str, employee: _Employee, spans: list[Span]) -> _Worker:
    ended = all(span.end < OPEN for span in spans)
    return _Worker(id_, employee, contractor=ended and int(id_) % 2 == 0)


def _envelope(day: date, count: int, worker: str, change: type[Change], data: dict[str, Any]) -> Envelope:
    """The event. `count` microseconds keep a worker's events of one day in order; the id follows from the export."""
    kind = change.TYPE.split(".")[2]
    return Envelope(
        id=f"employees:{worker}:{day}:{kind}",
        source=SOURCE,
        type=change.TYPE,
        time=datetime(day.year, day.month, day.day, microsecond=count, tzinfo=UTC),
        subject=worker,
        data=orjson.dumps(data),
    )
