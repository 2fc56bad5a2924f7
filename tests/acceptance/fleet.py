"""The system as an operator runs it: every role a process of its own, and three applications as processes too.

Nothing here reaches into a process: it is started, killed, told to end, and looked at through its database, its
applications and its audit log.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_log.keys import write_key
from orchestrator.demo.applications import APPLICATIONS, TOKEN_ENV
from orchestrator.demo.expectation import expected_accounts
from orchestrator.demo.servers.asgi import BASE_PATH
from orchestrator.demo.verdict import expected_groups, judge, read_all
from orchestrator.domain.signed_note import generate_key

ROOT = Path(__file__).parents[2]
TOKEN = "the-token-of-the-fleet"
ENVIRON = {**os.environ, TOKEN_ENV: TOKEN, "PYTHONPATH": str(ROOT), "JML_OPS__PORT": "0"}
JML = [sys.executable, "-m", "orchestrator.cli"]
GRACE_SECONDS = 40.0

Journal = list[dict[str, Any]]


def until(condition: Callable[[], object], *, seconds: float, what: str, every: float = 0.1) -> None:
    """Wait for something that other processes bring about. A look that costs much takes time from them."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)


def jml(*arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [*JML, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=ENVIRON, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done


class Worker:
    """One process of a role. Its log goes on over restarts."""

    def __init__(self, role: str, folder: Path, number: int = 1) -> None:
        self.role = role
        self._folder = folder
        self.log = folder / f"{role}-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Worker":
        """Start it; it needs a moment to be of use."""
        with self.log.open("ab") as log:
            command = [*JML, "run", self.role, "--config", "jml.toml"]
            self._process = subprocess.Popen(command, cwd=self._folder, env=ENVIRON, stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        return self._end(signal.SIGTERM)

    def ask_to_stop(self) -> None:
        """The same, without waiting for it."""
        assert self._process is not None
        self._process.terminate()

    def exit_code(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(GRACE_SECONDS)

    @property
    def running(self) -> bool:
        """Whether it runs still."""
        return self._process is not None and self._process.poll() is None

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        assert self.running, f"{self.role} ended by itself: {self.log.read_text()[-2000:]}"
        self._process.send_signal(how)
        return self.exit_code()


class Fleet:
    """Workers over one configuration, and the applications they provision into."""

    def __init__(self, folder: Path, base_urls: Mapping[str, str]) -> None:
        self.folder = folder
        self.base_urls = base_urls
        self.workers: list[Worker] = []

    def start(self, role: str, number: int = 1) -> Worker:
        """One more worker."""
        worker = Worker(role, self.folder, number)
        self.workers.append(worker)
        return worker.start()

    def journal(self, app: str) -> Journal:
        """Every request that an application answered. The last line may be half written."""
        path = self.folder / f"{app}.journal.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [orjson.loads(line) for line in lines if line.endswith(b"\n")]

    def created(self, app: str) -> int:
        """How many accounts were made."""
        return sum(made(line, "POST") for line in self.journal(app))

    def audit(self) -> list[dict[str, Any]]:
        """The audit log as it stands."""
        return [orjson.loads(entry) for _, entry in read_entries(self.folder / "audit")]

    def people(self) -> dict[str, str]:
        """The worker ids of the subjects in the log, as an operator's command tells them."""
        told = json.loads(jml("audit", "tail", "--limit", 1_000_000, "--json", cwd=self.folder).stdout)
        return {one["subject"]: one["person_id"] for one in told if "person_id" in one}

    def status(self) -> dict[str, Any]:
        """What `jml status` says."""
        status: dict[str, Any] = json.loads(jml("status", "--json", cwd=self.folder).stdout)
        return status

    async def differences(self, export: Path) -> dict[str, tuple[str, ...]]:
        """What each application holds against what it should hold by the export alone."""
        expected = expected_accounts(export)
        found = {}
        for application in APPLICATIONS:
            users, groups = [await read_all(self.base_urls[application.name], TOKEN, kind) for kind in KINDS]
            names = {worker: expected_groups(application, person) for worker, person in expected.items()}
            found[application.name] = judge(application, users, groups, expected, names).differences
        return {app: differences for app, differences in found.items() if differences}

    async def active(self, app: str) -> dict[str, bool]:
        """Whether each account is active, by worker id."""
        users = await read_all(self.base_urls[app], TOKEN, "Users")
        return {str(user["externalId"]): bool(user["active"]) for user in users}


KINDS = ("Users", "Groups")


def made(line: Mapping[str, Any], method: str) -> bool:
    """Whether a line of a journal is a change of a user that succeeded."""
    return line["method"] == method and f"{line['path']}/".startswith(f"{BASE_PATH}/Users/") and line["status"] < 300


@contextmanager
def fleet(folder: Path, *, kafka: str, database: str, latency: float) -> Iterator[Fleet]:
    """Applications, configuration, tables and topics; no worker yet. All processes end with the block."""
    processes: list[subprocess.Popen[str]] = []
    running = None
    try:
        base_urls = {}
        for application in APPLICATIONS:
            command = [sys.executable, "-m", "orchestrator.demo.servers.serve", application.server]
            command += ["--journal", f"{application.name}.journal.jsonl", "--token-env", TOKEN_ENV]
            command += ["--latency", str(latency)]
            process = subprocess.Popen(command, cwd=folder, env=ENVIRON, stdout=subprocess.PIPE, text=True)
            processes.append(process)
        for application, process in zip(APPLICATIONS, processes, strict=True):
            assert process.stdout is not None
            base_urls[application.name] = process.stdout.readline().strip().removeprefix("listening on ") + BASE_PATH
        (folder / "jml.toml").write_text(configuration(kafka, database, base_urls))
        write_key(generate_key("fleet/audit"), folder / "audit.key")
        jml("db", "migrate", cwd=folder)
        jml("topics", "create", cwd=folder)
        running = Fleet(folder, base_urls)
        yield running
    finally:
        for worker in running.workers if running else ():
            if worker.running:
                worker.kill()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(15)


def configuration(kafka: str, database: str, base_urls: Mapping[str, str]) -> str:
    """The demo's policy as a `jml.toml`. JSON's strings are TOML's."""
    lines = [
        "[kafka]",
        f"bootstrap = {json.dumps(kafka)}",
        "partitions = 4",
        "session_timeout_seconds = 3",
        "rebalance_timeout_seconds = 20",
        "[store]",
        f"url = {json.dumps(database)}",
        "[audit]",
        'dir = "audit"',
        'key_file = "audit.key"',
        "[breaker]",  # the export ends a third of them within seconds, and means it
        "enabled = false",
    ]
    for application in APPLICATIONS:
        settings = {name: value for name, value in application.policy.items() if name != "attributes"}
        lines += [
            f"[apps.{application.name}]",
            f"base_url = {json.dumps(base_urls[application.name])}",
            f"auth = {{ token_env = {json.dumps(TOKEN_ENV)} }}",
            "allow_private = true",
            "concurrency = 4",
            "retry = { base_seconds = 0.5, max_seconds = 2 }",
            *(f"{name} = {json.dumps(value)}" for name, value in settings.items()),
            f"[apps.{application.name}.attributes]",
            *(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in application.policy["attributes"].items()),
        ]
    return "\n".join(lines) + "\n"
