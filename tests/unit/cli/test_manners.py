"""How every command behaves: one-line errors, exit codes, silence where nobody listens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.cli.lazy import COMMANDS, load
from tests.forge import forge
from tests.unit.cli.conftest import entries
from tests.unit.cli.console import NOBODY, Jml, Result

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "orchestrator.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

Arguments = tuple[str, ...]

NEED_CONFIG: tuple[Arguments, ...] = (
    ("status",),
    ("lag",),
    ("person", "show", "1"),
    ("due",),
    ("due", "--overdue"),
    ("timers", "show", "1"),
    ("extend", "1", "--until", "2099-01-01", "--reason", "x"),
    ("end", "1", "--now", "--reason", "x", "--yes"),
    ("notices", "list"),
    ("notices", "retry", "--all"),
    ("parked", "list"),
    ("parked", "retry", "--all"),
    ("quarantine", "list"),
    ("quarantine", "show", "hr.events", "0", "0"),
    ("audit", "tail"),
    ("audit", "export"),
    ("events", "send", "-"),
    ("hr", "import", "."),
    ("config", "check"),
    ("config", "show"),
    ("db", "migrate"),
    ("db", "check"),
    ("topics", "create"),
    ("topics", "guard"),
    ("topics", "list"),
    ("audit", "verify"),
    ("audit", "prove", "1"),
)
_READS_STORE = ("status", "person", "parked", "quarantine", "due", "timers", "notices", "extend", "end")
NEED_STORE = [one for one in NEED_CONFIG if one[0] in _READS_STORE]
NEED_KAFKA: tuple[Arguments, ...] = (
    ("lag",),
    ("topics", "create"),
    ("topics", "guard"),
    ("topics", "list"),
    ("events", "send", "-"),
)
EVENT = b"""\
{"specversion":"1.0","id":"1","source":"hr/me","type":"jml.worker.joined.v1","time":"2026-03-02T08:15:00Z",\
"data":{"worker_id":"4711","start_date":"2026-03-16"}}
"""


@pytest.mark.parametrize("command", NEED_CONFIG, ids=" ".join)
def test_without_a_configuration_it_says_how_to_get_one(jml: Jml, command: Arguments) -> None:
    jml(*command).refused("jml.toml: no such file", "--config", "jml config init")
    jml(*command, "--config", "other.toml").refused("other.toml: no such file")


def test_all_problems_of_a_configuration_are_said_at_once_each_with_its_place(jml: Jml, configured: Path) -> None:
    configured.write_text(configured.read_text().replace("[store]", "partitions = 0\nnonsense = 1\n[store]"))
    answer = jml("status")
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("jml: jml.toml:") for line in lines)
    assert "kafka.nonsense: is not a known key" in answer.err


@pytest.mark.parametrize("command", NEED_STORE, ids=" ".join)
@pytest.mark.usefixtures("configured")
def test_a_database_that_is_not_there_is_one_line_and_is_not_made(jml: Jml, command: Arguments) -> None:
    jml(*command).refused("state/jml.db does not exist", "jml db migrate")
    assert not Path("state").exists()


@pytest.mark.parametrize("command", [*NEED_STORE, ("db", "check"), ("db", "migrate")], ids=" ".join)
@pytest.mark.usefixtures("configured")
def test_a_database_that_is_down_is_one_line(jml: Jml, command: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JML_STORE__URL", f"postgresql+asyncpg://jml:hunter2@{NOBODY}/jml")
    answer = jml(*command)
    answer.refused("does not answer", NOBODY, "start it, or correct [store] url")
    assert "hunter2" not in answer.err


@pytest.mark.usefixtures("configured")
def test_a_database_without_tables_is_one_line(jml: Jml) -> None:
    Path("state").mkdir()
    Path("state/jml.db").touch()
    jml("status").refused("is empty", "jml db migrate")


@pytest.mark.parametrize("command", NEED_KAFKA, ids=" ".join)
@pytest.mark.usefixtures("configured")
def test_a_broker_that_is_down_is_one_line(jml: Jml, command: Arguments) -> None:
    jml(*command, stdin=EVENT).refused(NOBODY, "start it, or correct [kafka] bootstrap")


@pytest.mark.usefixtures("migrated")
def test_a_role_that_begins_while_the_broker_is_down_says_one_line_and_leaves_nothing_open() -> None:
    environment = {**ENVIRONMENT, "JML_OPS__PORT": "0"}  # each serves its health on a port of its own
    processes = [
        subprocess.Popen([*COMMAND, "run", role], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for role in ("resolver", "connector", "scheduler", "relay", "notifier")
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        Result(process.returncode, out.decode(), err.decode()).refused(f"Kafka at {NOBODY} does not answer", "start it")


@pytest.mark.parametrize("command", NEED_KAFKA, ids=" ".join)
@pytest.mark.usefixtures("configured")
def test_the_embedded_broker_cannot_be_reached_from_outside(
    jml: Jml, command: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", "embedded")
    jml(*command, stdin=EVENT).refused("embedded broker", "[kafka] bootstrap")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("statsu",), "Did you mean 'status'"),
        (("status", "--nonsense"), "No such option: --nonsense"),
        (("person", "show"), "Missing argument 'ID' (see `jml person show --help`)"),
        (("person", "shwo", "1"), "Did you mean 'show'"),
        (("audit", "tail", "--limit", "many"), "--limit"),
        (("audit", "tail", "--kind", "nonsense"), "--kind"),
        (("audit", "export", "--format", "xml"), "--format"),
        (("quarantine", "show", "hr.events", "-1", "0"), "-1"),
        (("parked", "retry"), "a PERSON, --app APP, or --all"),
        (("notices", "retry"), "NOTICE or --all"),
        (("due", "--within", "soon"), "--within 'soon'"),
        (("due", "--app", "nonsense"), "no application 'nonsense'"),
        (("extend", "4711", "--until", "tomorrow", "--reason", "x"), "--until 'tomorrow'"),
        (("extend", "4711", "--until", "2099-01-01", "--reason", "x", "--as", "a b"), "--as"),
        (("end", "4711", "--reason", "x"), "say --now"),
        (("end", "4711", "--now"), "Missing option '--reason'"),
        (("parked", "retry", "4711", "--all"), "--all"),
        (("events", "send", "missing.jsonl"), "missing.jsonl"),
        (("hr", "import", "missing"), "missing is no folder"),
        (("hr", "import", ".", "--source", "nonsense"), "employees_csv"),
        (("status", "--config", "."), "cannot be read"),
        (("audit", "export", "--since", "yesterday"), "--since 'yesterday'"),
        (("audit", "export", "--until", "2026-03-02T08:15:00"), "--until"),
        (("schema", "check", "missing.jsonl"), "cannot be read"),
        (("demo-app", "payroll", "--token-env", "NOBODY_SET"), "NOBODY_SET is not set: it must hold the bearer token"),
        (("health", "--url", "nonsense"), "--url 'nonsense'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("configured")
def test_a_mistake_is_one_line(jml: Jml, command: Arguments, words: str) -> None:
    jml(*command).refused(words)


def test_groups_and_jml_itself_show_their_help_when_called_alone(jml: Jml) -> None:
    assert "Usage: jml person" in jml("person").out
    assert "Usage: jml [OPTIONS]" in jml().out


def test_only_jml_itself_offers_completion(jml: Jml) -> None:
    assert "--install-completion" in jml("--help").out
    for entry in COMMANDS:
        waiting = [load(entry)]
        while waiting:
            command = waiting.pop()
            options = {option for one in command.params for option in one.opts}
            assert not {"--install-completion", "--show-completion"} & options, (entry.name, command.name)
            waiting += getattr(command, "commands", {}).values()


def test_the_overview_imports_no_command() -> None:
    script = """if True:
        import sys
        from orchestrator.cli import run
        assert run(["--help"]) == 0
        late = {"pydantic", "sqlalchemy", "aiokafka", "httpx", "orchestrator.config"} & set(sys.modules)
        assert not late, late
    """
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_ends_quietly(audit_log: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "audit", "tail", "--follow"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"event_received" in process.stdout.readline()
        forge(audit_log, entries(), journal=[b'{"at":"2026-03-02T08:15:00Z","kind":"timer_set","actor":"hr"}'])
        while b"timer_set" not in process.stdout.readline():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == b""


def test_a_reader_that_goes_away_is_no_error(audit_log: Path) -> None:
    forge(audit_log, entries() * 5000)
    for command in (("audit", "export"), ("audit", "tail", "--limit", "10000"), ("audit", "tail", "--json")):
        with subprocess.Popen(
            [*COMMAND, *command], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""
