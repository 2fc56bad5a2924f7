"""Whole exports of employees: the excerpt, generated ones, and whatever can be thought of.

Somebody who only hears the events knows everybody's place on every day.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.demo.expectation import Expected, expected_accounts
from orchestrator.demo.generate import generate, main
from orchestrator.sources.employees_csv import events
from schemas.envelope import Envelope
from tests.unit.employees_export import DEPARTMENTS, EXCERPT, HEADERS, OPEN, kind, validated, write


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
