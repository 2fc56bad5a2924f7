"""`jml demo` as a newcomer runs it: exact or not, said by a table, by one JSON object and by the exit code.

On generated exports, so that nothing is right only for the thousand people that come with the package.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.adapters.audit_log import read_entries
from orchestrator.demo.applications import APPLICATIONS, Application
from orchestrator.demo.expectation import Expected, expected_accounts
from orchestrator.demo.generate import generate
from orchestrator.demo.servers.asgi import BASE_PATH
from tests.acceptance.fleet import JML, ROOT, made
from tests.audit_log import problems_later

APPS = [application.name for application in APPLICATIONS]
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


def demo(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo in an empty folder."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*JML, "demo", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=170, check=False)


@pytest.fixture
def rehires(tmp_path: Path) -> Path:
    """An export in which every fifth person has left and come back."""
    generate(tmp_path / "export", 200, seed=3, rehire_share=0.2)
    return tmp_path / "export"


def test_it_is_exact_on_people_it_has_never_seen_and_keeps_everything(rehires: Path, tmp_path: Path) -> None:
    state, exported = tmp_path / "state", tmp_path / "accounts.json"
    done = demo("--json", "--employees", rehires, "--state-dir", state, "--export-accounts", exported, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    outcome = json.loads(line)
    assert outcome["exact"] is True
    assert outcome["people"] == 200
    assert outcome["timers_fired"] > 0
    assert (outcome["parked"], outcome["quarantined"]) == (0, 0)
    assert "Traceback" not in done.stderr

    expected = expected_accounts(rehires)
    assert outcome["applications"].keys() == set(APPS)
    for application in APPLICATIONS:
        told = outcome["applications"][application.name]
        assert told["active"] == told["expected_active"] == sum(map(application.has_access, expected.values()))
        assert told["differences"] == []

    assert (state / "jml.db").exists()
    entries = [entry for _, entry in read_entries(state / "audit")]
    assert len(entries) == outcome["audit_entries"]
    assert problems_later(entries) == [], "every call that was intended has an outcome, or is explained by another one"
    held = orjson.loads(exported.read_bytes())
    assert held.keys() == set(APPS)
    for application in APPLICATIONS:
        journal = [
            orjson.loads(entry) for entry in (state / f"{application.name}.journal.jsonl").read_bytes().splitlines()
        ]
        assert len(journal) == outcome["applications"][application.name]["calls"]
        _check_against_journal(held[application.name], journal)
        _check_against_csv(application, held[application.name], expected)


def _check_against_journal(held: list[dict[str, Any]], journal: list[dict[str, Any]]) -> None:
    """What was exported is what the requests alone lead to."""
    owners = {str(line["response"]["id"]): line["request"]["externalId"] for line in journal if made(line, "POST")}
    assert {str(user["id"]): user["externalId"] for user in held} == owners
    shown: dict[str, dict[str, Any]] = {id_: {} for id_ in owners}
    for line in journal:
        if made(line, "POST"):
            shown[str(line["response"]["id"])] = _shown(line["request"])
        elif made(line, "PATCH"):
            now = shown[line["path"].removeprefix(f"{BASE_PATH}/Users/")]
            for one in line["request"]["Operations"]:
                name = {f"{ENTERPRISE}:department": "department"}.get(one["path"], one["path"])
                if name in now:
                    now[name] = one.get("value")
    assert {str(user["id"]): _shown(user) for user in held} == shown


def _shown(user: dict[str, Any]) -> dict[str, Any]:
    return {
        "active": user["active"],
        "title": user.get("title") or None,
        "department": (user.get(ENTERPRISE) or {}).get("department"),
    }


def _check_against_csv(application: Application, held: list[dict[str, Any]], expected: dict[str, Expected]) -> None:
    active = {user["externalId"] for user in held if user["active"]}
    assert active == {worker for worker, person in expected.items() if application.has_access(person)}
    for user in held:
        person = expected[user["externalId"]]
        if user["active"]:
            assert (user.get("title"), user[ENTERPRISE]["department"]) == (person.title, person.department)


def test_without_json_there_is_a_table_for_people_and_nothing_is_left_behind(tmp_path: Path) -> None:
    generate(tmp_path / "export", 20, seed=11)
    done = demo("--employees", tmp_path / "export", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 people" in done.stdout
    assert done.stdout.rstrip().endswith("exact")
    assert not done.stdout.rstrip().endswith("NOT exact")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]


JUDGED_BY_ANOTHER_EXPORT = """
import sys
from pathlib import Path
from orchestrator.cli import main
from orchestrator.demo import play

honest, other = play.expected_accounts, Path(sys.argv[1])
play.expected_accounts = lambda _: honest(other)
main(sys.argv[2:])
"""


def test_an_account_that_is_not_what_it_should_be_is_found(tmp_path: Path) -> None:
    """The judge is given an export in which one person works elsewhere."""
    export, other = tmp_path / "export", tmp_path / "other"
    generate(export, 20, seed=11)
    worker = _moved_elsewhere(export, other)
    arguments = [str(other), "demo", "--json", "--employees", str(export)]
    command = [sys.executable, "-c", JUDGED_BY_ANOTHER_EXPORT, *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 1, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["exact"] is False
    found = [difference for told in outcome["applications"].values() for difference in told["differences"]]
    assert all(difference.startswith(f"{worker}: ") for difference in found)
    assert any("department is" in difference for difference in found)
    assert any("in groups" in difference for difference in found)
    assert "NOT exact" in done.stderr


def _moved_elsewhere(export: Path, other: Path) -> str:
    """A copy in which the department of one person who works there differs; returns the person."""
    other.mkdir()
    for file in export.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    with (export / "dept_emp.csv").open(newline="") as text:
        header, *rows = list(csv.reader(text))
    one = next(row for row in rows if row[3] == "9999-01-01")
    one[1] = "d001" if one[1] != "d001" else "d002"
    with (other / "dept_emp.csv").open("w", newline="") as text:
        csv.writer(text).writerows([header, *rows])
    return one[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--employees", "nowhere"), "nowhere"),
        (("--employees", "."), "department.csv"),
        (("--nonsense",), "--nonsense"),
        (("--state-dir",), "--state-dir"),
        (("surplus",), "surplus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_arguments_are_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done = demo(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("jml: ")]
    assert len(errors) == 1, done.stderr
    assert told in errors[0]
    assert "Traceback" not in done.stderr
