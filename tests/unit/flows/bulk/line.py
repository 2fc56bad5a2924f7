"""A server with Bulk, and changes that stand in line together before it."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.domain.budget import CallKind
from orchestrator.domain.discovery import Capabilities
from orchestrator.flows.bulk_calls import BulkCalls
from orchestrator.ports import ScimRequest, ScimResponse
from tests.unit.flows.fakes import FakeTransport, until

BULK = Capabilities(bulk=True, bulk_operations=50)
GET = ScimRequest("GET", "/Users/1")


def post(name: str) -> ScimRequest:
    return ScimRequest("POST", "/Users", {"userName": name})


def patch(user_id: str, **more: Any) -> ScimRequest:
    return ScimRequest("PATCH", f"/Users/{user_id}", {"title": user_id, **more})


class Server:
    """Answers single calls and Bulk requests. `whole` are answers to the next Bulk requests, `single` says what becomes
    of an operation by its userName or path, `row` what is told of it. Bulk requests wait while `held` is clear."""

    def __init__(self) -> None:
        self.whole: list[ScimResponse | Exception] = []
        self.single: dict[str, ScimResponse] = {}
        self.row: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda row: row
        self.held = asyncio.Event()
        self.held.set()
        self.done: list[str] = []

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        if request.path != "/Bulk":
            return self._carry_out(request.method, request.path, dict(request.body or {}))
        await self.held.wait()
        if self.whole:
            answer = self.whole.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        rows = []
        for one in (request.body or {})["Operations"]:
            answer = self._carry_out(one["method"], one["path"], one.get("data", {}))
            told = {"method": one["method"], "bulkId": one["bulkId"], "status": str(answer.status)}
            row = self.row(told if answer.body is None else {**told, "response": answer.body})
            rows += [] if row is None else [row]
        return ScimResponse(200, {"Operations": rows})

    def _carry_out(self, method: str, path: str, body: dict[str, Any]) -> ScimResponse:
        name = body.get("userName", path)
        self.done.append(name)
        return self.single.get(name, ScimResponse(201 if method == "POST" else 200, {"id": f"id-{name}"}))


Told = list[ScimResponse | BaseException]


async def together(calls: BulkCalls, requests: Iterable[ScimRequest], **more: Any) -> Told:
    """What comes of calls that are made at once: the first one goes alone, the budget has the others wait."""
    await until(lambda: not calls._caller.turns.is_scarce(CallKind.USER_CREATE))
    return await asyncio.gather(
        *(calls.call(request, urgent=False, **more) for request in requests), return_exceptions=True
    )


def sent(transport: FakeTransport) -> list[int]:
    """The operations of each call; 1 is a call of its own."""
    return [len((call.body or {})["Operations"]) if call.path == "/Bulk" else 1 for call in transport.calls]


def statuses(told: Told) -> list[int]:
    return [one.status for one in told if isinstance(one, ScimResponse)]


NAMES = [f"p{number}" for number in range(12)]
