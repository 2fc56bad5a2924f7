"""Exports of the shape of the Employees sample database in any size, to try what 1,000 people cannot show.

    python -m orchestrator.demo.generate DIR --people 10000 --seed 1

The mix is that of the excerpt beside this module: half of the people are hired before their first department begins,
one in ten changes the department, just under half are promoted once, one in five has left. The excerpt also lends its
names, departments and the days on which departments changed hands. `rehire_share` of the people leave and come back.
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import NamedTuple

FIRST_NUMBER = 10001
OPEN = date(9999, 1, 1)
HIRES = (date(1985, 2, 1), date(1999, 10, 31))
TODAY = date(2002, 8, 1)
LATEST_BEGIN = date(2002, 4, 1)

LATE_DEPARTMENT, SECOND_DEPARTMENT, PROMOTED, LEFT = 0.5, 0.1, 0.47, 0.2
LADDERS = {
    ("Staff", "Senior Staff"): 0.44,
    ("Engineer", "Senior Engineer"): 0.45,
    ("Assistant Engineer", "Engineer"): 0.05,
    ("Technique Leader", "Technique Leader"): 0.06,
}
DEPARTMENTS = {
    "d001": 46, "d002": 69, "d003": 54, "d004": 248, "d005": 289, "d006": 59, "d007": 183, "d008": 77, "d009": 78,
}  # fmt: skip


class Row(NamedTuple):
    """A row of an effective-dated table, without the person."""

    value: str
    start: date
    end: date


class Life(NamedTuple):
    """What the tables say of one person."""

    hired: date
    departments: list[Row]
    titles: list[Row]


def generate(folder: Path, people: int, seed: int, *, rehire_share: float = 0.0) -> None:
    """Write the five tables. The same arguments give the same files; memory does not grow with `people`."""
    if people < 1:
        raise ValueError("an export needs at least one person")
    random = Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = _excerpt("employee.csv")
    first_names, last_names = [row["first_name"] for row in names], [row["last_name"] for row in names]

    _write(folder / "department.csv", ("dept_no", "dept_name"), (row.values() for row in _excerpt("department.csv")))
    _write(
        folder / "dept_manager.csv",
        ("emp_no", "dept_no", "from_date", "to_date"),
        (
            (FIRST_NUMBER + random.randrange(people), row["dept_no"], row["from_date"], row["to_date"])
            for row in _excerpt("dept_manager.csv")
        ),
    )
    with (
        (folder / "employee.csv").open("w", encoding="utf-8", newline="") as employee_file,
        (folder / "dept_emp.csv").open("w", encoding="utf-8", newline="") as department_file,
        (folder / "title.csv").open("w", encoding="utf-8", newline="") as title_file,
    ):
        employees = csv.writer(employee_file, lineterminator="\n")
        departments = csv.writer(department_file, lineterminator="\n")
        titles = csv.writer(title_file, lineterminator="\n")
        employees.writerow(("emp_no", "first_name", "last_name", "hire_date"))
        departments.writerow(("emp_no", "dept_no", "from_date", "to_date"))
        titles.writerow(("emp_no", "title", "from_date", "to_date"))
        for number in range(FIRST_NUMBER, FIRST_NUMBER + people):
            life = _life(random, rehired=random.random() < rehire_share)
            employees.writerow((number, random.choice(first_names), random.choice(last_names), life.hired))
            departments.writerows((number, *row) for row in sorted(life.departments))  # by key, like the original
            titles.writerows((number, *row) for row in sorted(life.titles))


def _life(random: Random, *, rehired: bool) -> Life:
    hired = _day(random, *HIRES)
    begin = _day(random, hired, LATEST_BEGIN) if random.random() < LATE_DEPARTMENT else hired
    end = _day(random, begin, TODAY) if random.random() < LEFT else OPEN
    until = min(end, TODAY)
    first, second = _two_departments(random)
    junior, senior = random.choices(list(LADDERS), list(LADDERS.values()))[0]
    if rehired and (until - begin).days > 2:
        left = _day(random, begin, until - timedelta(days=2))
        back = _day(random, left + timedelta(days=1), until)
        return Life(
            hired,
            [Row(first, begin, left), Row(second, back, end)],
            [Row(junior, begin, left), Row(senior, back, end)],
        )
    return Life(
        hired,
        _in_two(random, first, second, begin, end) if random.random() < SECOND_DEPARTMENT else [Row(first, begin, end)],
        _in_two(random, junior, senior, begin, end)
        if random.random() < PROMOTED and junior != senior
        else [Row(junior, begin, end)],
    )


def _in_two(random: Random, before: str, after: str, begin: date, end: date) -> list[Row]:
    """Two rows that meet on a day in between; where there is none, the later one alone."""
    until = min(end, TODAY)
    if (until - begin).days < 2:
        return [Row(after, begin, end)]
    change = _day(random, begin + timedelta(days=1), until - timedelta(days=1))
    return [Row(before, begin, change), Row(after, change, end)]


def _two_departments(random: Random) -> tuple[str, str]:
    first = random.choices(list(DEPARTMENTS), list(DEPARTMENTS.values()))[0]
    return first, random.choice([number for number in DEPARTMENTS if number != first])


def _day(random: Random, first: date, last: date) -> date:
    return first + timedelta(days=random.randint(0, (last - first).days))


def _excerpt(name: str) -> list[dict[str, str]]:
    text = files("orchestrator.demo").joinpath("employees", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _write(file: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.demo.generate", description="Write an HR export.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rehire-share", type=float, default=0.0, help="share of people who leave and come back")
    asked = parser.parse_args(arguments)
    if asked.people < 1:
        parser.error("--people must be at least 1")
    generate(asked.folder, asked.people, asked.seed, rehire_share=asked.rehire_share)


if __name__ == "__main__":
    main()
