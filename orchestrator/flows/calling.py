"""Calls to one application: within its budget, leavers first, none while the application asks us to wait.

`Gate` is the application's health as the lane sees it, `Turns` its concurrency and budget, `Caller` what the flows use.
A call passes the gate, waits for its turn, and looks at the gate again, which may have closed meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from orchestrator.domain.budget import Adaptive, Budget, kind_of
from orchestrator.domain.outcome import LONGEST_WAIT, asked_to_wait, classify
from orchestrator.errors import (
    Ambiguous,
    ApplicationDown,
    NotFoundPage,
    RateLimited,
    Rejected,
    ScimError,
    Unavailable,
)
from orchestrator.flows.turns import Turn, Turns
from orchestrator.ports import ApplicationHealth, Clock, ScimRequest, ScimResponse, ScimTransport

log = structlog.get_logger()

FIRST_PROBE_SECONDS = 1.0
LAST_PROBE_SECONDS = 60.0
WORTH_TELLING_SECONDS = 5.0
"""From this wait between two probes on, operators are told when the next one comes."""


class Gate:
    """Open, holding until an instant (Retry-After), closed until a probe succeeds, or stopped by an operator."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open = asyncio.Event()
        self._open.set()
        self._allowed = asyncio.Event()
        self._allowed.set()
        self.not_before: datetime | None = None
        self.reason = ""

    @property
    def paused(self) -> bool:
        """Whether the application as a whole is out of order."""
        return not self._open.is_set()

    @property
    def stopped(self) -> bool:
        """Whether an operator wants no call to go out."""
        return not self._allowed.is_set()

    @property
    def closed(self) -> bool:
        """Whether no call may go out now."""
        return self.paused or self.stopped or self.not_before is not None

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

    def stop(self, *, stopped: bool) -> None:
        """What an operator says. It stands above everything that a probe finds out."""
        if stopped:
            self._allowed.clear()
        else:
            self._allowed.set()

    async def allowed(self) -> None:
        """Return when neither an operator nor the application asks us to wait; it may still be out of order."""
        while True:
            await self._allowed.wait()
            if self.not_before is None:
                return
            if self.not_before <= self._clock.now():
                self.not_before = None
                return
            await self._clock.sleep_until(self.not_before)

    async def passed(self) -> None:
        """Return when a call may go out."""
        while True:
            await self._open.wait()
            await self.allowed()
            if not self.paused:
                return


class Calls(Protocol):
    """What the flows of one account need: a call, whichever way it goes."""

    async def call(
        self,
        request: ScimRequest,
        *,
        urgent: bool,
        correlation_id: str = "",
        may_send: Callable[[], Awaitable[None]] | None = None,
        whom: Collection[str] = (),
    ) -> ScimResponse:
        """See `Caller.call`."""
        ...

    def hurry(self, whom: Collection[str]) -> None:
        """See `Turns.hurry`."""
        ...


@dataclass
class Caller:
    """Sends calls to one application and turns answers into errors; see `domain.outcome.classify`.

    `on_health` is told when the application is paused and when it is open again.
    """

    transport: ScimTransport
    clock: Clock
    concurrency: int
    on_health: Callable[[ApplicationHealth], Awaitable[None]]
    app: str = ""
    budget: Budget = field(default_factory=Budget)
    longest_wait: timedelta = LONGEST_WAIT
    """A Retry-After that asks for more is cut to this."""
    gate: Gate = field(init=False)
    turns: Turns = field(init=False)
    adaptive: Adaptive | None = field(default=None, init=False)
    _throttled: bool = field(default=False, init=False)
    _probing: "asyncio.Task[None] | None" = field(default=None, init=False)
    _probe_after: float = field(init=False)
    _paused_at: datetime | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.gate = Gate(self.clock)
        self.turns = Turns(self.concurrency, self.budget)
        self._probe_after = FIRST_PROBE_SECONDS

    async def call(
        self,
        request: ScimRequest,
        *,
        urgent: bool,
        correlation_id: str = "",
        may_send: Callable[[], Awaitable[None]] | None = None,
        whom: Collection[str] = (),
        turn: Turn | None = None,
    ) -> ScimResponse:
        """Send when the gate is open and a slot is free. `may_send` is asked at the last moment and may raise; what it
        awaits holds the slot, so that nobody has to stand in line again afterwards.

        While the application is out of order the call waits for a probe to succeed, and is sent then. A call that is
        still forbidden after that is refused for its own sake. `whom` it is about, see `Turns.hurry`; `turn` is one
        that was taken already. Raises the other errors of `ports.ScimTransport` and `domain.outcome`; 404 and 409 are
        returned.
        """
        refused = 0
        kind = kind_of(request.method, request.path)
        while True:
            if turn is None:
                await self.gate.passed()
                turn = await self.turns.take(kind, urgent=urgent, whom=whom)
            try:
                if may_send is not None:
                    await may_send()
                if self.gate.closed:
                    continue  # it closed while we stood in line
                return await self._send(request, correlation_id, turn)
            except ApplicationDown as error:
                refused += 1
                if refused > 1 and error.status == 403:
                    raise Rejected("the application forbids this call (403) and allows others") from error
                await self.pause(error)
            finally:
                self.turns.end(turn)
                turn = None

    def hurry(self, whom: Collection[str]) -> None:
        """See `Turns.hurry`."""
        self.turns.hurry(whom)

    async def look(self, request: ScimRequest, *, urgent: bool = True) -> ScimResponse:
        """Send a question that may well be refused, and return whatever came back: no answer to it says anything of the
        application's health. Waits as every call does."""
        await self.gate.passed()
        turn = await self.turns.take(kind_of(request.method, request.path), urgent=urgent)
        try:
            self.turns.sends(turn)
            response = await self.transport.send(request)
            error = self._judge(response, turn)
            if isinstance(error, RateLimited | Unavailable) and error.not_before is not None:
                await self._hold(error.not_before, str(error))  # that much it says of every call
            return response
        finally:
            self.turns.end(turn)

    async def _send(self, request: ScimRequest, correlation_id: str, turn: Turn) -> ScimResponse:
        response, error = await self.exchange(request, turn, correlation_id=correlation_id)
        if error is not None:
            raise error
        return response

    async def exchange(
        self, request: ScimRequest, turn: Turn, *, correlation_id: str = "", operations: int = 1
    ) -> tuple[ScimResponse, ScimError | None]:
        """Send within a turn; what came back and what it means. `operations` is how many changes the call makes, which
        takes it as much longer. Raises what `ports.ScimTransport` does."""
        self.turns.sends(turn)
        response = await self.transport.send(request, correlation_id=correlation_id)
        if _is_page(response):
            return response, _not_scim(request, response)
        if response.status < 300 and request.method != "GET":
            self._probe_after = FIRST_PROBE_SECONDS
        return response, await self.understand(response, turn, operations=operations)

    async def understand(
        self, response: ScimResponse, turn: Turn | None = None, *, operations: int = 1
    ) -> ScimError | None:
        """What an answer means for whoever asked; what it means for everybody is obeyed."""
        error = self._judge(response, turn, operations)
        if isinstance(error, RateLimited | Unavailable) and error.not_before is not None:
            await self._hold(error.not_before, str(error))  # before anything is awaited: others are about to call
        elif self._throttled and self.gate.not_before is None:
            self._throttled = False
            if not isinstance(error, ApplicationDown):  # who is told waits for the store, and the gate has to close now
                await self.on_health(ApplicationHealth("open", "", self.clock.now()))
        return error

    def _judge(self, response: ScimResponse, turn: Turn | None = None, operations: int = 1) -> ScimError | None:
        """What the answer means, and how hard we may press from now on."""
        now, at = self.clock.now(), asyncio.get_running_loop().time()
        if self.adaptive is None:
            self.adaptive = Adaptive(at)
        adaptive = self.adaptive
        before = (adaptive.pace, adaptive.width)
        if response.status in (429, 503):
            adaptive.refused(at)
        elif turn is not None and turn.sent is not None:
            adaptive.answered((at - turn.sent) / operations, at)
        if adaptive.pace != before[0]:
            self.budget.adapt(adaptive.pace, at)
        if adaptive.width != before[1]:
            self.turns.widen(adaptive.width)
        wish = asked_to_wait(response.headers, now)
        if wish is not None and wish > now + self.longest_wait:
            log.warning("retry_after_cut", app=self.app, reason=f"the application asks us to wait until {wish}")
        own = now + timedelta(seconds=adaptive.own_wait)
        return classify(response.status, response.body, response.headers, now, longest=self.longest_wait, own=own)

    async def _hold(self, moment: datetime, reason: str) -> None:
        """Remember the instant for the next start as well: a restart is no excuse to call early."""
        if self.gate.hold_until(moment):
            self._throttled = True
            await self.on_health(ApplicationHealth("throttled", reason, self.clock.now(), moment))

    async def pause(self, error: ApplicationDown) -> None:
        """The application as a whole is out of order: nobody calls until a probe succeeds."""
        if self.gate.pause(str(error)):
            log.error("application_paused", app=self.app, reason=str(error))
            self._paused_at = self.clock.now()
            self._probing = asyncio.create_task(self._probe(), name="probe")
            await self._tell_paused()

    async def _tell_paused(self) -> None:
        next_probe = self.clock.now() + timedelta(seconds=self._probe_after)
        await self.on_health(
            ApplicationHealth("paused", self.gate.reason, self._paused_at, self.gate.not_before, next_probe=next_probe)
        )

    async def _probe(self) -> None:
        """Ask now and then whether the application is back. Any answer but a refusal counts.

        Where it lets us read and not write, the next change pauses it again: the wait grows until a change succeeds.
        """
        request = ScimRequest("GET", "/Users", query={"count": "1", "startIndex": "1"})
        while True:
            await asyncio.sleep(self._probe_after)
            await self.gate.allowed()  # a probe is a call like any other
            self._probe_after = min(self._probe_after * 2, LAST_PROBE_SECONDS)
            try:
                response = await self.transport.send(request)
            except (ApplicationDown, Unavailable, Ambiguous):
                await self._tell_if_long()
                continue
            error = self._judge(response)
            if isinstance(error, RateLimited | Unavailable) and error.not_before is not None:
                await self._hold(error.not_before, str(error))
            if not isinstance(error, ApplicationDown):
                break
            await self._tell_if_long()
        self.gate.resume()
        self._paused_at = None
        log.info("application_resumed", app=self.app)
        await self.on_health(ApplicationHealth("open", "", self.clock.now()))

    async def _tell_if_long(self) -> None:
        """Say when the next probe comes, where that is worth a write."""
        if self._probe_after >= WORTH_TELLING_SECONDS:
            await self._tell_paused()

    def go_on_pausing(self, reason: str, since: datetime | None = None) -> None:
        """Begin as another process left off: paused, until a probe finds the application open."""
        if self.gate.pause(reason):
            self._paused_at = since or self.clock.now()
            self._probing = asyncio.create_task(self._probe(), name="probe")

    async def close(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()


def _is_page(response: ScimResponse) -> bool:
    """Whether something for people answered: a log-in page, a proxy's "not found". SCIM is no HTML, so neither its
    success nor its 404 says anything about the account. A 204 is no page, whatever type it claims."""
    counts = (response.status < 300 and response.status != 204) or response.status in (404, 409)
    return counts and response.body is None and "html" in response.headers.get("content-type", "").lower()


def _not_scim(request: ScimRequest, response: ScimResponse) -> ScimError:
    told = f"the application answers with a page instead of SCIM ({response.status}): check base_url and its proxies"
    if request.method != "GET" and response.status < 300:
        return Ambiguous(told)
    return NotFoundPage(told) if response.status == 404 else Unavailable(told)
