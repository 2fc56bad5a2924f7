"""The processes of a run: roles that can be killed, paused and started again, and the applications they call."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.chaos.evidence import Pause
from orchestrator.chaos.server import TOKENS_ENV
from orchestrator.demo.servers.asgi import BASE_PATH
from orchestrator.ports import Clock

CREW = {"resolver": 2, "connector": 3, "scheduler": 2, "relay": 1, "auditor": 1}
"""How many processes of each role."""
GRACE_SECONDS = 40.0
FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below the ports that Linux hands to outgoing connections, so that a restarted role finds its own free."""


def environment(**ours: str) -> dict[str, str]:
    """What a child inherits. Our caller's `JML_` settings are left out: they would override the run's configuration."""
    root = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JML_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")])), **ours}


def free_port(chance: random.Random) -> int:
    """A port for a role's metrics."""
    while True:
        port = chance.randrange(FIRST_PORT, LAST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Worker:
    """One process of a role, over its restarts. Each life calls applications with a token of its own."""

    def __init__(self, role: str, number: int, folder: Path, tokens: str, store: str, port: int, clock: Clock) -> None:
        self.role = role
        self.name = f"{role}-{number}"
        self.port = port
        self.log = folder / f"{self.name}.log"
        self.lives = 0
        self.pauses: list[Pause] = []
        self._folder, self._tokens, self._store, self._clock = folder, tokens, store, clock
        self._process: asyncio.subprocess.Process | None = None

    @property
    def caller(self) -> str:
        """As applications know it."""
        return f"{self.name}.{self.lives}"

    @property
    def running(self) -> bool:
        """Whether it runs still."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Begin a life; it needs a moment to be of use."""
        self.lives += 1
        ours = {
            "JML_CHAOS_TOKEN": f"{self._tokens}/{self.caller}",
            "JML_OPS__PORT": str(self.port),
            "JML_STORE__URL": self._store,  # not in the file, which is kept: it may hold a password
        }
        with self.log.open("ab") as log:
            command = ("-m", "orchestrator.cli", "run", self.role, "--config", "jml.toml")
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd=self._folder, env=environment(**ours), stdout=log, stderr=log
            )

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def pause(self, seconds: float) -> None:
        """Freeze it as a suspended machine does; afterwards it goes on as if nothing had happened."""
        assert self._process is not None
        caller, process, begin = self.caller, self._process, self._clock.now()
        try:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            self.pauses.append(Pause(caller, begin.timestamp(), self._clock.now().timestamp()))

    async def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        try:
            return await asyncio.wait_for(self._process.wait(), GRACE_SECONDS)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


class Application:
    """A connected application: its process, and its files' names."""

    def __init__(self, name: str, folder: Path, control: Path, tokens: str, *, seed: str, unique: bool) -> None:
        self.name = name
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{BASE_PATH}"
        self._arguments = [name, "--fd", str(self._listener.fileno()), "--folder", str(folder)]
        self._arguments += ["--control", str(control), "--seed", seed, *([] if unique else ["--not-unique"])]
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


def policy(base_url: str, department: str | None) -> dict[str, Any]:
    """An application for one department or for everybody, with a group for each department."""
    return {
        "base_url": base_url,
        "allow_private": True,
        "auth": {"token_env": "JML_CHAOS_TOKEN"},
        "concurrency": 8,
        "timeout_seconds": 2,
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


def toml(tables: Mapping[str, Any], path: Sequence[str] = ()) -> str:
    """Settings as a `jml.toml`. JSON's strings, numbers and lists are TOML's."""
    plain = {name: value for name, value in tables.items() if not isinstance(value, Mapping)}
    text = [f"[{'.'.join(path)}]"] if path and plain else []
    text += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in plain.items()]
    text += [toml(value, (*path, json.dumps(name))) for name, value in tables.items() if isinstance(value, Mapping)]
    return "\n".join(text) + "\n"
