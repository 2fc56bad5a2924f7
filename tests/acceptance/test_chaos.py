"""The chaos run for real: processes that are killed, and a judge that finds nothing wrong but with a mutant."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.chaos.fleet import can_fill_disks
from tests.conftest import KAFKA, POSTGRES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Path]:
    """Servers of our own: the names of our topics are fixed, others may use the shared ones, and these get hurt."""
    if not (KAFKA and POSTGRES):
        pytest.skip("needs a real Kafka and PostgreSQL: `make services-up` says what to export")
    folder = tmp_path / "services"
    command = [sys.executable, "-m", "tests.services"]
    try:
        subprocess.run([*command, "up", "--folder", str(folder)], cwd=ROOT, check=True, capture_output=True)
        yield folder / "services.toml"
    finally:
        subprocess.run([*command, "down", "--folder", str(folder)], cwd=ROOT, check=True)


def chaos(*arguments: str, seconds: float) -> tuple[int, Any]:
    """Run `jml chaos` to its end; returns its exit code and what it printed."""
    command = [sys.executable, "-m", "orchestrator.cli", "chaos", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.stdout, done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout)


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_short_run_breaks_no_promise(services: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    size = ("--seed", "11", "--people", "40", "--apps", "3", "--seconds", "25", "--no-rechecks")
    code, found = chaos("run", "--services", str(services), *size, "--report", str(report), seconds=400)
    assert found["violations"] == []
    assert code == 0
    assert found["duplicates_suppressed"] >= found["duplicates_sent"] > 0  # a redelivery is one more
    struck = {blow.partition(" ")[0] for blow in found["blows"]}
    assert struck == {"kill", "pause", "cut", "clock", *(["disk"] if can_fill_disks() else [])}
    around = {"kill broker", "kill database", "pause broker", "pause database", "cut database"}
    assert around <= found["blows"].keys(), "a run goes on until each of them was struck"
    assert len(found["faults"]) >= 8
    assert found["deprovision_troubled"]["from_received"]["measured"] > 0
    assert found["recovery"]
    assert found["command"].startswith("jml chaos run --kafka")
    assert json.loads((report / "report.json").read_text()) == found
    assert (report / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_mutant_in_real_processes_is_caught_and_its_scene_alone_is_not(services: Path) -> None:
    code, rows = chaos("mutants", "--services", str(services), "--only", "commit-first", seconds=400)
    mutant, control = rows
    assert "events_end_once" in mutant["caught_by"], mutant["violations"][:5]
    assert control["violations"] == []
    assert code == 0
