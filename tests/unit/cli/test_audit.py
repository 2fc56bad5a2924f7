"""`jml audit`: the log as it is, filtered, as lines and as a table."""

import csv
import io
import shutil
from pathlib import Path

import orjson
import pytest

from orchestrator.adapters.audit_log import read_entries
from tests.forge import forge
from tests.unit.cli.conftest import entries
from tests.unit.cli.console import Jml

pytestmark = pytest.mark.usefixtures("audit_log")


def test_tail_shows_the_last_entries_oldest_first(jml: Jml) -> None:
    shown = jml("audit", "tail", "--limit", "2", "--json").json
    assert [(one["position"], one["kind"]) for one in shown] == [(2, "command_parked"), (3, "command_applied")]
    lines = jml("audit", "tail").out.splitlines()
    assert len(lines) == 4
    assert "command_parked" in lines[2]
    assert '{"code":"rejected"}' in lines[2]


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        (("--person", "4711"), [0, 1, 3]),
        (("--app", "crm"), [1, 2, 3]),
        (("--kind", "command_parked"), [2]),
        (("--person", "4711", "--app", "crm", "--kind", "command_issued"), [1]),
        (("--person", "a" * 32), [0, 1, 3]),
        (("--person", "f" * 32), []),
    ],
)
def test_tail_filters(jml: Jml, options: tuple[str, ...], positions: list[int]) -> None:
    assert [one["position"] for one in jml("audit", "tail", "--json", *options).json] == positions


def test_tail_reads_a_copy_of_the_log_without_any_configuration(jml: Jml, audit_log: Path, configured: Path) -> None:
    shutil.copytree(audit_log, "copy")
    configured.unlink()
    shown = jml("audit", "tail", "--log", "copy", "--json", "--values").json
    assert [one["position"] for one in shown] == [0, 1, 2, 3]
    assert not any("person_id" in one or "values" in one for one in shown)
    chosen = jml("audit", "tail", "--log", "copy", "--person", "b" * 32, "--json").json
    assert [one["position"] for one in chosen] == [2]
    jml("audit", "tail", "--log", "copy", "--person", "4711").refused("no worker ids such as '4711'")
    jml("audit", "tail", "--log", "missing").refused("no audit log in missing")


def test_an_export_is_byte_for_byte_what_was_recorded(jml: Jml, audit_log: Path) -> None:
    answer = jml("audit", "export")
    assert answer.out.encode() == b"".join(entry + b"\n" for _, entry in read_entries(audit_log))
    assert answer.err == "4 entries exported\n"


def test_an_export_can_be_a_part_of_time_and_go_to_a_file(jml: Jml, folder: Path) -> None:
    answer = jml(
        "audit", "export", "--since", "2026-03-04", "--until", "2026-03-05T08:15:00Z", "--output", "part.jsonl"
    )
    assert (answer.code, answer.out) == (0, "")
    (line,) = (folder / "part.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["kind"] == "command_issued"
    jml("audit", "export", "--output", "missing/part.jsonl").refused("missing/part.jsonl cannot be written")


def test_a_table_has_a_row_per_entry_and_no_formulas(jml: Jml) -> None:
    rows = list(csv.DictReader(io.StringIO(jml("audit", "export", "--format", "csv").out)))
    assert [row["position"] for row in rows] == ["0", "1", "2", "3"]
    assert (rows[2]["person_id"], rows[2]["subject"]) == ("'=4712", "b" * 32)
    assert rows[0]["values"] == ""
    assert orjson.loads(rows[1]["details"]) == {"kind": "create"}
    assert rows[0]["app"] == ""


def test_people_have_their_worker_ids_as_long_as_the_database_knows_them(jml: Jml, world: str) -> None:
    shown = jml("audit", "tail", "--json").json
    assert [one["person_id"] for one in shown] == ["4711", "4711", "=4712", "4711"]
    assert " 4711 " in jml("audit", "tail").out.splitlines()[0]
    jml("audit", "tail", "--person", "nobody").refused("nobody has the worker id 'nobody'", "jml person erase")


def test_values_are_opened_on_demand(jml: Jml) -> None:
    assert [one["values"] for one in jml("audit", "tail", "--values", "--json").json] == [{"title": "Analyst"}] * 4
    assert '{"title":"Analyst"}' in jml("audit", "tail", "--values").out
    rows = list(csv.DictReader(io.StringIO(jml("audit", "export", "--format", "csv", "--values").out)))
    assert orjson.loads(rows[0]["values"]) == {"title": "Analyst"}
    lines = jml("audit", "export", "--values").out.splitlines()
    assert [orjson.loads(one)["values"] for one in lines] == [{"title": "Analyst"}] * 4


def test_without_the_database_people_are_shown_by_their_subjects(jml: Jml, folder: Path) -> None:
    for path in (folder / "state").glob("jml.db*"):
        path.unlink()
    answer = jml("audit", "tail", "--values")
    assert answer.code == 0
    assert "a" * 32 in answer.out
    assert "Analyst" not in answer.out
    assert answer.err.count("people are shown by their subjects: the database") == 1


def test_without_a_log_it_says_who_writes_it(jml: Jml, audit_log: Path) -> None:
    shutil.rmtree(audit_log)
    jml("audit", "tail").refused("no audit log in state/audit", "auditor")


@pytest.mark.parametrize("damage", [b"nonsense", b"[]", b"{}", b'{"at":"yesterday"}'])
def test_a_damaged_entry_is_named_and_not_passed_over(jml: Jml, audit_log: Path, damage: bytes) -> None:
    forge(audit_log, entries(), journal=[damage])
    jml("audit", "tail").refused("entry 4 of the audit log is damaged")
