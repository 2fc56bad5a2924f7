"""The Employees CSV source: what it tells, that it tells it of any export of the shape, and how it complains."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orchestrator.sources
from orchestrator.demo.expectation import Expected, expected_accounts
from orchestrator.demo.generate import generate, main
from orchestrator.errors import UserError
from orchestrator.sources import sources
from orchestrator.sources.employees_csv import SOURCE, events
from schemas.changes import BY_TYPE
from schemas.envelope import Envelope, read_envelope

EXCERPT = Path(str(files("orchestrator.demo"))) / "employees"
OPEN = date(9999, 1, 1)

HEADERS = {
    "department.csv": "dept_no,dept_name",
    "dept_manager.csv": "emp_no,dept_no,from_date,to_date",
    "employee.csv": "emp_no,first_name,last_name,hire_date",
    "dept_emp.csv": "emp_no,dept_no,from_date,to_date",
    "title.csv": "emp_no,title,from_date,to_date",
}
DEPARTMENTS = ("d1,Sales", "d2,Research", "d3,Production")


def write(
    folder: Path,
    *,
    employees: Iterable[str] = (),
    departments: Iterable[str] = (),
    titles: Iterable[str] = (),
    managers: Iterable[str] = (),
) -> Path:
    """An export with three departments and these lines."""
    tables = zip(HEADERS.items(), (DEPARTMENTS, managers, employees, departments, titles), strict=True)
    for (name, header), lines in tables:
        (folder / name).write_text("\n".join((header, *lines, "")), encoding="utf-8")
    return folder


def told(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, day and data of all events."""
    return [(kind(event), str(event.time.date()), json.loads(event.data)) for event in events(folder)]


def kind(event: Envelope) -> str:
    return event.type.split(".")[2]


def places(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Like `told`, with only the attributes that change."""
    changing = ("department", "title", "manager_id")
    return [
        (what, day, {name: value for name, value in data.get("attributes", {}).items() if name in changing})
        for what, day, data in told(folder)
    ]


# One life.


def test_a_hire_states_who_it_is_and_where(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["0007,Zoë Ann,O'Brien-Łuk,1990-01-01"],
        departments=["7,d1,1990-01-01,9999-01-01"],
        titles=["7,Staff,1990-01-01,9999-01-01"],
        managers=["9,d1,1985-01-01,9999-01-01"],
    )
    (event,) = events(tmp_path)
    assert event == Envelope(
        id="employees:7:1990-01-01:joined",
        source=SOURCE,
        type="jml.worker.joined.v1",
        time=datetime(1990, 1, 1, tzinfo=UTC),
        subject="7",
        data=event.data,
    )
    assert json.loads(event.data) == {
        "worker_id": "7",
        "engagement_id": "7-1",
        "kind": "employee",
        "start_date": "1990-01-01",
        "attributes": {
            "given_name": "Zoë Ann",
            "family_name": "O'Brien-Łuk",
            "display_name": "Zoë Ann O'Brien-Łuk",
            "user_name": "zoeann.obrienuk.7@example.com",
            "email": "zoeann.obrienuk.7@example.com",
            "department": "Sales",
            "title": "Staff",
            "manager_id": "9",
        },
    }


def test_names_without_a_latin_letter_still_give_an_address_of_their_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,,محمد,1990-01-01", "2,,محمد,1990-01-01", f"3,{'x' * 400},{'y' * 400},1990-01-01"],
        departments=[f"{number},d1,1990-01-01,9999-01-01" for number in (1, 2, 3)],
    )
    addresses = [data["attributes"]["email"] for _, _, data in told(tmp_path)]
    assert addresses == ["1@example.com", "2@example.com", f"{'x' * 24}.{'y' * 24}.3@example.com"]
    assert validated(list(events(tmp_path)))


def test_before_the_first_department_there_is_none(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01"],
        departments=["1,d1,1991-01-01,9999-01-01"],
        titles=["1,Staff,1991-01-01,9999-01-01"],
    )
    assert places(tmp_path) == [
        ("joined", "1990-01-01", {}),
        ("moved", "1991-01-01", {"department": "Sales", "title": "Staff"}),
    ]


def test_changes_of_one_day_are_one_event_and_state_only_what_changed(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01"],
        departments=["1,d2,1995-01-01,9999-01-01", "1,d1,1990-01-01,1995-01-01"],
        titles=["1,Senior Staff,1995-01-01,9999-01-01", "1,Staff,1990-01-01,1995-01-01"],
        managers=["8,d1,1985-01-01,9999-01-01", "8,d2,1985-01-01,1995-01-01", "9,d2,1995-01-01,9999-01-01"],
    )
    assert places(tmp_path)[1:] == [
        ("moved", "1995-01-01", {"department": "Research", "title": "Senior Staff", "manager_id": "9"})
    ]


def test_a_new_manager_moves_the_people_of_the_department(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01", "3,C,D,1990-01-01", "5,E,F,1990-01-01"],
        departments=["1,d1,1990-01-01,9999-01-01", "3,d2,1990-01-01,9999-01-01", "5,d1,1990-01-01,1991-01-01"],
        managers=["8,d1,1985-01-01,1992-01-01", "9,d1,1992-01-01,1993-01-01"],
    )
    assert [(what, day, data) for what, day, data in places(tmp_path) if what == "moved"] == [
        ("moved", "1992-01-01", {"manager_id": "9"}),
        ("moved", "1993-01-02", {"manager_id": None}),  # nobody follows on the last day of the last row
    ]


def test_nobody_manages_themselves(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01"],
        departments=["1,d1,1990-01-01,9999-01-01"],
        managers=["8,d1,1985-01-01,1992-01-01", "1,d1,1992-01-01,9999-01-01"],
    )
    assert [attributes for _, _, attributes in places(tmp_path)] == [
        {"department": "Sales", "manager_id": "8"},
        {"manager_id": None},
    ]


def test_an_employee_leaves_by_an_event_on_the_last_day(tmp_path: Path) -> None:
    write(tmp_path, employees=["1,A,B,1990-01-01"], departments=["1,d1,1990-01-01,1995-06-30"])
    assert told(tmp_path)[1:] == [
        ("left", "1995-06-30", {"worker_id": "1", "engagement_id": "1-1", "last_day": "1995-06-30"})
    ]


def test_of_a_contractor_the_end_is_known_from_the_hire_on_and_nobody_says_it_again(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["2,A,B,1990-01-01"],
        departments=["2,d1,1990-01-01,1992-01-01", "2,d2,1994-01-01,1995-01-01"],
    )
    assert [
        (what, day, data["kind"], data["contract_end"], data["engagement_id"]) for what, day, data in told(tmp_path)
    ] == [
        ("joined", "1990-01-01", "contractor", "1992-01-01", "2-1"),
        ("rehired", "1994-01-01", "contractor", "1995-01-01", "2-2"),
    ]


def test_a_gap_is_a_leave_and_a_rehire_that_states_also_what_is_no_longer_known(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["2,A,B,1990-01-01"],
        departments=["2,d1,1990-01-01,1992-01-01", "2,d2,1994-01-01,9999-01-01"],
        titles=["2,Staff,1990-01-01,1992-01-01"],
        managers=["9,d1,1985-01-01,9999-01-01"],
    )
    (_, left, rehired) = told(tmp_path)
    assert left == ("left", "1992-01-01", {"worker_id": "2", "engagement_id": "2-1", "last_day": "1992-01-01"})
    assert rehired[:2] == ("rehired", "1994-01-01")
    assert rehired[2]["engagement_id"] == "2-2"
    attributes = rehired[2]["attributes"]
    assert (attributes["department"], attributes["title"], attributes["manager_id"]) == ("Research", None, None)


def test_a_move_on_the_last_day_comes_before_the_leave(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01"],
        departments=["1,d1,1990-01-01,1995-01-01", "1,d2,1995-01-01,1995-01-01"],
    )
    moved, left = list(events(tmp_path))[1:]
    assert (kind(moved), kind(left)) == ("moved", "left")
    assert left.time - moved.time == timedelta(microseconds=1)


def test_a_row_without_length_between_two_others_changes_nothing(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01"],
        departments=["1,d3,1995-01-01,1995-01-01", "1,d2,1995-01-01,9999-01-01", "1,d1,1990-01-01,1995-01-01"],
    )
    assert places(tmp_path)[1:] == [("moved", "1995-01-01", {"department": "Research"})]


def test_of_overlapping_rows_the_later_begun_counts_and_the_other_comes_back(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01"],
        departments=["1,d1,1990-01-01,9999-01-01", "1,d2,1992-01-01,1993-01-01"],
    )
    assert places(tmp_path)[1:] == [
        ("moved", "1992-01-01", {"department": "Research"}),
        ("moved", "1993-01-02", {"department": "Sales"}),
    ]


def test_what_was_before_the_hire_does_not_count(tmp_path: Path) -> None:
    write(
        tmp_path,
        employees=["1,A,B,1990-01-01", "3,C,D,1990-01-01"],
        departments=[
            "1,d1,1980-01-01,1981-01-01",
            "1,d2,1985-01-01,9999-01-01",
            "3,d1,1980-01-01,1981-01-01",
        ],
    )
    assert places(tmp_path) == [("joined", "1990-01-01", {"department": "Research"})]


def test_without_a_department_row_there_is_no_employment(tmp_path: Path) -> None:
    write(tmp_path, employees=["1,A,B,1990-01-01"], titles=["1,Staff,1990-01-01,9999-01-01"])
    assert told(tmp_path) == []


# All lives.


@dataclass
class Known:
    """What somebody knows of one worker who only hears the events."""

    engagements: dict[str, tuple[date, date]] = field(default_factory=dict)
    attributes: dict[str, str | None] = field(default_factory=dict)
    kind: str = "employee"

    def employed(self, day: date) -> bool:
        return any(start <= day <= end for start, end in self.engagements.values())


def hear(known: dict[str, Known], stream: Iterable[Envelope]) -> dict[str, Known]:
    """Fold events naively: the last statement counts, and a contract's end is an end."""
    for event in stream:
        data = json.loads(event.data)
        worker = known.setdefault(event.subject, Known())
        match kind(event):
            case "joined" | "rehired":
                end = date.fromisoformat(data.get("contract_end", str(OPEN)))
                worker.engagements[data["engagement_id"]] = (date.fromisoformat(data["start_date"]), end)
                worker.kind = data["kind"]
            case "left":
                start, _ = worker.engagements[data["engagement_id"]]
                worker.engagements[data["engagement_id"]] = (start, date.fromisoformat(data["last_day"]))
        worker.attributes |= data.get("attributes", {})
    return known


def in_the_end(known: dict[str, Known], expected: dict[str, Expected]) -> dict[str, Expected]:
    """What was heard, in the form of the expectation. Nobody heard of is not active; names are HR's alone."""
    ends: dict[str, Expected] = {}
    for id_, one in expected.items():
        worker = known.get(id_, Known())
        active = worker.employed(OPEN)
        ends[id_] = Expected(
            active=active,
            department=worker.attributes.get("department") if active else None,
            title=worker.attributes.get("title") if active else None,
            kind="contractor" if id_ in known and worker.kind == "contractor" else "employee",
            given_name=worker.attributes.get("given_name") or "" if id_ in known else one.given_name,
            family_name=worker.attributes.get("family_name") or "" if id_ in known else one.family_name,
        )
    return ends


def validated(stream: list[Envelope]) -> bool:
    """Every event is what its schema says, and survives the wire; ids are unique; order is (time, worker)."""
    for event in stream:
        assert read_envelope(event.data, event.headers()) == event
        change = BY_TYPE[event.type].model_validate_json(event.data)
        assert getattr(change, "worker_id", None) == event.subject
        if kind(event) == "moved":
            assert json.loads(event.data)["attributes"]
        for name in ("start_date", "effective", "last_day"):
            assert getattr(change, name, event.time.date()) == event.time.date()
    assert len({event.id for event in stream}) == len(stream)
    order = [(event.time, event.subject) for event in stream]
    assert all(before < after for before, after in pairwise(order))
    return True


def test_the_excerpt() -> None:
    stream = list(events(EXCERPT))
    assert validated(stream)
    assert stream == list(events(EXCERPT))
    expected = expected_accounts(EXCERPT)
    assert in_the_end(hear({}, stream), expected) == expected
    assert Counter(map(kind, stream)) == {"joined": 1000, "moved": 1662, "left": 104}
    contractors = {event.subject for event in stream if b'"contract_end"' in event.data}
    assert len(contractors) == 94
    assert not contractors & {event.subject for event in stream if kind(event) == "left"}


def test_ten_times_as_many_with_rehires(tmp_path: Path) -> None:
    generate(tmp_path, 10_000, seed=3, rehire_share=0.05)
    stream = list(events(tmp_path))
    assert validated(stream)
    expected = expected_accounts(tmp_path)
    assert in_the_end(hear({}, stream), expected) == expected
    assert 400 < Counter(map(kind, stream))["rehired"] < 600


DAY_ZERO = date(1990, 1, 1)
LAST = 40
days = st.integers(0, LAST)


@dataclass(frozen=True)
class Row:
    """A row of an effective-dated table: 0 days long or more, None for open."""

    value: str
    start: int
    length: int | None

    @property
    def first(self) -> date:
        return DAY_ZERO + timedelta(self.start)

    @property
    def last(self) -> date:
        return OPEN if self.length is None else self.first + timedelta(self.length)

    def line(self, *keys: str) -> str:
        return ",".join((*keys, self.value, str(self.first), str(self.last)))


def rows(*values: str) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.builds(Row, st.sampled_from(values), days, st.none() | st.integers(0, 12)), max_size=5)


@dataclass(frozen=True)
class Life:
    hire: int
    departments: list[Row]
    titles: list[Row]

    @property
    def hired(self) -> date:
        return DAY_ZERO + timedelta(self.hire)


NUMBERS = ("1", "2", "3", "4")
lives = st.builds(Life, days, rows("d1", "d2", "d3"), rows("Staff", "Engineer"))
exports = st.tuples(
    st.lists(lives, min_size=1, max_size=len(NUMBERS)),
    st.fixed_dictionaries({department: rows(*NUMBERS, "99") for department in ("d1", "d2", "d3")}),
)


def written(folder: Path, people: list[Life], managers: dict[str, list[Row]]) -> Path:
    numbered = list(zip(NUMBERS, people, strict=False))
    return write(
        folder,
        employees=[f"{number},Given{number},Family,{life.hired}" for number, life in numbered],
        departments=[row.line(number) for number, life in numbered for row in life.departments],
        titles=[row.line(number) for number, life in numbered for row in life.titles],
        managers=[
            f"{row.value},{department},{row.first},{row.last}" for department, held in managers.items() for row in held
        ],
    )


def holding(rows: list[Row], day: date) -> str | None:
    """The definition: of the rows that hold on the day the latest begun, then the longest, counts."""
    on_the_day = [(row.first, row.last, row.value) for row in rows if row.first <= day <= row.last]
    return max(on_the_day)[2] if on_the_day else None


def employed(life: Life, day: date) -> bool:
    """The definition: hired, and in a department or not yet in the first."""
    counting = [row for row in life.departments if row.last >= life.hired]
    if not counting or day < life.hired:
        return False
    return holding(counting, day) is not None or day < min(row.first for row in counting)


@settings(max_examples=300, deadline=None)
@given(exports)
def test_any_export_is_told_right_on_every_day_and_ends_as_expected(
    export: tuple[list[Life], dict[str, list[Row]]],
) -> None:
    people, managers = export
    with tempfile.TemporaryDirectory() as name:
        folder = written(Path(name), people, managers)
        stream = list(events(folder))
        expected = expected_accounts(folder)
    assert validated(stream)

    known: dict[str, Known] = {}
    for day in (DAY_ZERO + timedelta(offset) for offset in range(LAST + 15)):
        hear(known, (event for event in stream if event.time.date() == day))
        for number, life in zip(NUMBERS, people, strict=False):
            worker = known.get(number, Known())
            assert worker.employed(day) == employed(life, day), (number, day)
            if worker.employed(day):
                department = holding(life.departments, day)
                manager = holding(managers[department], day) if department else None
                assert worker.attributes.get("title") == holding(life.titles, day)
                assert worker.attributes.get("department") == dict(line.split(",") for line in DEPARTMENTS).get(
                    department or ""
                )
                assert worker.attributes.get("manager_id") == (manager if manager != number else None)

    ends = in_the_end(known, expected)
    for number, one in expected.items():
        if number in known:
            assert ends[number] == one
        else:
            assert not one.active


@settings(max_examples=50, deadline=None)
@given(exports, st.randoms(use_true_random=False))
def test_the_order_of_the_lines_does_not_matter(export: tuple[list[Life], dict[str, list[Row]]], random: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = written(Path(name), *export)
        stream = list(events(folder))
        for file in folder.iterdir():
            header, *lines = file.read_text().splitlines()
            random.shuffle(lines)
            file.write_text("\n".join((header, *lines)))
        assert list(events(folder)) == stream


# Complaints.

LIFE: dict[str, list[str]] = {
    "employees": ["1,A,B,1990-01-01"],
    "departments": ["1,d1,1990-01-01,9999-01-01"],
    "titles": ["1,Staff,1990-01-01,9999-01-01"],
    "managers": ["1,d1,1990-01-01,9999-01-01"],
}


@pytest.mark.parametrize(
    ("table", "lines", "complaint"),
    [
        ("employees", ["1,A,B,1990-02-30"], "employee.csv, line 2, column hire_date: '1990-02-30' is not a date"),
        ("employees", ["1,A,B,19900201"], "employee.csv, line 2, column hire_date: '19900201' is not a date"),
        ("employees", ["1,A,B,1990-W05-4"], "employee.csv, line 2, column hire_date: '1990-W05-4' is not a date"),
        ("employees", ["1,A,B,"], "employee.csv, line 2, column hire_date: '' is not a date"),
        ("employees", ["1,A,B"], "employee.csv, line 2: 3 columns, the header has 4"),
        ("employees", ["1,A,B,1990-01-01,x"], "employee.csv, line 2: 5 columns, the header has 4"),
        ("employees", ["1,A\0,B,1990-01-01"], "employee.csv, line 2, column first_name: holds a NUL character"),
        ("employees", [f"1,A,{'B' * 401},1990-01-01"], "employee.csv, line 2, column last_name: 401 characters"),
        ("employees", ["x1,A,B,1990-01-01"], "employee.csv, line 2, column emp_no: 'x1' is not an employee number"),
        ("employees", ["9" * 19 + ",A,B,1990-01-01"], "is not an employee number"),
        ("employees", LIFE["employees"] * 2, "employee.csv, line 3, column emp_no: 1 is there twice"),
        ("employees", ['1,"A,B,1990-01-01'], "employee.csv, after line 2: not CSV in UTF-8"),
        ("departments", ["1,d1,1990-01-02,1990-01-01"], "dept_emp.csv, line 2, column to_date: 1990-01-01 is before"),
        ("departments", ["1,d9,1990-01-01,1990-01-01"], "dept_emp.csv, line 2, column dept_no: 'd9' is not in"),
        ("departments", ["7,d1,1990-01-01,1990-01-01"], "dept_emp.csv, line 2, column emp_no: 7 is not in"),
        ("titles", ["1,,1990-01-01,1990-01-01"], "title.csv, line 2, column title: is empty"),
        ("titles", ["7,Staff,1990-01-01,1990-01-01"], "title.csv, line 2, column emp_no: 7 is not in employee.csv"),
        ("titles", ["1,Staff,1990-01-02,1990-01-01"], "title.csv, line 2, column to_date: 1990-01-01 is before"),
        ("managers", ["1,d9,1990-01-01,1990-01-01"], "dept_manager.csv, line 2, column dept_no: 'd9' is not in"),
        ("managers", ["1,d1,1990-01-02,1990-01-01"], "dept_manager.csv, line 2, column to_date: 1990-01-01 is before"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, table: str, lines: list[str], complaint: str) -> None:
    write(tmp_path, **LIFE | {table: lines})
    with pytest.raises(UserError, match=re.escape(complaint)):
        events(tmp_path)


@pytest.mark.parametrize("file", HEADERS)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    (write(tmp_path, **LIFE) / file).unlink()
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / file} cannot be read (No such file")):
        events(tmp_path)


@pytest.mark.parametrize(
    ("file", "column"), [(file, column) for file, header in HEADERS.items() for column in header.split(",")]
)
def test_a_missing_column_is_named(tmp_path: Path, file: str, column: str) -> None:
    path = write(tmp_path, **LIFE) / file
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(UserError, match=re.escape(f"{path}, line 1: the column {column} is missing")):
        events(tmp_path)


def test_an_empty_file_has_no_columns(tmp_path: Path) -> None:
    (write(tmp_path, **LIFE) / "title.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"title\.csv, line 1: the column emp_no is missing"):
        events(tmp_path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, **LIFE) / "employee.csv"
    path.write_bytes(path.read_bytes() + b"3,Andr\xe9,B,1990-01-01\n")
    with pytest.raises(UserError, match=r"employee\.csv, after line \d+: not CSV in UTF-8"):
        events(tmp_path)


def test_the_shape_is_by_name_and_tolerates_what_spreadsheets_do(tmp_path: Path) -> None:
    """Columns in another order, further ones, a byte order mark, CRLF, blank lines, spaces."""
    write(tmp_path, **LIFE)
    before = list(events(tmp_path))
    (tmp_path / "employee.csv").write_bytes(
        b"\xef\xbb\xbfgender, hire_date,last_name,first_name,emp_no\r\n\r\nF, 1990-01-01 ,B,A,1\r\n\r\n"
    )
    assert list(events(tmp_path)) == before


# The source among sources, and the exports that tests are made of.


def test_it_is_discovered() -> None:
    assert sources()["employees_csv"].events is events


def test_a_module_that_is_no_source_is_a_mistake_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator.sources, "import_module", lambda name: SimpleNamespace(__name__=name))
    sources.cache_clear()
    with pytest.raises(TypeError, match="has no NAME"):
        sources()


@pytest.fixture(autouse=True)
def _fresh_discovery() -> Iterator[None]:
    yield
    sources.cache_clear()


def test_generated_exports_are_repeatable_and_look_like_the_excerpt(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        main([str(tmp_path / name), "--people", "1000", "--seed", str(seed)])
    content = {name: {file: (tmp_path / name / file).read_text() for file in HEADERS} for name in ("a", "b", "c")}
    assert content["a"] == content["b"] != content["c"]
    for file in HEADERS:
        excerpt = (EXCERPT / file).read_text().splitlines()
        lines = content["a"][file].splitlines()
        assert lines[0] == excerpt[0]
        assert len(lines) == pytest.approx(len(excerpt), rel=0.1)
    kinds = Counter(map(kind, events(tmp_path / "a")))
    assert kinds["joined"] == 1000
    assert kinds["left"] == pytest.approx(104, rel=0.3)


def test_a_generated_export_has_somebody_in_it(tmp_path: Path) -> None:
    generate(tmp_path, 1, seed=1, rehire_share=1.0)
    assert validated(list(events(tmp_path)))
    with pytest.raises(ValueError, match="at least one"):
        generate(tmp_path, 0, seed=1)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--people", "0"])
