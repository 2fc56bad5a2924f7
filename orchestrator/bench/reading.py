"""`jml bench reading`: does the memory of commands that read everything grow with what an application holds?

The application is generated, a page at a time, so that any number of accounts costs it nothing; the people who have
them are copies of one who was hired. `jml reconcile`, `jml import` and `jml migrate --dry-run` run as processes, and
the most memory that each of them was seen to hold is told.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import psutil
import sqlalchemy as sa
import uvicorn

from orchestrator.adapters.sql.engine import Database
from orchestrator.bench.memory import copies
from orchestrator.bench.pipeline import all_roles, settle
from orchestrator.bench.place import application_policy, open_place
from orchestrator.bench.processes import environment, toml
from orchestrator.bench.resolving import Progress
from orchestrator.bench.server import Applications
from orchestrator.config import EMBEDDED
from orchestrator.demo.servers.asgi import SCIM_JSON, Receive, Scope, Send, send_answer
from orchestrator.errors import UserError
from orchestrator.listening import listener
from orchestrator.roles import role_names

SIZES = (1000, 20_000)
"""Measured on the way, beside the size that is asked for."""
APP, NEW_APP, STRANGERS = "app0", "app1", "app2"
"""The accounts of the first are people's, who move to the second; those of the third are nobody's who is known."""
PAGE = 500
LOOK_SECONDS = 0.02
DRIFTED = 10
"""One in so many accounts shows another title than it should."""
COMMANDS = {
    "reconcile": ("reconcile", APP),
    "reconcile, all orphans": ("reconcile", STRANGERS),
    "import": ("import", STRANGERS),
    "migrate --dry-run": ("migrate", "--from", APP, "--to", NEW_APP, "--dry-run"),
}


async def bench_reading(store: str, *, accounts: int, progress: Progress) -> dict[str, Any]:
    """Measure at 1,000, at 20,000 and at `accounts`. Raises UserError when a command fails."""
    sizes = sorted({size for size in SIZES if size < accounts} | {accounts})
    peaks: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    async with Applications(0.0) as applications:
        hired = {APP: application_policy(applications.base_url(APP), groups="[]")}
        async with open_place(EMBEDDED, store, hired) as place:
            async with all_roles(place, dict.fromkeys(role_names(), 1)):
                await settle(place, 1, 0, progress, "hiring one")
            database = Database(place.config.store.url, pool_size=1)
            known = 1
            try:
                async with _served() as (generated, base_url):
                    policies = {
                        name: application_policy(f"{base_url}/{name}", groups="[]")
                        for name in (APP, NEW_APP, STRANGERS)
                    }
                    (place.folder / "jml.toml").write_text(
                        toml({"store": {"url": place.config.store.url}, "apps": policies})
                    )
                    for size in sizes:
                        await copies(database, known, size, progress)
                        await _account(database)
                        known = generated.accounts = size
                        found = peaks[f"{size:,} accounts"] = {}
                        for number, (name, command) in enumerate(COMMANDS.items()):
                            progress(f"reading {size:,}", number, len(COMMANDS))
                            began = time.perf_counter()
                            found[name] = await _peak(place.folder, command)
                            seconds[name] = round(time.perf_counter() - began, 1)
                        progress(f"reading {size:,}", len(COMMANDS), len(COMMANDS))
            finally:
                await database.close()
    first, last = next(iter(peaks.values())), peaks[f"{accounts:,} accounts"]
    return {
        "bench": "reading",
        "store": place.store,
        "accounts": accounts,
        "peak_megabytes": peaks,
        "growth": {name: round(last[name] / first[name], 2) for name in COMMANDS},
        "seconds_at_last": seconds,
    }


async def _peak(folder: Path, command: tuple[str, ...]) -> float:
    """Run a command to its end; the most megabytes that it was seen to hold."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator.cli", *command, "--json", "--limit", "0"),
        cwd=folder,
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    told = asyncio.create_task(process.communicate())
    peak, watched = 0, psutil.Process(process.pid)
    while not told.done():
        with suppress(psutil.Error):  # it has just ended
            peak = max(peak, watched.memory_info().rss)
        await asyncio.wait([told], timeout=LOOK_SECONDS)
    _, said = told.result()
    if process.returncode not in (0, 1):  # 1: something differs
        raise UserError(f"jml {' '.join(command)} failed: {said.decode()[-600:]}")
    return round(peak / 1e6, 1)


async def _account(database: Database) -> None:
    """Everybody's account has an id of its own, as the generated application shows it."""
    async with database.write() as connection:
        await connection.execute(sa.text("update account set remote_id = 'u' || person_id"))


class _Generated:
    """An application whose users are made as they are asked for."""

    def __init__(self) -> None:
        self.accounts = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app, _, kind = str(scope["path"]).strip("/").partition("/")
        status, body = 404, {}
        if kind == "ServiceProviderConfig":
            status, body = 200, {"patch": {"supported": True}, "filter": {"supported": True, "maxResults": PAGE}}
        elif kind == "Users":
            query = parse_qs(scope["query_string"].decode())
            start, count = (int(query.get(name, ["1"])[0]) for name in ("startIndex", "count"))
            numbers = range(start - 1, min(start - 1 + min(count, PAGE), self.accounts))
            rows = [_user(number, app == STRANGERS) for number in numbers]
            status, body = 200, {"totalResults": self.accounts, "Resources": rows}
        await send_answer(send, status, orjson.dumps(body), [SCIM_JSON])


def _user(number: int, stranger: bool) -> dict[str, Any]:
    prefix = "S" if stranger else "W"
    mail = f"{'stranger' if stranger else 'user'}.{number}@example.com"
    return {
        "id": f"u{prefix}{number:07}",
        "externalId": f"{prefix}{number:07}",
        "userName": mail,
        "active": True,
        "name": {"givenName": "Given0", "familyName": "Family0"},
        "displayName": "Given0 Family0",
        "title": "Judge" if number % DRIFTED == 0 else "Engineer",
        "emails": [{"value": mail, "type": "work", "primary": True}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Department 0"},
    }


@asynccontextmanager
async def _served() -> AsyncIterator[tuple[_Generated, str]]:
    """The generated application, on loopback in this process."""
    generated = _Generated()
    config = uvicorn.Config(generated, lifespan="off", access_log=False, log_level="critical")
    server = uvicorn.Server(config)
    # Ctrl-C is the command's.
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    with listener("127.0.0.1", 0, "free a port") as socket:
        task = asyncio.create_task(server.serve(sockets=[socket]))
        try:
            yield generated, f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
