"""The expectation is the witness of the demo, so it is tested on cases that a person can check by reading."""

from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from orchestrator.demo.expectation import Expected, expected_accounts

EXCERPT = Path(str(files("orchestrator.demo"))) / "employees"

EXPORT = {
    "department.csv": "dept_no,dept_name\nd1,Sales\nd2,Research\n",
    "dept_manager.csv": "emp_no,dept_no,from_date,to_date\n",
    "employee.csv": "emp_no,first_name,last_name,hire_date\n"
    "1,Ada,Open,1990-01-01\n"
    "2,Bo,Ended,1990-01-01\n"
    "3,Cy,Ended,1990-01-01\n"
    "4,Di,Nowhere,1990-01-01\n"
    "5,Ed,Untitled,1990-01-01\n"
    "6,Flo,Twice,1990-01-01\n",
    "dept_emp.csv": "emp_no,dept_no,from_date,to_date\n"
    "1,d2,1995-01-01,9999-01-01\n"
    "1,d1,1990-01-01,1995-01-01\n"
    "2,d1,1990-01-01,1995-01-01\n"
    "3,d1,1990-01-01,1995-01-01\n"
    "5,d1,1990-01-01,9999-01-01\n"
    "6,d2,1996-01-01,9999-01-01\n"
    "6,d1,1990-01-01,9999-01-01\n",
    "title.csv": "emp_no,title,from_date,to_date\n"
    "1,Engineer,1990-01-01,1992-01-01\n"
    "1,Senior Engineer,1992-01-01,9999-01-01\n"
    "2,Staff,1990-01-01,9999-01-01\n"
    "5,Staff,1990-01-01,1991-01-01\n"
    "6,Staff,1990-01-01,9999-01-01\n",
}


@pytest.fixture
def accounts(tmp_path: Path) -> dict[str, Expected]:
    for name, text in EXPORT.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return expected_accounts(tmp_path)


def test_an_open_row_is_an_account_with_its_department_and_the_open_title(accounts: dict[str, Expected]) -> None:
    assert accounts["1"] == Expected(True, "Research", "Senior Engineer", "employee", "Ada", "Open")


def test_whoever_ended_is_inactive_and_a_contractor_where_the_number_is_even(accounts: dict[str, Expected]) -> None:
    assert accounts["2"] == Expected(False, None, None, "contractor", "Bo", "Ended")
    assert accounts["3"] == Expected(False, None, None, "employee", "Cy", "Ended")


def test_nobody_is_a_contractor_without_an_employment_that_ended(accounts: dict[str, Expected]) -> None:
    assert accounts["4"] == Expected(False, None, None, "employee", "Di", "Nowhere")


def test_a_title_that_ended_is_no_title(accounts: dict[str, Expected]) -> None:
    assert accounts["5"].title is None


def test_of_two_open_rows_the_later_one_counts(accounts: dict[str, Expected]) -> None:
    assert accounts["6"].department == "Research"


def test_the_excerpt() -> None:
    accounts = expected_accounts(EXCERPT)
    assert len(accounts) == 1000
    assert Counter((one.active, one.kind) for one in accounts.values()) == {
        (True, "employee"): 802,
        (False, "employee"): 104,
        (False, "contractor"): 94,
    }
    assert accounts["10001"] == Expected(True, "Development", "Senior Engineer", "employee", "Georgi", "Facello")
