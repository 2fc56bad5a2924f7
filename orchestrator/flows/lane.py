"""The two lanes of one application: everything between its topics and its SCIM server."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.budget import Budget, Limit
from orchestrator.domain.correlation import Correlation
from orchestrator.domain.outcome import LONGEST_WAIT
from orchestrator.domain.retry import Backoff
from orchestrator.errors import StoreUnavailable
from orchestrator.flows.account_queues import DRAIN_SECONDS, AccountQueues
from orchestrator.flows.application import Application
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.bulk_calls import BulkCalls
from orchestrator.flows.calling import Caller, Calls
from orchestrator.flows.converge import PARKED_LEAVER, Converge
from orchestrator.flows.discovery import Discovery
from orchestrator.flows.group_commit import Loader, Saver
from orchestrator.flows.health_watch import HealthWatch
from orchestrator.flows.membership import Membership
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.metrics import PAUSED, PENDING
from orchestrator.ports import ApplicationHealth, Clock, ConvergeStore, ScimRequest, ScimResponse, ScimTransport
from schemas.audit import AuditKind
from schemas.topics import lane_topic

log = structlog.get_logger()

WIDTH_PER_SLOT = 12
"""Accounts under way per concurrent call: while some are called, others load, and many share one group commit."""


class Lanes:
    """The lanes of one application in one process. Subscribe `queues` to `topics`, attach it, then `start`."""

    def __init__(
        self,
        app: str,
        *,
        transport: ScimTransport,
        store: ConvergeStore,
        outbox: OutboxPublisher,
        clock: Clock,
        concurrency: int,
        backoff: Backoff,
        attempts: int | None = None,
        parked_leaver: Backoff = PARKED_LEAVER,
        members_per_patch: int = 500,
        limits: Sequence[Limit] = (),
        leaver_share: float = 0.2,
        longest_wait: timedelta = LONGEST_WAIT,
        application: Application | None = None,
        discover: bool = False,
        bulk: bool = False,
        watch: HealthWatch | None = None,
        correlation: Correlation | None = None,
    ) -> None:
        self.app = app
        self.topics = (lane_topic(app, "deprovision"), lane_topic(app, "provision"))
        self._store = store
        self._watch = watch or HealthWatch(store)
        self._clock = clock
        self._saver = Saver(store, app, outbox, AuditWriter(f"connector.{app}", clock.now()), clock)
        self._loader = Loader(store, app)
        now = asyncio.get_running_loop().time()
        self._caller = Caller(
            transport,
            clock,
            concurrency,
            self._on_health,
            app=app,
            budget=Budget(limits, leaver_share=leaver_share, now=now),
            longest_wait=longest_wait,
        )
        self.application = application or Application(dialects()[STANDARD])
        self._discovery = Discovery(app, self._caller, self.application) if discover else None
        self._membership = Membership(
            app,
            self._caller,
            store,
            clock,
            self.application,
            chunk=members_per_patch,
            on_waiting=self._go_on,
        )
        calls: Calls = BulkCalls(app, self._caller, self.application) if bulk else self._caller
        converge = Converge(
            app,
            calls,
            self._membership,
            self._loader,
            self._saver,
            clock,
            backoff=backoff,
            attempts=attempts,
            parked_leaver=parked_leaver,
            application=self.application,
            ready=self._discovery.ready if self._discovery else None,
            correlation=correlation,
        )
        self.queues = AccountQueues(
            converge,
            urgent=[lane_topic(app, "deprovision")],
            width=concurrency * WIDTH_PER_SLOT,
            is_stuck=self._is_stuck,
            on_share=self._caller.turns.resize,
            on_urgent=self._caller.turns.make_way,
            on_hurry=converge.hurry,
            beside=lambda: self._membership.waiting,
        )
        self._state = "open"
        self._telling = asyncio.Lock()
        PENDING.labels(app).set_function(lambda: self.queues.pending)

    async def start(self) -> None:
        """Take over what was known of the application: a restart is no excuse to call before Retry-After, and what is
        paused stays so, for operators too, until a probe succeeds."""
        health = await self._watch.listen(self.app, self._obey)
        if health is not None:
            self._obey(health)
            if health.state == "paused":
                self._state = "paused"
                self._caller.go_on_pausing(health.reason, health.since)

    def _go_on(self) -> None:
        self.queues.go_on()

    def _obey(self, health: ApplicationHealth) -> None:
        """What the application asked of any process, and what an operator says, binds this one as well."""
        gate = self._caller.gate
        if health.not_before is not None and health.not_before > self._clock.now():
            gate.hold_until(health.not_before)
        if gate.stopped is not (health.stop is not None):
            gate.stop(stopped=health.stop is not None)
            log.info("application_stopped" if health.stop else "application_started", app=self.app)
        PAUSED.labels(self.app).set(gate.paused or gate.stopped)

    async def application_is_known(self) -> None:
        """Return when the application has been asked what it is, where it is to be asked."""
        if self._discovery is not None:
            await self._discovery.ready()

    async def ask(self, request: ScimRequest) -> ScimResponse:
        """Send one question by this lane's rules, behind everything that takes access away."""
        return await self._caller.call(request, urgent=False)

    @property
    def health(self) -> ApplicationHealth:
        """How the application is doing as this process sees it."""
        gate = self._caller.gate
        state = "paused" if gate.paused or gate.stopped else "open"
        return ApplicationHealth(state, gate.reason, None, gate.not_before)

    def _is_stuck(self) -> bool:
        """Whether a drain would wait in vain: no call goes out before it has to end."""
        gate, end = self._caller.gate, self._clock.now() + timedelta(seconds=DRAIN_SECONDS)
        return gate.paused or gate.stopped or (gate.not_before is not None and gate.not_before > end)

    async def close(self) -> None:
        """Finish what is under way, then stop; before the broker is stopped."""
        await self._watch.leave(self.app)
        await self.queues.close()
        await self._membership.close()
        if self._discovery is not None:
            await self._discovery.close()
        await self._saver.drain()
        await self._loader.close()
        await self._caller.close()

    async def _on_health(self, health: ApplicationHealth) -> None:
        async with self._telling:  # what is told later must not be known earlier
            await self._tell(health)

    async def _tell(self, health: ApplicationHealth) -> None:
        PAUSED.labels(self.app).set(health.state == "paused" or self._caller.gate.stopped)
        kinds = {"paused": AuditKind.APPLICATION_PAUSED, "open": AuditKind.APPLICATION_RESUMED}
        again = health.state == self._state == "paused"  # only the next probe is news
        self._state = health.state
        if not again and (kind := kinds.get(health.state)):
            details = {"reason": health.reason} if health.reason else None
            # Before the row: should we die in between, whoever begins after us finds out again, and says so.
            at = health.since or self._clock.now()  # it may have waited for what was told before it
            await self._saver.note(Entry(kind, at, "connector", app=self.app, details=details))
        try:
            await self._store.save_health(self.app, health)
        except StoreUnavailable as error:
            log.warning("health_not_saved", app=self.app, reason=error.code)


async def close_all(lanes: list[Lanes]) -> None:
    """Close the lanes of all applications at once: their drains share one grace period."""
    await asyncio.gather(*(lane.close() for lane in lanes))
