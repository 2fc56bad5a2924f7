"""Who should have an account when everything has been played, read from the CSV files and from nothing else.

The witness against source adapter and pipeline: it shares no code with them and is short enough to check by reading.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Expected:
    """Active exactly where a department row is open, and then with that department and the open title."""

    active: bool
    department: str | None
    title: str | None
    kind: Literal["employee", "contractor"]
    given_name: str
    family_name: str


def expected_accounts(folder: Path) -> dict[str, Expected]:
    """By worker id, everybody in employee.csv: also those who never had a department, who need no account at all."""
    names = {row["dept_no"]: row["dept_name"] for row in _rows(folder / "department.csv")}
    open_departments = _open(folder / "dept_emp.csv", "dept_no")
    open_titles = _open(folder / "title.csv", "title")
    worked = {row["emp_no"] for row in _rows(folder / "dept_emp.csv")}
    accounts: dict[str, Expected] = {}
    for person in _rows(folder / "employee.csv"):
        number = person["emp_no"]
        active = number in open_departments
        contractor = number in worked and not active and int(number) % 2 == 0
        accounts[str(int(number))] = Expected(
            active=active,
            department=names[open_departments[number]] if active else None,
            title=open_titles.get(number) if active else None,
            kind="contractor" if contractor else "employee",
            given_name=person["first_name"],
            family_name=person["last_name"],
        )
    return accounts


def _open(file: Path, column: str) -> dict[str, str]:
    """The value of each person's open row; of several the one that began last."""
    latest: dict[str, tuple[str, str]] = {}
    for row in _rows(file):
        if row["to_date"] >= "9999-01-01":
            latest[row["emp_no"]] = max(latest.get(row["emp_no"], ("", "")), (row["from_date"], row[column]))
    return {number: value for number, (_, value) in latest.items()}


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        for row in csv.DictReader(text):
            yield {name.strip(): value.strip() for name, value in row.items()}
