"""A small company on real roles: the embedded broker, SQLite, and one SCIM server in a process of its own."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bootstrap import open_runtime, running
from orchestrator.config import load_config
from orchestrator.demo.servers.serve import ServerProcess
from orchestrator.roles import role
from schemas.envelope import Envelope, Message
from schemas.topics import HR_EVENTS
from tests.acceptance.fleet import ENVIRON, JML

SECONDS = 90.0
CONFIG = """
[store]
url = "sqlite+aiosqlite:///{folder}/jml.db"

[audit]
dir = "{folder}/audit"

{more}

[apps.directory]
base_url = "{base_url}"
allow_private = true
groups = '{groups}'
concurrency = 16
{settings}

[apps.directory.attributes]
userName = "person.user_name"
externalId = "person.id"
title = "person.title"
"""


@dataclass
class Company:
    """What a user has: events to send, a command line, and an application to look into."""

    folder: Path
    server: ServerProcess
    broker: EmbeddedBroker
    events: int = 0
    sent: list[Message] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "jml.toml"

    def event(self, kind: str, person_id: str, source: str = "hr/workday", **data: Any) -> Message:
        """An event that no other is."""
        self.events += 1
        at = datetime.now(UTC)
        envelope = Envelope(id=f"e{self.events}", source=source, type=f"jml.{kind}.v1", time=at, subject=person_id)
        body = orjson.dumps({"worker_id": person_id, **data})
        return Message(HR_EVENTS, person_id.encode(), body, envelope.headers())

    def joins(self, person_id: str, **attributes: str) -> Message:
        """A joiner."""
        given = {"user_name": person_id, "title": "Engineer", **attributes}
        return self.event("worker.joined", person_id, start_date="2026-01-05", attributes=given)

    def leaves(self, person_id: str, source: str = "hr/workday") -> Message:
        """A leaver, as of now."""
        return self.event("worker.left", person_id, source, ends_at=datetime.now(UTC).isoformat())

    @asynccontextmanager
    async def at_work(self, *roles: str) -> AsyncIterator["Work"]:
        """Run some roles."""
        config = load_config(self.config)
        async with open_runtime(config, broker=self.broker) as runtime:
            made = [role(name)(runtime) for name in roles]
            async with running(runtime, made):
                yield Work(self, runtime.publisher.publish, SqlSettling(runtime.database))

    async def jml(self, *arguments: str) -> Any:
        """What a command prints, as JSON; everything else is a failure."""
        command = [*JML, *arguments, "--config", str(self.config), "--json"]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=self.folder,
            env=ENVIRON,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async def accounts(self) -> Mapping[str, bool]:
        """What the application has: by user name, whether it is active."""
        found: dict[str, bool] = {}
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                query = {"startIndex": str(len(found) + 1), "count": "200"}
                page = (await client.get(f"{self.server.base_url}/Users", params=query)).json()
                rows = page.get("Resources") or []
                if not rows:
                    return found
                found |= {one["userName"]: one.get("active", True) for one in rows}

    def journal(self) -> Sequence[Mapping[str, Any]]:
        """Every request that the application answered, by its own witness."""
        return [json.loads(line) for line in (self.folder / "journal.jsonl").read_text().splitlines()]


@dataclass
class Work:
    """Roles that run."""

    company: Company
    publish: Callable[[Sequence[Message]], Awaitable[None]]
    settling: SqlSettling

    async def tell(self, *messages: Message) -> None:
        """Send events, and return when all are resolved."""
        before = await self.settling.settled()
        await self.publish(messages)

        async def resolved() -> bool:
            return await self.settling.settled() >= before + len(messages)

        await eventually(resolved)

    async def done(self) -> None:
        """Return when every account is what it should be."""

        async def none_left() -> bool:
            return await self.settling.undone() == 0

        await eventually(none_left)


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    """Return when it is so."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while not await look():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def company(
    folder: Path, *, more: str = "", settings: str = "", groups: str = "[]", latency: float = 0.0
) -> AsyncIterator[Company]:
    """From nothing to a running application and broker, and back."""
    broker = EmbeddedBroker()
    await asyncio.to_thread(broker.start)
    try:
        async with ServerProcess("plain", journal=folder / "journal.jsonl", latency=latency) as server:
            (folder / "jml.toml").write_text(
                CONFIG.format(folder=folder, base_url=server.base_url, more=more, settings=settings, groups=groups)
            )
            yield Company(folder, server, broker)
    finally:
        broker.stop()
