"""Roles as processes of their own, as an operator runs them."""

import asyncio
import json
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from orchestrator.adapters.audit_log.keys import write_key
from orchestrator.bench.place import Place
from orchestrator.domain.signed_note import generate_key
from orchestrator.errors import UserError

READY_SECONDS = 180.0
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


def toml(tables: Mapping[str, Any], path: Sequence[str] = ()) -> str:
    """Settings as a `jml.toml`. JSON's strings, numbers and lists are TOML's."""
    plain = {name: value for name, value in tables.items() if not isinstance(value, Mapping)}
    text = [f"[{'.'.join(path)}]"] if path and plain else []
    text += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in plain.items()]
    text += [toml(value, (*path, json.dumps(name))) for name, value in tables.items() if isinstance(value, Mapping)]
    return "\n".join(text) + "\n"


@dataclass(frozen=True, slots=True)
class RoleProcess:
    """One of them."""

    role: str
    process: asyncio.subprocess.Process
    port: int
    log: Path

    @property
    def cpu_seconds(self) -> float:
        """What it has computed so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@asynccontextmanager
async def role_processes(
    place: Place, crew: Mapping[str, int], module: str = "orchestrator.cli"
) -> AsyncIterator[list[RoleProcess]]:
    """So many processes of each role on a place's broker and store; all are ready. `module` is what runs them.

    Raises UserError when one fails."""
    write_key(generate_key("bench/audit"), place.folder / "audit.key")
    (place.folder / "jml.toml").write_text(
        toml(
            {
                "kafka": {"bootstrap": place.bootstrap, "partitions": place.config.kafka.partitions},
                "audit": {"dir": str(place.config.audit.dir), "key_file": "audit.key"},
                "breaker": {"enabled": False},
                "apps": place.apps,
            }
        )
    )
    running: list[RoleProcess] = []
    try:
        for role, count in crew.items():
            for _ in range(count):
                running.append(await _start(place, role, len(running), module))
        await asyncio.gather(*(_until_ready(one) for one in running))
        yield running
    finally:
        await asyncio.gather(*(_stop(one) for one in running))


async def _start(place: Place, role: str, number: int, module: str) -> RoleProcess:
    port = free_port(random.Random())
    log = place.folder / f"{role}-{number}.log"
    with log.open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, "run", role, "--config", "jml.toml", "--log-level", "warning"),
            cwd=place.folder,
            env=environment(JML_OPS__PORT=str(port), JML_STORE__URL=place.config.store.url),
            stdout=said,
            stderr=said,
        )
    return RoleProcess(role, process, port, log)


async def _until_ready(one: RoleProcess) -> None:
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    async with httpx.AsyncClient(timeout=5) as client:
        while asyncio.get_running_loop().time() < deadline:
            if one.process.returncode is not None:
                break
            with suppress(httpx.HTTPError):
                if (await client.get(f"http://127.0.0.1:{one.port}/health/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.1)
    raise UserError(f"the {one.role} did not come up: {one.log.read_text()[-600:]}")


async def _stop(one: RoleProcess) -> None:
    if one.process.returncode is None:
        one.process.terminate()
        try:
            await asyncio.wait_for(one.process.wait(), GRACE_SECONDS)
        except TimeoutError:
            one.process.kill()
            await one.process.wait()
