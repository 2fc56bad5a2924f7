"""Changes of several accounts in one Bulk request (RFC 7644, section 3.7), below the flows of the accounts and above
the transport: each of them sees the answer to its own operation and knows of no other.

Nobody waits for company. When a change gets its turn, those that stand in line behind it for the same limit go along;
one that is alone goes as a call of its own. Calls that take access away never take part, and a slot is left for them.
See decision 0031.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import ceil

import structlog

from orchestrator.domain.budget import CallKind, kind_of
from orchestrator.domain.bulk import (
    MOST_BYTES,
    MOST_OPERATIONS,
    PATH,
    Answered,
    Operation,
    request_body,
    taken_along,
    taken_apart,
)
from orchestrator.errors import Ambiguous, ApplicationDown, RateLimited, ScimError, Unavailable
from orchestrator.flows.account_call import all_asked
from orchestrator.flows.application import Application
from orchestrator.flows.calling import Caller
from orchestrator.flows.turns import Turn
from orchestrator.metrics import BULK_OPERATIONS
from orchestrator.ports import ScimRequest, ScimResponse

log = structlog.get_logger()

FAILURES = 3
"""So many requests in a row that failed as a whole, and Bulk is not used any more."""
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_BUSY = frozenset({408, 425, 429, 503})
"""Statuses that speak of the application's state and not of Bulk."""
_NO_BULK = frozenset({403, 404, 405, 501})
"""Statuses by which an application says that it has no Bulk, or none for us."""


class _Next(Enum):
    """What a change does whose operation was not carried out for a reason that is none of its own."""

    AGAIN = "stand in line again"
    ALONE = "go as a call of its own"


@dataclass(eq=False, slots=True)
class _Rider:
    """One change that waits for its turn, or goes along in another one's."""

    operation: Operation
    may_send: Callable[[], Awaitable[None]] | None
    turn: Turn
    answer: "asyncio.Future[ScimResponse | _Next]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def gets(self, outcome: ScimResponse | _Next | BaseException) -> None:
        """It ends so, unless it has ended already."""
        if self.answer.done():
            return
        if isinstance(outcome, BaseException):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class BulkCalls:
    """`Calls` over a `Caller`, for an application whose operator wants Bulk."""

    def __init__(self, app: str, caller: Caller, application: Application) -> None:
        self._app = app
        self._caller = caller
        self._application = application
        self._lines: dict[CallKind, dict[_Rider, None]] = {kind: {} for kind in CallKind}
        self._under_way = 0
        self._begin()

    def _begin(self) -> None:
        """What was learned of the application's Bulk holds until it is discovered anew."""
        self._found = self._application.found
        known = self._application.capabilities
        self._most = self._allowed = min(known.bulk_operations or MOST_OPERATIONS, MOST_OPERATIONS)
        self._bytes = known.bulk_bytes or MOST_BYTES
        self._failures = 0
        self._missed = False

    async def call(
        self,
        request: ScimRequest,
        *,
        urgent: bool,
        correlation_id: str = "",
        may_send: Callable[[], Awaitable[None]] | None = None,
        whom: Collection[str] = (),
    ) -> ScimResponse:
        """See `Caller.call`: the same answers and errors, whether the call goes alone or not."""
        turn: Turn | None = None
        if not urgent and request.method in _WRITES:
            kind = kind_of(request.method, request.path)
            while self._takes(kind):
                await self._caller.gate.passed()
                rider = _Rider(_operation(request), may_send, self._caller.turns.line_up(kind, urgent=False, whom=whom))
                if await self._leads(rider, self._lines[kind]):
                    others = self._others(rider, kind)
                    if not others:
                        turn = rider.turn
                        break
                    await self._carry([rider, *others], rider.turn)
                outcome = await rider.answer
                if isinstance(outcome, ScimResponse):
                    return outcome
                if outcome is _Next.ALONE:
                    break
        return await self._caller.call(
            request, urgent=urgent, correlation_id=correlation_id, may_send=may_send, whom=whom, turn=turn
        )

    def hurry(self, whom: Collection[str]) -> None:
        """See `Turns.hurry`: where one of them leads, others still go along."""
        self._caller.hurry(whom)

    def _takes(self, kind: CallKind) -> bool:
        """Whether such a change may go together with others, as far as anybody knows."""
        if kind not in (CallKind.USER_CREATE, CallKind.USER_WRITE):
            return False  # changes of groups are merged across people before they come here
        if self._application.found is not self._found:
            self._begin()
        if self._application.capabilities.bulk:
            return self._most > 1
        if not self._missed:
            self._missed = True
            log.warning("bulk_missing", app=self._app, reason="the application does not say that it has Bulk")
        return False

    async def _leads(self, rider: _Rider, line: dict[_Rider, None]) -> bool:
        """Wait in line: True when it is this one's turn, False when it went along in another one's."""
        line[rider] = None
        try:
            return await self._caller.turns.granted(rider.turn)
        except asyncio.CancelledError:
            rider.answer.cancel()
            raise
        finally:
            line.pop(rider, None)

    def _others(self, first: _Rider, kind: CallKind) -> list[_Rider]:
        """Those who go along, out of their line. Where nothing but slots is scarce, each slot gets its part of the
        line: an application works on many calls at once, and on the operations of one after the other."""
        line, turns = [one for one in self._lines[kind] if not one.turn.granted.done()], self._caller.turns
        if not line or self._under_way + 2 > turns.open:
            return []  # the last slot is for a call that is over soon
        most = self._most
        if not turns.is_scarce(kind):
            most = min(most, 1 + ceil(len(line) / turns.open))
        chosen = taken_along(
            first.operation,
            (one.operation for one in line),
            self._application.codec.BULK_SCHEMA,
            operations=most,
            size=self._bytes,
        )
        return [line[index] for index in chosen if turns.give_up(line[index].turn)]

    # --- one request ----------------------------------------------------------------------------------------------

    async def _carry(self, riders: Sequence[_Rider], turn: Turn) -> None:
        """Send what all of them want within one turn. Each has its answer afterwards, however this ends."""
        self._under_way += 1
        try:
            ready = await _ready(riders)
            if self._caller.gate.closed:
                _tell(ready, _Next.AGAIN)
            elif ready:
                await self._send(ready, turn)
        finally:
            self._under_way -= 1
            self._caller.turns.end(turn)
            for rider in riders[1:]:  # only a cancellation of the first one leaves anything to say
                rider.gets(_Next.AGAIN if turn.sent is None else Ambiguous("the call was cut off on our side"))

    async def _send(self, riders: Sequence[_Rider], turn: Turn) -> None:
        operations = [rider.operation for rider in riders]
        request = ScimRequest("POST", PATH, request_body(self._application.codec.BULK_SCHEMA, operations))
        BULK_OPERATIONS.labels(self._app).observe(len(operations))
        try:
            response, error = await self._caller.exchange(request, turn, operations=len(operations))
        except ApplicationDown as down:
            await self._caller.pause(down)
            return _tell(riders, _Next.AGAIN)
        except Ambiguous as lost:
            self._narrow(max(len(operations) // 2, 2), "a Bulk request was not answered in time")
            return _fail(riders, lost)
        except Unavailable as unsent:
            return _fail(riders, unsent)
        status = response.status
        if isinstance(error, ApplicationDown) and status == 401:
            await self._caller.pause(error)
            return _tell(riders, _Next.AGAIN)
        if status == 413:
            self._allowed = min(self._allowed, len(operations) // 2)
            self._narrow(self._allowed, "the application finds a Bulk request too large (413)")
            return _tell(riders, _Next.AGAIN)
        if error is not None and status in _BUSY:
            return _fail(riders, error)
        if status in _NO_BULK or 300 <= status < 400:
            self._switch_off(f"the application refuses Bulk requests ({status})")
            return _tell(riders, _Next.ALONE)
        answers = taken_apart(operations, response.body) if status < 300 else None
        if answers is not None:
            self._failures = 0
            if len(operations) == self._most:
                self._most = min(self._most + ceil(self._most / 10), self._allowed)
            return await self._hand_out(riders, response, answers)
        self._failures += 1
        if self._failures >= FAILURES:
            self._switch_off(f"{FAILURES} Bulk requests in a row failed as a whole, the last with {status}")
        if 400 <= status < 500:  # nothing was done, and perhaps one of them is to blame: each has to find out
            return _tell(riders, _Next.ALONE)
        return _fail(riders, error or Ambiguous(f"the application answers a Bulk request with {status} and no answers"))

    async def _hand_out(
        self, riders: Sequence[_Rider], whole: ScimResponse, answers: Sequence[Answered | None]
    ) -> None:
        """To each its own. What was left out may have been done: the application says neither."""
        wait = whole.headers.get("retry-after")
        for rider, answer in zip(riders, answers, strict=True):
            if answer is None:
                rider.gets(Ambiguous("the answer to a Bulk request leaves an operation out"))
                continue
            headers = {**answer.headers, "retry-after": wait} if wait and answer.status in _BUSY else answer.headers
            response = ScimResponse(answer.status, answer.body, headers, in_bulk=True)
            error = await self._caller.understand(response)
            if isinstance(error, ApplicationDown):
                rider.gets(_Next.ALONE)  # what is forbidden to one operation does not close an application
            else:
                rider.gets(error or response)

    def _narrow(self, operations: int, reason: str) -> None:
        """Fewer at once from now on; after a success a few more, up to what is allowed."""
        if operations < 2:
            self._switch_off(reason)
        elif operations < self._most:
            self._most = operations
            log.warning("bulk_narrowed", app=self._app, reason=f"{reason}: {operations} operations at most")

    def _switch_off(self, reason: str) -> None:
        if self._most > 1:
            self._most = self._allowed = 1
            log.warning("bulk_switched_off", app=self._app, reason=f"{reason}: until the next discovery calls go alone")


def _operation(request: ScimRequest) -> Operation:
    return Operation(request.method, request.path, request.body, (request.headers or {}).get("If-Match"))


async def _ready(riders: Sequence[_Rider]) -> list[_Rider]:
    """Those who may still be sent, all asked at once; the others have their answer."""
    said = await all_asked([rider.may_send or _always for rider in riders])
    for rider, refusal in zip(riders, said, strict=True):
        if refusal is not None:
            rider.gets(refusal)
    return [rider for rider in riders if not rider.answer.done()]


async def _always() -> None:
    """It may be sent."""


def _tell(riders: Sequence[_Rider], outcome: _Next) -> None:
    for rider in riders:
        rider.gets(outcome)


def _fail(riders: Sequence[_Rider], error: ScimError) -> None:
    """Each gets an error of its own: they are raised in different tasks."""
    for rider in riders:
        rider.gets(_like(error))


def _like(error: ScimError) -> ScimError:
    if isinstance(error, RateLimited):
        return RateLimited(str(error), error.not_before)
    if isinstance(error, Unavailable):
        return Unavailable(str(error), error.not_before)
    return type(error)(str(error))
