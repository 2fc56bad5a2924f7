"""The demo played: nobody's name, address or number is in the audit log, and erasing somebody leaves it as it is."""

import csv
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from orchestrator.adapters.audit_log import read_entries
from orchestrator.demo.applications import APPLICATIONS
from orchestrator.demo.generate import generate
from orchestrator.sources.employees_csv import events

ROOT = Path(__file__).parents[2]
WORD = rb"(?<![0-9A-Za-z_-])%b(?![0-9A-Za-z_-])"


@dataclass(frozen=True, slots=True)
class Played:
    """A demo that has ended: its folder, and what nobody may find in its log."""

    folder: Path
    workers: set[str]
    names: set[str]

    def jml(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command."""
        command = [sys.executable, "-m", "orchestrator.cli", *arguments]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "JML_OPERATOR": "grace"}
        return subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=170, check=False
        )

    @property
    def log(self) -> dict[str, bytes]:
        """The audit log's files."""
        folder = self.folder / "state" / "audit"
        return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}

    @property
    def entries(self) -> list[bytes]:
        """The audit log's entries, as they were recorded."""
        return [entry for _, entry in read_entries(self.folder / "state" / "audit")]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The demo of sixty people, a third of whom have left."""
    folder = tmp_path_factory.mktemp("privacy")
    generate(folder / "export", 60, seed=5, rehire_share=0.1)
    told = [orjson.loads(one.data) for one in events(folder / "export")]
    names = {
        value
        for one in told
        for name, value in one.get("attributes", {}).items()
        if name in ("given_name", "family_name", "display_name", "user_name", "email") and len(value) > 3
    }
    apps = "".join(
        f'[apps.{one.name}]\nbase_url = "http://127.0.0.1:1/scim"\nattributes = {{ userName = "person.id" }}\n'
        for one in APPLICATIONS
    )
    (folder / "jml.toml").write_text(
        '[kafka]\nbootstrap = "127.0.0.1:1"\n[store]\nurl = "sqlite+aiosqlite:///state/jml.db"\n'
        f'[audit]\ndir = "state/audit"\n{apps}'
    )
    found = Played(folder, {one["worker_id"] for one in told}, names)
    done = found.jml("demo", "--json", "--employees", "export", "--state-dir", "state")
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["exact"] is True
    return found


def test_the_log_and_its_index_hold_nobodys_name_address_or_number(played: Played) -> None:
    with sqlite3.connect(played.folder / "state" / "jml.db") as database:
        rows = [str(row).encode() for row in database.execute("SELECT subject, app, kind, entry FROM audit_index")]
        stored = str(database.execute("SELECT id, record FROM person").fetchall()).encode()
    canaries = [one.encode() for one in sorted(played.workers | played.names)]
    assert len(canaries) > 200
    assert len(rows) == len(played.entries) > 1000
    places = {"index": b"\n".join(rows), "log": b"\n".join(played.entries), "files": b"\n".join(played.log.values())}
    for canary in canaries:
        pattern = re.compile(WORD % re.escape(canary), re.IGNORECASE)
        assert pattern.search(stored), f"{canary!r} is no canary: the store does not know it either"
        for place, content in places.items():
            found = pattern.search(content)
            assert not found, f"the {place} holds {canary!r}: {content[found.start() - 200 : found.end() + 50]!r}"


def test_after_an_erasure_nothing_of_the_person_can_be_read_and_the_log_is_the_same(played: Played) -> None:
    with sqlite3.connect(played.folder / "state" / "jml.db") as database:
        (leaver,) = database.execute("SELECT min(id) FROM person WHERE status = 'left'").fetchone()
        record = orjson.loads(database.execute("SELECT record FROM person WHERE id = ?", (leaver,)).fetchone()[0])
    (family_name,) = {one[3]["family_name"] for one in record["history"] if one[3].get("family_name")}
    before, told = played.log, played.jml("audit", "export", "--person", leaver, "--values")
    assert family_name in told.stdout

    refused = played.jml("person", "erase", leaver, "--reason", "request 118", "--yes")
    assert refused.returncode == 2
    assert "still there, with the person's data in it" in refused.stderr
    asked = played.jml("person", "erase", leaver, "--reason", "request 118", "--leave-accounts")
    assert (asked.returncode, "add --yes" in asked.stderr) == (2, True), "there is nobody to say yes"
    done = played.jml("person", "erase", leaver, "--reason", "request 118", "--yes", "--leave-accounts", "--json")
    assert done.returncode == 0, done.stderr
    outcome = orjson.loads(done.stdout)

    assert played.log == before
    verified = played.jml("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "nobody has the worker id" in played.jml("person", "show", leaver).stderr
    assert "nobody has the worker id" in played.jml("audit", "tail", "--person", leaver).stderr
    entries = played.jml("audit", "tail", "--person", outcome["subject"], "--limit", "999", "--values", "--json")
    assert len(orjson.loads(entries.stdout)) > 4
    assert all("values" not in one and "person_id" not in one for one in orjson.loads(entries.stdout))
    everything = played.jml("audit", "export", "--format", "csv", "--values").stdout
    rows = [row for row in csv.DictReader(everything.splitlines()) if row["subject"] == outcome["subject"]]
    assert {(row["person_id"], row["values"]) for row in rows} == {("", "")}
    again = played.jml("person", "erase", leaver, "--reason", "request 118", "--yes", "--json")
    assert (again.returncode, orjson.loads(again.stdout)) == (0, {"erased": False})
