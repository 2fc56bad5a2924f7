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
from orchestrator.errors import Ambiguous, ApplicationDown, RateLimited, Rejected, ScimError, Unavailable
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
    _throttled: bool = field(default=False, init=False)
    _probing: "asyncio.Task[None] | None" = field(default=None, init=False)
    _probe_after: float = field(init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.clock)
        self.slots = Slots(self.concurrency)
        self._probe_after = FIRST_PROBE_SECONDS

    async def call(
        self,
        request: ScimRequest,
        *,
        urgent: bool,
        correlation_id: str = "",
        may_send: Callable[[], Awaitable[None]] | None = None,
    ) -> ScimResponse:
        """Send when the gate is open and a slot is free. `may_send` is asked at the last moment and may raise; what it
        awaits holds the slot, so that nobody has to stand in line again afterwards.

        While the application is out of order the call waits for a probe to succeed, and is sent then. A call that is
        still forbidden after that is refused for its own sake. Raises the other errors of `ports.ScimTransport` and
        `domain.outcome`; 404 and 409 are returned.
        """
        refused = 0
        while True:
            await self.gate.passed()
            await self.slots.take(urgent=urgent)
            try:
                if may_send is not None:
                    await may_send()
                if self.gate.paused or self.gate.not_before is not None:
                    continue  # it closed while we stood in line
                return await self._send(request, correlation_id)
            except ApplicationDown as error:
                refused += 1
                if refused > 1 and error.status == 403:
                    raise Rejected("the application forbids this call (403) and allows others") from error
                await self._pause(error)
            finally:
                self.slots.give_back()

    async def look(self, request: ScimRequest) -> ScimResponse:
        """Send a question that may well be refused, and return whatever came back: no answer to it says anything of the
        application's health. Waits as every call does."""
        await self.gate.passed()
        await self.slots.take(urgent=True)
        try:
            return await self.transport.send(request)
        finally:
            self.slots.give_back()

    async def _send(self, request: ScimRequest, correlation_id: str) -> ScimResponse:
        response = await self.transport.send(request, correlation_id=correlation_id)
        if _is_page(response):
            raise _not_scim(request, response)
        if response.status < 300 and request.method != "GET":
            self._probe_after = FIRST_PROBE_SECONDS
        error = classify(response.status, response.body, response.headers, self.clock.now())
        if isinstance(error, RateLimited | Unavailable) and error.not_before is not None:
            await self._hold(error.not_before, str(error))  # before anything is awaited: others are about to call
        elif self._throttled and self.gate.not_before is None:
            self._throttled = False
            await self.on_health(ApplicationHealth("open", "", self.clock.now()))
        if error is not None:
            raise error
        return response

    async def _hold(self, moment: datetime, reason: str) -> None:
        """Remember the instant for the next start as well: a restart is no excuse to call early."""
        if self.gate.hold_until(moment):
            self._throttled = True
            await self.on_health(ApplicationHealth("throttled", reason, self.clock.now(), moment))

    async def _pause(self, error: ApplicationDown) -> None:
        if self.gate.pause(str(error)):
            log.error("application_paused", reason=str(error))
            self._probing = asyncio.create_task(self._probe(), name="probe")
            await self.on_health(ApplicationHealth("paused", str(error), self.clock.now()))

    async def _probe(self) -> None:
        """Ask now and then whether the application is back. Any answer but a refusal counts.

        Where it lets us read and not write, the next change pauses it again: the wait grows until a change succeeds.
        """
        request = ScimRequest("GET", "/Users", query={"count": "1", "startIndex": "1"})
        while True:
            await asyncio.sleep(self._probe_after)
            while (moment := self.gate.not_before) is not None and moment > self.clock.now():
                await self.clock.sleep_until(moment)  # a probe is a call like any other
            self._probe_after = min(self._probe_after * 2, LAST_PROBE_SECONDS)
            try:
                response = await self.transport.send(request)
            except (ApplicationDown, Unavailable, Ambiguous):
                continue
            error = classify(response.status, response.body, response.headers, self.clock.now())
            if isinstance(error, RateLimited | Unavailable) and error.not_before is not None:
                await self._hold(error.not_before, str(error))
            if not isinstance(error, ApplicationDown):
                break
        self.gate.resume()
        log.info("application_resumed")
        await self.on_health(ApplicationHealth("open", "", self.clock.now()))

    def go_on_pausing(self, reason: str) -> None:
        """Begin as another process left off: paused, until a probe finds the application open."""
        if self.gate.pause(reason):
            self._probing = asyncio.create_task(self._probe(), name="probe")

    async def close(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()


def _is_page(response: ScimResponse) -> bool:
    """Whether something for people answered: a log-in page, a proxy's "not found". No SCIM server speaks HTML, so
    neither its success nor its 404 says anything about the account. A 204 is no page, whatever type it claims."""
    counts = (response.status < 300 and response.status != 204) or response.status in (404, 409)
    return counts and response.body is None and "html" in response.headers.get("content-type", "").lower()


def _not_scim(request: ScimRequest, response: ScimResponse) -> ScimError:
    told = f"the application answers with a page instead of SCIM ({response.status}): check base_url and its proxies"
    if request.method != "GET" and response.status < 300:
        return Ambiguous(told)
    return Unavailable(told)
