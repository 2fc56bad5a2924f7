"""The two lanes of one application: everything between its topics and its SCIM server."""

import asyncio
from datetime import timedelta

import structlog

from orchestrator.dialects import STANDARD, dialects
from orchestrator.domain.retry import Backoff
from orchestrator.errors import StoreUnavailable
from orchestrator.flows.account_queues import DRAIN_SECONDS, AccountQueues
from orchestrator.flows.application import Application
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.calling import Caller
from orchestrator.flows.converge import Converge
from orchestrator.flows.discovery import Discovery
from orchestrator.flows.group_commit import Loader, Saver
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
        members_per_patch: int = 500,
        application: Application | None = None,
        discover: bool = False,
    ) -> None:
        self.app = app
        self.topics = (lane_topic(app, "deprovision"), lane_topic(app, "provision"))
        self._store = store
        self._clock = clock
        self._saver = Saver(store, app, outbox, AuditWriter(f"connector.{app}", clock.now()), clock)
        self._loader = Loader(store, app)
        self._caller = Caller(transport, clock, concurrency, self._on_health)
        self.application = application or Application(dialects()[STANDARD])
        self._discovery = Discovery(app, self._caller, self.application) if discover else None
        self._membership = Membership(app, self._caller, store, clock, self.application, chunk=members_per_patch)
        converge = Converge(
            app,
            self._caller,
            self._membership,
            self._loader,
            self._saver,
            clock,
            backoff=backoff,
            attempts=attempts,
            application=self.application,
            ready=self._discovery.ready if self._discovery else None,
        )
        self.queues = AccountQueues(
            converge,
            urgent=[lane_topic(app, "deprovision")],
            width=concurrency * WIDTH_PER_SLOT,
            is_stuck=self._is_stuck,
        )
        PENDING.labels(app).set_function(lambda: self.queues.pending)

    async def start(self) -> None:
        """Take over what was known of the application: a restart is no excuse to call before Retry-After, and what is
        paused stays so, for operators too, until a probe succeeds."""
        health = await self._store.load_health(self.app)
        if health is None:
            return
        if health.not_before is not None and health.not_before > self._clock.now():
            self._caller.gate.hold_until(health.not_before)
        if health.state == "paused":
            self._caller.go_on_pausing(health.reason)

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
        return ApplicationHealth("paused" if gate.paused else "open", gate.reason, None, gate.not_before)

    def _is_stuck(self) -> bool:
        """Whether a drain would wait in vain: no call goes out before it has to end."""
        gate, end = self._caller.gate, self._clock.now() + timedelta(seconds=DRAIN_SECONDS)
        return gate.paused or (gate.not_before is not None and gate.not_before > end)

    async def close(self) -> None:
        """Finish what is under way, then stop; before the broker is stopped."""
        await self.queues.close()
        await self._membership.close()
        if self._discovery is not None:
            await self._discovery.close()
        await self._saver.drain()
        await self._loader.close()
        await self._caller.close()

    async def _on_health(self, health: ApplicationHealth) -> None:
        PAUSED.labels(self.app).set(health.state == "paused")
        kinds = {"paused": AuditKind.APPLICATION_PAUSED, "open": AuditKind.APPLICATION_RESUMED}
        if kind := kinds.get(health.state):
            details = {"reason": health.reason} if health.reason else None
            self._saver.note(Entry(kind, self._clock.now(), "connector", app=self.app, details=details))
        try:
            await self._store.save_health(self.app, health)
        except StoreUnavailable as error:
            log.warning("health_not_saved", app=self.app, reason=error.code)


async def close_all(lanes: list[Lanes]) -> None:
    """Close the lanes of all applications at once: their drains share one grace period."""
    await asyncio.gather(*(lane.close() for lane in lanes))
