"""Connected applications for benchmarks: SCIM from memory over bare HTTP, so cheap that it takes little from what is
measured.

One process answers for all applications, `/app0/scim/v2` and on. It does what a create, a change, a read, a search and
a membership change need, and no more; `GET /stats` tells what was asked and when leavers were out.
"""

import argparse
import asyncio
import re
import socket
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import unquote_plus

import httptools
import httpx
import orjson
import uvloop

from orchestrator.adapters.clock import SystemClock
from orchestrator.bench.processes import environment

_PLACE = re.compile(r"/(app\d+)/scim/v2/(Users|Groups)(?:/([^/?]+))?(?:\?(.*))?$")
_FILTER = re.compile(r'(\w+) eq "(.*)"')
_HEAD = b"HTTP/1.1 %d -\r\ncontent-type: application/scim+json\r\ncontent-length: %d\r\n\r\n"
_EMPTY = b"HTTP/1.1 204 -\r\n\r\n"

Row = dict[str, Any]


@dataclass
class _Table:
    """Users or groups of one application."""

    rows: dict[str, Row] = field(default_factory=dict)
    ids: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass
class _Site:
    """All applications, and what was asked of them."""

    latency: float
    tables: dict[tuple[str, str], _Table] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    out: dict[str, float] = field(default_factory=dict)
    """By application and person, when a read showed the account inactive first. Seconds since 1970."""
    clock: SystemClock = field(default_factory=SystemClock)

    def answer(self, method: str, url: str, body: bytes) -> bytes:
        """One request."""
        place = _PLACE.match(url)
        if place is None:
            return self._stats() if url == "/stats" else _whole(404, {})
        app, kind, id_, query = place.groups()
        self.calls[method] += 1
        table = self.tables.setdefault((app, kind), _Table())
        if method == "POST":
            return _create(table, orjson.loads(body))
        if id_ is None:
            return _whole(200, _search(table, query or ""))
        row = table.rows.get(id_)
        if row is None:
            return _whole(404, {})
        if method == "GET":
            if row.get("active") is False:
                self.out.setdefault(f"{app}/{row.get('externalId')}", self.clock.now().timestamp())
            return _whole(200, row)
        if method == "DELETE":
            del table.rows[id_]
            return _EMPTY
        if kind == "Groups":
            return _EMPTY
        for change in orjson.loads(body)["Operations"]:
            row.update({change["path"]: change.get("value")} if "path" in change else change["value"])
        return _whole(200, row)

    def _stats(self) -> bytes:
        users = [table for (_, kind), table in self.tables.items() if kind == "Users"]
        active = sum(row.get("active") is not False for table in users for row in table.rows.values())
        accounts = sum(len(table.rows) for table in users)
        return _whole(200, {"calls": self.calls, "accounts": accounts, "active": active, "out": self.out})


def _create(table: _Table, row: Row) -> bytes:
    names = [(name, str(row[name])) for name in ("userName", "externalId", "displayName") if name in row]
    if names[0] in table.ids:
        return _whole(409, {"status": "409", "scimType": "uniqueness"})
    row["id"] = id_ = f"{len(table.rows) + 1}"
    table.rows[id_] = row
    table.ids.update(dict.fromkeys(names, id_))
    return _whole(201, row)


def _search(table: _Table, query: str) -> Row:
    wanted = _FILTER.search(unquote_plus(query))
    id_ = table.ids.get((wanted.group(1), wanted.group(2))) if wanted else None
    found = [table.rows[id_]] if id_ in table.rows else []
    return {"totalResults": len(found), "Resources": found}


def _whole(status: int, document: Row) -> bytes:
    body = orjson.dumps(document)
    return _HEAD % (status, len(body)) + body


class _Connection(asyncio.Protocol):
    """One client. Clients of ours send the next request after the answer, so answers need no order."""

    def __init__(self, site: _Site) -> None:
        self._site = site
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method, url, body = self._parser.get_method().decode(), self._url.decode("latin-1"), self._body
        if self._site.latency:
            asyncio.get_running_loop().call_later(self._site.latency, self._answer, method, url, body)
        else:
            self._answer(method, url, body)

    def _answer(self, method: str, url: str, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._site.answer(method, url, body))


class Applications:
    """The process. `async with Applications(latency) as applications: applications.base_url("app0")`."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._process: asyncio.subprocess.Process | None = None

    def base_url(self, app: str) -> str:
        """An application's SCIM base URL."""
        return f"{self._origin}/{app}/scim/v2"

    async def stats(self) -> Row:
        """What was asked so far."""
        async with httpx.AsyncClient(timeout=30) as client:
            found: Row = (await client.get(f"{self._origin}/stats")).json()
            return found

    async def __aenter__(self) -> Self:
        number = self._listener.fileno()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "orchestrator.bench.server", "--fd", str(number), "--latency", str(self._latency)),
            pass_fds=[number],
            env=environment(),
            cwd=Path(__file__).parents[2],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def _serve(listener: socket.socket, latency: float) -> None:
    site = _Site(latency)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(site), sock=listener)
    await server.serve_forever()


def main() -> None:
    """Serve until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.bench.server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds to wait before every answer")
    given = parser.parse_args()
    with socket.socket(fileno=given.fd) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(listener, given.latency))


if __name__ == "__main__":
    main()
