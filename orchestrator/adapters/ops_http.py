"""Health and metrics of a process over HTTP, for orchestrators and Prometheus. Nothing here changes anything."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import sqlalchemy as sa
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orchestrator.bootstrap import Runtime
from orchestrator.errors import StoreUnavailable
from orchestrator.listening import listener

log = structlog.get_logger()

STORE_SECONDS = 3.0
ADVICE = (
    "each role on a machine serves its health on a port of its own: set [ops] port, or JML_OPS__PORT for one process "
    "(0 takes a free one)"
)


class OpsServer:
    """`/health/live`, `/health/ready` and `/metrics`.

    Live: the event loop answers and no handler has failed. Ready: the store answers and the consumers are connected.
    """

    def __init__(self, runtime: Runtime, roles: list[str]) -> None:
        self._runtime = runtime
        self._roles = roles

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until the end of the block.

        Raises UserError where the port is taken: a role that cannot be asked how it is does not start.
        """
        settings = self._runtime.config.ops
        taken = listener(settings.host, settings.port, ADVICE)
        config = uvicorn.Config(self, access_log=False, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        # The process has its own signal handlers, which drain the roles first.
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(server.serve([taken]), name="ops")
        try:
            yield
        finally:
            server.should_exit = True
            await task

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        path = scope.get("path", "")
        if path == "/metrics":
            await _answer(send, 200, generate_latest(), CONTENT_TYPE_LATEST)
            return
        if path in ("/health/live", "/health/ready"):
            problems = self._live() if path.endswith("live") else [*self._live(), *await self._ready()]
            body = {"roles": self._roles, "healthy": not problems, "problems": problems}
            await _answer(send, 503 if problems else 200, orjson.dumps(body), "application/json")
            return
        await _answer(send, 404, b'{"problems":["not found"]}', "application/json")

    def _live(self) -> list[str]:
        return ["a handler failed"] if self._runtime.consumers.failed.done() else []

    async def _ready(self) -> list[str]:
        problems = []
        try:
            async with asyncio.timeout(STORE_SECONDS), self._runtime.database.read() as connection:
                await connection.execute(sa.text("select 1"))
        except (StoreUnavailable, TimeoutError):
            problems.append(f"the database at {self._runtime.database.where} does not answer")
        if not await self._runtime.consumers.broker.ping(timeout=STORE_SECONDS):
            problems.append("Kafka does not answer")
        return problems


async def _answer(send: Any, status: int, body: bytes, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
