"""Runs `jml` inside the test's process, in an empty folder, with a configuration that reaches nothing by accident."""

import asyncio
import io
import shutil
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import orjson
import pytest

from orchestrator.adapters.sql.auditing import SqlAuditIndex
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.cli import run
from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.history import History, Stated, Statement
from orchestrator.domain.person import Decision, Engagement, Person
from orchestrator.domain.sealing import Subject, seal
from orchestrator.ports import ApplicationHealth, ProgressUpdate, Quarantined, ResolveChanges, Timer
from tests.forge import forge
from tests.unit.cli.console import NOBODY, NOW, Jml, Result

CONFIG = f"""\
[kafka]
bootstrap = "{NOBODY}"

[store]
url = "sqlite+aiosqlite:///state/jml.db"

[apps.crm]
base_url = "http://{NOBODY}/scim/v2"
attributes = {{ userName = "person.user_name" }}

[apps.wiki]
base_url = "http://{NOBODY}/scim/v2"
attributes = {{ userName = "person.user_name" }}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    for name in ("JML_CONFIG", "JML_OPERATOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class _Terminal(io.TextIOWrapper):
    """Standard input where somebody sits who can be asked."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def jml(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Jml:
    """Runs one command."""

    def call(*arguments: object, stdin: bytes = b"", terminal: bool = False) -> Result:
        monkeypatch.setattr(sys, "stdin", (_Terminal if terminal else io.TextIOWrapper)(io.BytesIO(stdin)))
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def configured(folder: Path) -> Path:
    """A `jml.toml` with a SQLite store that does not exist yet, an absent Kafka, and two applications."""
    path = folder / "jml.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def migrated(configured: Path, migrated_file: Path) -> str:
    """The URL of the configured store, migrated and empty."""
    return _store(configured, migrated_file)


@pytest.fixture
def world(configured: Path, populated_file: Path) -> str:
    """Three people: one is well, one could not be created, one has left and could not be closed."""
    return _store(configured, populated_file)


def _store(configured: Path, file: Path) -> str:
    path = configured.parent / "state" / "jml.db"
    path.parent.mkdir()
    shutil.copy(file, path)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(scope="session")
def populated_file(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the three people, to be copied."""
    path = tmp_path_factory.mktemp("populated") / "jml.db"
    shutil.copy(migrated_file, path)
    asyncio.run(_populate(f"sqlite+aiosqlite:///{path}"))
    return path


async def _populate(url: str) -> None:
    database = Database(url)
    async with SqlResolveStore(database).transaction() as transaction:
        await transaction.load([])
        await transaction.add_subjects(list(SUBJECTS.values()), now=NOW)
        await transaction.save(_changes(), now=NOW)
    store = SqlConvergeStore(database)
    done = Progress(applied_revision=2, remote_id="r-4711", active=True, status=AccountStatus.APPLIED)
    parked = Progress(status=AccountStatus.PARKED, attempts=5, error_code="rejected", error="400: \x1b[2Jtoo long")
    for app, person_id, progress in (("crm", "4711", done), ("crm", "4712", parked), ("crm", "4713", parked)):
        async with store.transaction() as commit:
            await commit.save(app, [ProgressUpdate(person_id, progress, None)], [], now=NOW)
    await store.save_health("wiki", ApplicationHealth("paused", "401 from the server", NOW))
    await SqlAuditIndex(database).add([(position, record) for position, record in enumerate(entries())])
    await database.close()


SUBJECTS = {
    person_id: Subject(letter * 32, person_id, letter.encode() * 32)
    for letter, person_id in (("a", "4711"), ("b", "=4712"), ("c", "4712"), ("d", "4713"))
}


def _changes() -> ResolveChanges:
    history = History(
        (
            Statement(NOW - timedelta(days=30), NOW, "hr#1", {"title": "Analyst", "department": "Research"}),
            Statement(NOW - timedelta(days=9), NOW, "hr#2", {"title": "Fellow", "department": "Research"}),
        )
    )
    engagement = Engagement("e1", start=Stated(datetime(2026, 1, 31, tzinfo=UTC).date(), NOW, "hr#1"))
    people = [
        Person("4711", history, {"e1": engagement}, decision=Decision(NOW, "active", "employee", "p1")),
        Person("4712", decision=Decision(NOW, "active", "employee", "p1")),
        Person("4713", decision=Decision(NOW, "left", "employee", "p1")),
    ]
    accounts = [
        Account("4711", "crm", 2, "active", {"userName": "ada"}, ("staff",), NOW, "hr#2", "case-1", "p1"),
        Account("4711", "wiki", 1, "active", {"userName": "ada"}, (), NOW, "hr#2", "case-1", "p1"),
        Account("4712", "crm", 1, "active", {"userName": "eve"}, (), NOW, "hr#3", "case-2", "p1"),
        Account("4713", "crm", 4, "inactive", {"userName": "bob"}, (), NOW, "hr#4", "case-3", "p1"),
    ]
    return ResolveChanges(
        persons=people,
        accounts=accounts,
        timers_set=[Timer("4711", "contract_end", NOW + timedelta(days=200), "hr#1", "contract_end")],
        quarantined=[
            Quarantined("hr.events", 3, 1042, "undecodable", "no JSON", b"4711", b"\xff\x1b[31m{\n", None, NOW),
        ],
    )


@cache
def entries() -> list[bytes]:
    """Audit entries as the auditor would hold them."""
    told: tuple[tuple[str, str, str | None, dict[str, str]], ...] = (
        ("event_received", "4711", None, {}),
        ("command_issued", "4711", "crm", {"kind": "create"}),
        ("command_parked", "=4712", "crm", {"code": "rejected"}),
        ("command_applied", "4711", "crm", {}),
    )
    return [
        orjson.dumps(
            {
                "id": f"w/1/{number}",
                "writer": "w",
                "epoch": 1,
                "sequence": number,
                "at": NOW + timedelta(days=number),
                "kind": kind,
                "actor": "hr/example",
                "subject": SUBJECTS[person_id].id,
                "app": app,
                "revision": 1,
                "details": details,
                "sealed": seal(SUBJECTS[person_id].key or b"", f"w/1/{number}", {"title": "Analyst"}),
            }
        )
        for number, (kind, person_id, app, details) in enumerate(told, 1)
    ]


@pytest.fixture
def audit_log(configured: Path, world: str) -> Path:
    """The audit log's folder, with the four entries of the world."""
    log = configured.parent / "state" / "audit"
    return forge(log, entries())
