"""Run one connected application, in this process (`serve`) or in one of its own (`ServerProcess`).

python -m orchestrator.demo.servers.serve plain --port 8080 --journal plain.jsonl --token-env SCIM_TOKEN
"""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import uvicorn

from orchestrator.errors import UserError
from orchestrator.listening import listener

from .asgi import BASE_PATH, App, Bearer, Latency
from .journal import Journal

Kind = Literal["scim2", "django", "plain"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_READY = "listening on "
_DRAIN_SECONDS = 5
# uvicorn's 5 would close pooled connections under a client that pauses, and each is an ambiguous POST to settle.
_KEEP_ALIVE_SECONDS = 75


def build(kind: Kind, *, journal: Path | None = None, token: str | None = None, latency: float = 0.0) -> App:
    """Return one application with what stands in front of it, the witness outermost."""
    app = _application(kind)
    if latency:
        app = Latency(app, latency)
    if token:
        app = Bearer(app, token)
    if journal:
        app = Journal(app, journal)
    return app


def _application(kind: Kind) -> App:
    # Imported on demand: Django configures itself once per process, and pydantic's models take a second to build.
    if kind == "scim2":
        from . import scim2

        return scim2.application()
    if kind == "django":
        from . import django_app

        return django_app.application()
    from . import plain

    return plain.Plain()


class _AnnouncingServer(uvicorn.Server):
    """Say where we listen once requests are answered; whoever started us waits for that line."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        sys.stdout.write(f"{_READY}http://{host}:{port}\n")
        sys.stdout.flush()


def serve(
    kind: Kind,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    journal: Path | None = None,
    token_env: str | None = None,
    latency: float = 0.0,
) -> None:
    """Serve one application until SIGTERM. Port 0 takes a free one. Without `token_env` everybody is let in.

    Raises UserError where the address cannot be had, and where the variable holds no token.
    """
    token = None
    if token_env:
        token = os.environ.get(token_env)
        if not token:
            raise UserError(f"{token_env} is not set: it must hold the bearer token to accept")
    app = build(kind, journal=journal, token=token, latency=latency)
    config = uvicorn.Config(
        app,
        access_log=False,
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    # Ctrl-C, which uvicorn raises again once it has shut down, is no error here.
    with listener(host, port, "name another --port") as taken, suppress(KeyboardInterrupt):
        _AnnouncingServer(config).run(sockets=[taken])


class ServerProcess:
    """A connected application in a process of its own, for demos and tests.

    The child inherits our environment, `environ` added, and our stderr; its stdout is the one line we wait for.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        port: int = 0,
        journal: Path | None = None,
        token_env: str | None = None,
        latency: float = 0.0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.journal = journal
        self._arguments = [kind, "--port", str(port), "--latency", str(latency)]
        if journal:
            self._arguments += ["--journal", str(journal)]
        if token_env:
            self._arguments += ["--token-env", token_env]
        self._environ = dict(environ or {})
        self._process: asyncio.subprocess.Process | None = None
        self._origin = ""

    @property
    def base_url(self) -> str:
        """The SCIM base URL, once started."""
        if not self._origin:
            raise RuntimeError(f"the {self.kind} server is not running")
        return self._origin + BASE_PATH

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"the {self.kind} server is not running")
        return self._process.pid

    async def start(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109  (a bound on the child, not on the caller)
        """Start the process and return when it answers requests."""
        # The child must find this package wherever we were started, installed or not.
        root = str(Path(__file__).parents[3])
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{__package__}.serve",
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environ, "PYTHONPATH": search},
        )
        try:
            async with asyncio.timeout(timeout):
                self._origin = await self._announced()
        except BaseException:
            await self.stop()
            raise

    async def _announced(self) -> str:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the process has no stdout to announce itself on")
        line = (await self._process.stdout.readline()).decode().strip()
        if not line.startswith(_READY):
            raise RuntimeError(f"the {self.kind} server ended before it listened; its stderr says why")
        return line.removeprefix(_READY)

    async def stop(self) -> None:
        """Let the process finish what it is answering, and end it if that takes too long. Stopping twice is fine."""
        process, self._process, self._origin = self._process, None, ""
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS + 5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.demo.servers.serve", description=__doc__)
    parser.add_argument("kind", choices=KINDS, help="which implementation")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on, 0 for a free one (default)")
    parser.add_argument("--journal", type=Path, help="append every answered request to this JSON-lines file")
    parser.add_argument("--token-env", help="environment variable with the bearer token to require")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds to wait before every answer")
    try:
        serve(**vars(parser.parse_args(arguments)))
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
