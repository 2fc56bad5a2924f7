"""Calls to one application: at most so many at once, leavers first, none while the application asks us to wait.

`Gate` is the application's health as the lane sees it, `Slots` its concurrency, `Caller` what the flows use.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from orchestrator.domain.outcome import classify
from orchestrator.errors import Ambiguous, ApplicationDown, RateLimited, Rejected, Unavailable
from orchestrator.ports import ApplicationHealth, Clock, ScimRequest, ScimResponse, ScimTransport

log = structlog.get_logger()

FIRST_PROBE_SECONDS = 1.0
LAST_PROBE_SECONDS = 60.0


class Slots:
    """A semaphore with two queues: whoever takes access away goes ahead of whoever gives it."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def take(self, *, urgent: bool) -> None:
        """Wait for a slot."""
        if self._free > 0:
            self._free -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give_back()  # it was handed to us in the moment of cancellation
            raise

    def give_back(self) -> None:
        """Hand the slot to the next in line."""
        for queue in (self._urgent, self._others):
            while queue:
                waiter = queue.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    return
        self._free += 1


class Gate:
    """Open, holding until an instant (Retry-After), or closed until a probe succeeds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open = asyncio.Event()
        self._open.set()
        self.not_before: datetime | None = None
        self.reason = ""

    @property
    def paused(self) -> bool:
        """Whether the application as a whole is out of order."""
        return not self._open.is_set()

    def hold_until(self, moment: datetime) -> bool:
        """No call before `moment`; False when that was known already."""
        if self.not_before is not None and moment <= self.not_before:
            return False
        self.not_before = moment
        return True

    def pause(self, reason: str) -> bool:
        """Close; False when it was closed already."""
        first = self._open.is_set()
        self.reason = reason
        self._open.clear()
        return first

    def resume(self) -> None:
        """Open again."""
        self.reason = ""
        self._open.set()

    async def passed(self) -> None:
        """Return when a call may go out."""
        while True:
            await self._open.wait()
            if self.not_before is None:
                return
            if self.not_before <= self._clock.now():
                self.not_before = None
                return
            await self._clock.sleep_until(self.not_before)


@dataclass
class Caller:
    """Sends calls to one application and turns answers into errors; see `domain.outcome.classify`.

    `on_health` is told when the application is paused and when it is open again.
    """

    transport: ScimTransport
    clock: Clock
    concurrency: int
    on_health: Callable[[ApplicationHealth], Awaitable[None]]
    gate: Gate = field(init=False)
    slots: Slots = field(init=False)
    _probing: "asyncio.Task[None] | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.clock)
        self.slots = Slots(self.concurrency)

    async def call(
        self,
        request: ScimRequest,
        *,
        urgent: bool,
        correlation_id: str = "",
        may_send: Callable[[], None] | None = None,
    ) -> ScimResponse:
        """Send when the gate is open and a slot is free. `may_send` is asked at the last moment and may raise.

        While the application is out of order the call waits for a probe to succeed, and is sent then. A call that is
        still forbidden after that is refused for its own sake. Raises the other errors of `ports.ScimTransport` and
        `domain.outcome`; 404 and 409 are returned.
        """
        refused = 0
        while True:
            await self.gate.passed()
            await self.slots.take(urgent=urgent)
            try:
                if self.gate.paused or self.gate.not_before is not None:
                    continue  # it closed while we stood in line
                if may_send is not None:
                    may_send()
                return await self._send(request, correlation_id)
            except ApplicationDown as error:
                refused += 1
                if refused > 1 and error.status == 403:
                    raise Rejected("the application forbids this call (403) and allows others") from error
                await self._pause(error)
            finally:
                self.slots.give_back()

    async def _send(self, request: ScimRequest, correlation_id: str) -> ScimResponse:
        response = await self.transport.send(request, correlation_id=correlation_id)
        if response.status < 300:
            return response
        error = classify(response.status, response.body, response.headers, self.clock.now())
        if isinstance(error, RateLimited | Unavailable) and error.not_before is not None:
            await self._hold(error.not_before, str(error))
        if error is not None:
            raise error
        return response

    async def _hold(self, moment: datetime, reason: str) -> None:
        """Remember the instant for the next start as well: a restart is no excuse to call early."""
        if self.gate.hold_until(moment):
            await self.on_health(ApplicationHealth("throttled", reason, self.clock.now(), moment))

    async def _pause(self, error: ApplicationDown) -> None:
        if self.gate.pause(str(error)):
            log.error("application_paused", reason=str(error))
            self._probing = asyncio.create_task(self._probe(), name="probe")
            await self.on_health(ApplicationHealth("paused", str(error), self.clock.now()))

    async def _probe(self) -> None:
        """Ask now and then whether the application is back. Any answer but a refusal counts."""
        wait = FIRST_PROBE_SECONDS
        request = ScimRequest("GET", "/Users", query={"count": "1", "startIndex": "1"})
        while True:
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_PROBE_SECONDS)
            try:
                response = await self.transport.send(request)
            except (ApplicationDown, Unavailable, Ambiguous):
                continue
            if not isinstance(
                classify(response.status, response.body, response.headers, self.clock.now()), ApplicationDown
            ):
                break
        self.gate.resume()
        log.info("application_resumed")
        await self.on_health(ApplicationHealth("open", "", self.clock.now()))

    async def close(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()
