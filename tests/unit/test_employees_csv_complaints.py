"""What is wrong with an export of employees is named with its file, line and column."""

import re
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.sources.employees_csv import events
from tests.unit.employees_export import HEADERS, write

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
