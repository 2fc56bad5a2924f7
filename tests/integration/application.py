"""Connected applications for tests of the connector: one in this process that can be told to misbehave, and others.

What an application holds is always read over HTTP, by a client that is not the orchestrator's.
"""

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import uvicorn

from orchestrator.demo.servers.asgi import BASE_PATH
from orchestrator.demo.servers.plain import Plain, Request, Response
from orchestrator.demo.servers.serve import Kind

TOKEN = "the-token-of-the-tests"
TOKEN_ENV = "JML_TEST_SERVER_TOKEN"
PAGE = 100
JSON = ((b"content-type", b"application/scim+json"),)
"""The headers of an answer."""

Behave = Callable[[Request], Awaitable[Response | None]]


class Held:
    """What an application holds, read page by page."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._headers = {
            "authorization": f"Bearer {TOKEN}",
            "content-type": "application/scim+json",
            "x-administrator": "yes",  # a simulated vendor shows what it really holds
        }

    async def all(self, kind: str) -> list[dict[str, Any]]:
        """Every resource of a type."""
        found: list[dict[str, Any]] = []
        async with self._client() as client:
            while True:
                query: dict[str, str | int] = {"startIndex": len(found) + 1, "count": PAGE}
                answer = (await client.get(f"/{kind}", params=query)).raise_for_status().json()
                found += (page := answer.get("Resources") or [])
                if not page or len(found) >= answer["totalResults"]:
                    return found

    async def user(self, person_id: str) -> dict[str, Any] | None:
        """A person's one account, by externalId."""
        found = [one for one in await self.all("Users") if one.get("externalId") == person_id]
        assert len(found) <= 1, f"{len(found)} accounts of {person_id}"
        return found[0] if found else None

    async def active(self, person_id: str) -> bool | None:
        """Whether the person can sign in; None without an account."""
        user = await self.user(person_id)
        return None if user is None else bool(user["active"])

    async def members(self, name: str) -> set[str]:
        """The externalIds of a group's members."""
        people = {str(one["id"]): one["externalId"] for one in await self.all("Users")}
        groups = [one for one in await self.all("Groups") if one["displayName"] == name]
        assert len(groups) == 1, f"{len(groups)} groups called {name}"
        return {people.get(str(one["value"]), "nobody") for one in groups[0].get("members") or []}

    async def put_in(self, **attributes: Any) -> str:
        """Somebody else makes an account; returns its id."""
        async with self._client() as client:
            answer = (await client.post("/Users", json={"active": True, **attributes})).raise_for_status()
            return str(answer.json()["id"])

    async def take_out(self, person_id: str) -> None:
        """Somebody else deletes a person's account."""
        user = await self.user(person_id)
        assert user is not None
        async with self._client() as client:
            (await client.delete(f"/Users/{user['id']}")).raise_for_status()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.base_url, headers=self._headers, timeout=30)


class Application(Held):
    """The server `plain` in this process. `behave` misbehaves; `calls` are those of the connector, in their order."""

    def __init__(self, make: Callable[[Behave], Plain] = lambda behave: Plain(behave=behave)) -> None:
        super().__init__("")
        self.plain = make(self._behave)
        self.behave: Behave | None = None
        self.calls: list[Request] = []

    async def _behave(self, request: Request) -> Response | None:
        if not any(name == b"user-agent" and value.startswith(b"jml") for name, value in request.headers):
            return None
        self.calls.append(request)
        return await self.behave(request) if self.behave else None

    def made(self) -> list[str]:
        """The connector's calls as `METHOD /Type`."""
        return [f"{call.method} /{call.path.split('/')[1]}" for call in self.calls]

    def faults(self, method: str, *answers: Response | Behave, path: str = "/Users") -> None:
        """The next calls of a method are answered so, then all is well again."""
        left = list(answers)

        async def behave(request: Request) -> Response | None:
            if not left or request.method != method or not request.path.startswith(path):
                return None
            answer = left.pop(0)
            return answer if isinstance(answer, Response) else await answer(request)

        self.behave = behave

    async def silence_after(self, request: Request) -> Response:
        """Do what is asked and never answer in time."""
        self.plain.handle(request)
        return await self.silence(request)

    async def failure_after(self, request: Request) -> Response:
        """Do what is asked and answer that it failed."""
        self.plain.handle(request)
        return Response(500)

    async def silence(self, request: Request) -> Response:
        """Do nothing and never answer in time."""
        await asyncio.sleep(30)
        return Response(500)

    @asynccontextmanager
    async def served(self, port: int = 0) -> AsyncIterator["Application"]:
        """Listen on loopback."""
        listener = socket.create_server(("127.0.0.1", port))
        config = uvicorn.Config(
            self.plain, lifespan="off", access_log=False, log_level="critical", timeout_graceful_shutdown=0
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}{BASE_PATH}"
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            await task


class Wire:
    """A connection to an application that can be cut: the next answer to `method` ends after so many bytes."""

    def __init__(self, target: str) -> None:
        url = httpx.URL(target)
        self._host, self._port = url.host, url.port or 80
        self._method: bytes | None = None
        self._bytes = 0
        self.base_url = ""

    def cut(self, method: str, *, after: int) -> None:
        """Once: the application does what it is asked, and the client is reset."""
        self._method, self._bytes = method.encode(), after

    @asynccontextmanager
    async def served(self) -> AsyncIterator["Wire"]:
        """Listen on loopback."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{BASE_PATH}"
        async with server:
            yield self

    async def _carry(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        application, requests = await asyncio.open_connection(self._host, self._port)
        cutting = False

        async def up() -> None:
            nonlocal cutting
            while data := await client.read(1 << 16):
                if self._method is not None and data.startswith(self._method):
                    cutting, self._method = True, None
                requests.write(data)
                await requests.drain()

        async def down() -> None:
            while data := await application.read(1 << 16):
                if cutting:
                    answers.write(data[: self._bytes])
                    await answers.drain()
                    reset(answers)
                    return
                answers.write(data)
                await answers.drain()

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            answers.close()
            requests.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST and not with FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def server_process(kind: Kind) -> Iterator[str]:
    """An application in a process of its own; yields its base URL. Not asyncio's, so that tests may share it."""
    command = [sys.executable, "-m", "orchestrator.demo.servers.serve", kind, "--token-env", TOKEN_ENV]
    environ = {**os.environ, TOKEN_ENV: TOKEN}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line.startswith("listening on "), line
            yield line.removeprefix("listening on ") + BASE_PATH
        finally:
            process.terminate()
            process.wait(15)
