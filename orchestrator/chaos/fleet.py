"""The processes of a run: roles that can be killed, paused and started again, and the applications they call."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.engine import make_url

from orchestrator.bench.processes import environment
from orchestrator.chaos.clock import set_clock
from orchestrator.chaos.evidence import Pause
from orchestrator.chaos.faults import Habit
from orchestrator.chaos.proxy import Link
from orchestrator.chaos.server import TOKENS_ENV
from orchestrator.demo.servers.asgi import BASE_PATH
from orchestrator.ports import Clock

CREW = {"resolver": 2, "connector": 3, "scheduler": 2, "relay": 1, "auditor": 2}
"""How many processes of each role."""
DATABASE = "database"
"""The peer that every role has; the others are applications."""
GRACE_SECONDS = 40.0
TIMEOUT_SECONDS = 2.0
POSTGRES_PORT = 5432


@dataclass(frozen=True, slots=True)
class Ground:
    """What all roles of a run stand on. `store` is the database's URL, `mutant` the safeguard they do without."""

    folder: Path
    tokens: str
    store: str
    clock: Clock
    mutant: str | None = None
    bases: Mapping[str, str] = field(default_factory=dict)
    """By application, its base URL."""


class Worker:
    """One process of a role, over its restarts. Each life calls applications with a token of its own, and each peer
    through a link of its own."""

    def __init__(self, role: str, number: int, ground: Ground, port: int) -> None:
        self.role = role
        self.name = f"{role}-{number}"
        self.port = port
        self.log = ground.folder / f"{self.name}.log"
        self.clock_file = ground.folder / f"{self.name}.clock"
        self.lives = 0
        self.pids: list[int] = []
        self.pauses: list[Pause] = []
        self.links: dict[str, Link] = {}
        self.started_at = 0.0
        self._ground = ground
        self._process: asyncio.subprocess.Process | None = None
        self._log_before = 0
        self._frozen = 0.0
        self._copying: asyncio.Task[None] | None = None

    @property
    def caller(self) -> str:
        """As applications know it."""
        return f"{self.name}.{self.lives}"

    @property
    def running(self) -> bool:
        """Whether it runs still."""
        return self._process is not None and self._process.returncode is None

    @property
    def came_up(self) -> bool:
        """Whether its present life ever began to work."""
        return self.log.exists() and b'"event": "started"' in self.log.read_bytes()[self._log_before :]

    async def open(self) -> None:
        """Lay the links to its peers."""
        url = make_url(self._ground.store)
        self.links[DATABASE] = Link(url.host or "127.0.0.1", url.port or POSTGRES_PORT)
        if self.role == "connector":
            for app, base in self._ground.bases.items():
                self.links[app] = Link("127.0.0.1", _port_of(base))
        for link in self.links.values():
            await link.open()

    def close(self) -> None:
        """Take the links away."""
        for link in self.links.values():
            link.close()

    async def start(self) -> None:
        """Begin a life; it needs a moment to be of use."""
        ground = self._ground
        self.lives += 1
        self.started_at = ground.clock.now().timestamp()
        self._log_before = self.log.stat().st_size if self.log.exists() else 0
        store = make_url(ground.store).set(host="127.0.0.1", port=self.links[DATABASE].port)
        ours = {
            "JML_CHAOS_TOKEN": f"{ground.tokens}/{self.caller}",
            "JML_OPS__PORT": str(self.port),
            # not in the file, which is kept: it may hold a password
            "JML_STORE__URL": store.render_as_string(hide_password=False),
        }
        for app, base in ground.bases.items():
            if app in self.links:
                ours[f"JML_APPS__{app.upper()}__BASE_URL"] = base.replace(
                    f":{_port_of(base)}/", f":{self.links[app].port}/"
                )
        command = ["-m", "orchestrator.chaos.role", self.role, "--config", "jml.toml", "--clock", str(self.clock_file)]
        if ground.mutant:
            command += ["--mutant", ground.mutant]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=ground.folder,
            env=environment(**ours),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.pids.append(self._process.pid)
        assert self._process.stdout is not None
        self._copying = asyncio.create_task(self._copy(self._process.stdout))

    async def _copy(self, said: asyncio.StreamReader) -> None:
        """What it says goes through us: a role whose disk is full must still be able to say so."""
        with self.log.open("ab", buffering=0) as log:
            while part := await said.read(65536):
                log.write(part)

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def pause(self, seconds: float) -> None:
        """Freeze it as a suspended machine does; afterwards it goes on as if nothing had happened."""
        self.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.thaw()

    def freeze(self) -> None:
        """Let it stand still until `thaw`."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP)
        self._frozen = self._ground.clock.now().timestamp()

    def thaw(self) -> None:
        """Let it go on, if it is there still."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self.pauses.append(Pause(self.caller, self._frozen, self._ground.clock.now().timestamp()))

    async def without_disk(self, seconds: float, room: int) -> None:
        """Let no file of it grow beyond `room` bytes: every write that goes further fails with EFBIG, and one that
        goes across is cut short there, as on a full disk."""
        assert self._process is not None
        pid = self._process.pid
        _limit_files(pid, room)
        try:
            await asyncio.sleep(seconds)
        finally:
            _limit_files(pid, None)

    async def with_wrong_clock(self, seconds: float, by: float) -> None:
        """Step its clock, and back."""
        set_clock(self.clock_file, by)
        try:
            await asyncio.sleep(seconds)
        finally:
            set_clock(self.clock_file, 0)

    async def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        try:
            code = await asyncio.wait_for(self._process.wait(), GRACE_SECONDS)
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        if self._copying is not None:
            await self._copying
        return code


def _limit_files(pid: int, room: int | None) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        soft = hard if room is None else room
        process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))


def can_fill_disks() -> bool:
    """Whether this system lets us limit the files of another process; Linux does."""
    return hasattr(psutil, "RLIMIT_FSIZE")


def _port_of(base_url: str) -> int:
    return int(base_url.removeprefix("http://127.0.0.1:").partition("/")[0])


class Application:
    """A connected application: its process, and its files' names."""

    def __init__(
        self,
        name: str,
        folder: Path,
        control: Path,
        tokens: str,
        *,
        seed: str,
        unique: bool,
        habit: Habit | None = None,
    ) -> None:
        self.name = name
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{BASE_PATH}"
        self._arguments = [name, "--fd", str(self._listener.fileno()), "--folder", str(folder)]
        self._arguments += ["--control", str(control), "--seed", seed, *([] if unique else ["--not-unique"])]
        if habit is not None:
            self._arguments += [
                "--rate",
                str(habit.rate),
                "--slow",
                str(habit.slow),
                *(f"--only={fault}" for fault in sorted(habit.only)),
            ]
        self._tokens = tokens
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it. Calls that come before it is up wait at the socket."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "orchestrator.chaos.server",
            *self._arguments,
            env=environment(**{TOKENS_ENV: self._tokens}),
            pass_fds=[self._listener.fileno()],
        )

    async def stop(self) -> None:
        """End it, after what it is about to answer."""
        self._listener.close()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


def policy(base_url: str, department: str | None, timeout: float = TIMEOUT_SECONDS) -> dict[str, Any]:
    """An application for one department or for everybody, with a group for each department."""
    return {
        "base_url": base_url,
        "allow_private": True,
        "auth": {"token_env": "JML_CHAOS_TOKEN"},
        "concurrency": 8,
        "timeout_seconds": timeout,
        "retry": {"base_seconds": 0.5, "max_seconds": 2},
        "scope": "true" if department is None else f"person.department == {json.dumps(department)}",
        "groups": '["dept " + person.department]',
        "attributes": {
            "userName": "person.user_name",
            "externalId": "person.id",
            "name.givenName": "person.given_name",
            "name.familyName": "person.family_name",
            "displayName": "person.display_name",
            "title": "person.title",
            "emails": '[{"value": person.email, "type": "work", "primary": true}]',
        },
    }
