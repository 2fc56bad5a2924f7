"""Every role killed in the middle of its work, on a real Kafka and a real PostgreSQL: the end is exact all the same.

The witness is the applications: what they hold is read over HTTP, and their journals say what they were asked.
"""

import asyncio
import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.demo.applications import APPLICATIONS
from orchestrator.demo.expectation import expected_accounts
from orchestrator.demo.generate import generate
from tests.acceptance.fleet import GRACE_SECONDS, Fleet, fleet, jml, made, until
from tests.conftest import KAFKA
from tests.services import KafkaServer

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.postgres,
    pytest.mark.parametrize("database_url", [pytest.param("postgres", id="postgres")], indirect=True),
]

PEOPLE = 300
LEAVERS = 40
APPS = [application.name for application in APPLICATIONS]


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[str]:
    """A broker of our own: the names of our topics are fixed, and others may be using the shared one."""
    if not KAFKA:
        pytest.skip("needs a real Kafka: `make services-up` says what to export (JML_TEST_KAFKA)")
    with KafkaServer(tmp_path / "kafka") as server:
        yield server.bootstrap


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """What HR exports first."""
    folder = tmp_path / "before"
    generate(folder, PEOPLE, seed=7)
    return folder


@pytest.fixture
def after(before: Path, tmp_path: Path) -> Path:
    """What HR exports later: some of those who worked there have left. Contractors would have known it before."""
    folder = tmp_path / "after"
    folder.mkdir()
    for file in before.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with (before / "dept_emp.csv").open(newline="") as text:
        header, *rows = list(csv.reader(text))
    working = [row for row in rows if row[3] == "9999-01-01" and int(row[0]) % 2 and row[2] < "2002-01-01"]
    for row in working[:LEAVERS]:
        row[3] = "2002-07-31"
    with (folder / "dept_emp.csv").open("w", newline="") as text:
        csv.writer(text).writerows([header, *rows])
    assert _working(folder) == _working(before) - LEAVERS
    return folder


def _working(export: Path) -> int:
    return sum(person.active for person in expected_accounts(export).values())


def test_whoever_dies_nothing_is_lost_and_nothing_is_done_twice(
    kafka: str, database_url: str, before: Path, after: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with fleet(state, kafka=kafka, database=database_url, latency=0.03) as running:
        resolver, other_resolver = running.start("resolver", 1), running.start("resolver", 2)
        connector, other_connector = running.start("connector", 1), running.start("connector", 2)
        scheduler, relay, auditor = (running.start(role) for role in ("scheduler", "relay", "auditor"))

        jml("hr", "import", before, cwd=state)
        until(lambda: running.created("directory") >= 20, seconds=40, what="the first accounts")
        for worker in (resolver, connector, auditor):
            worker.kill()
            worker.start()
        jml("hr", "import", before, cwd=state)  # once more, as an anxious operator does
        until(lambda: running.created("directory") >= 120, seconds=40, what="half of the accounts")
        for worker in (relay, scheduler, other_connector):
            worker.kill()
            worker.start()
        assert other_resolver.stop() == 0
        other_resolver.start()
        _until_exact(running, before)

        jml("hr", "import", after, cwd=state)
        until(lambda: len(_deactivated(running, "payroll")) >= LEAVERS // 4, seconds=40, what="the first leavers")
        connector.kill()
        other_resolver.kill()
        assert other_connector.stop() == 0, "within the grace, in mid-run"
        for worker in (connector, other_resolver, other_connector):
            worker.start()
        _until_exact(running, after)

        until(lambda: _is_complete(running), seconds=60, what="a complete audit log", every=0.5)
        for worker in running.workers:
            worker.ask_to_stop()
        assert {(worker.role, worker.exit_code()) for worker in running.workers} == {
            (worker.role, 0) for worker in running.workers
        }
        _check_audit(running)
        _check_journals(running)
        jml("audit", "verify", cwd=state)
    for log in state.glob("*.log"):
        assert "Traceback" not in log.read_text(), log.name


def _until_exact(running: Fleet, export: Path) -> None:
    until(
        lambda: not asyncio.run(running.differences(export)),
        seconds=60 + GRACE_SECONDS,
        what=f"the end state of {export.name}: {running.status()}",
        every=0.5,
    )


def _deactivated(running: Fleet, app: str) -> set[str]:
    """Ids of accounts that a PATCH has deactivated."""
    return {
        line["path"].rpartition("/")[2]
        for line in running.journal(app)
        if made(line, "PATCH")
        and any(one.get("path") == "active" and one["value"] is False for one in line["request"]["Operations"])
    }


def _is_complete(running: Fleet) -> bool:
    """Whether everything has been published and every writer's numbers run from 1 without a gap."""
    numbers: dict[tuple[str, int], set[int]] = defaultdict(set)
    for entry in running.audit():
        numbers[entry["writer"], entry["epoch"]].add(entry["sequence"])
    gapless = all(found == set(range(1, len(found) + 1)) for found in numbers.values())
    return gapless and not _unended(running) and running.status()["outbox"]["segments"] == 0


def _ends(running: Fleet) -> Counter[tuple[str, str, int]]:
    return Counter(
        (entry["subject"], entry["app"], entry["revision"])
        for entry in running.audit()
        if entry["kind"] in ("command_applied", "command_superseded")
    )


def _unended(running: Fleet) -> set[tuple[str, str, int]]:
    issued = {
        (entry["subject"], entry["app"], entry["revision"])
        for entry in running.audit()
        if entry["kind"] == "command_issued"
    }
    return issued - _ends(running).keys()


def _check_audit(running: Fleet) -> None:
    """No entry twice, every command ended once, nobody parked."""
    entries = running.audit()
    ids = [entry["id"] for entry in entries]
    assert len(ids) == len(set(ids))
    assert [end for end, count in _ends(running).items() if count > 1] == []
    assert [entry for entry in entries if entry["kind"] == "command_parked"] == []
    assert [entry for entry in entries if entry["kind"] == "event_quarantined"] == []


def _check_journals(running: Fleet) -> None:
    """What the log says was applied is what the applications were asked and answered."""
    people = running.people()
    for app in APPS:
        journal = running.journal(app)
        created = Counter(line["request"]["externalId"] for line in journal if made(line, "POST"))
        assert [worker for worker, count in created.items() if count > 1] == [], f"{app}: created twice"
        # By revision: what a killed connector left in the outbox is published after what its heir has done since.
        applied: dict[str, str] = {}
        for entry in sorted(running.audit(), key=lambda entry: entry.get("revision") or 0):
            if entry.get("app") == app and entry["kind"] in ("command_applied", "account_verified"):
                applied[people[entry["subject"]]] = entry["details"]["state"]
        assert created.keys() <= applied.keys()
        holds = _replayed(journal)
        assert {worker: applied[worker] == "active" for worker in holds} == holds, app
        assert {worker for worker, state in applied.items() if state == "active"} <= holds.keys()


def _replayed(journal: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether each account is active, by worker id, from the requests alone."""
    owners: dict[str, str] = {}
    active: dict[str, bool] = {}
    for line in journal:
        if made(line, "POST"):
            worker = line["request"]["externalId"]
            owners[str(line["response"]["id"])] = worker
            active[worker] = line["request"]["active"]
        elif made(line, "PATCH"):
            for one in line["request"]["Operations"]:
                if one.get("path") == "active":
                    active[owners[line["path"].rpartition("/")[2]]] = one["value"]
    return active
