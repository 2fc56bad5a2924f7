"""The Employees CSV source: what it tells of one life."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import orchestrator.sources
from orchestrator.sources import sources
from orchestrator.sources.employees_csv import SOURCE, events
from schemas.envelope import Envelope
from tests.unit.employees_export import kind, told, validated, write


def places(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Like `told`, with only the attributes that change."""
    changing = ("department", "title", "manager_id")
    return [
        (what, day, {name: value for name, value in data.get("attributes", {}).items() if name in changing})
        for what, day, data in told(folder)
    ]


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


# The source among sources.


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
