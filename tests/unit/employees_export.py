"""Exports of employees for tests, and what their events tell."""

import json
from collections.abc import Iterable
from datetime import date
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator.sources.employees_csv import events
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
