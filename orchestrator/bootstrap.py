"""Wires adapters to flows: the only module that knows both.

`Runtime` is what the roles of one process share. A role subscribes when it is made, starts before the first record
comes and stops while the broker still runs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import structlog

from orchestrator.adapters.audit_log import TiledLog
from orchestrator.adapters.audit_log.keys import signing_key
from orchestrator.adapters.audit_log.witnesses import HttpWitness
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka.consuming import Consumers, Records
from orchestrator.adapters.kafka.embedded import BoundedPublisher, EmbeddedBroker, Unread, weight_of
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from orchestrator.adapters.letters import load_letters
from orchestrator.adapters.network import tls_context
from orchestrator.adapters.scim_auth import credentials
from orchestrator.adapters.scim_http import USER_AGENT, Headers, HttpScimTransport
from orchestrator.adapters.smtp import SmtpReceiver
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import check_migrated, migrate
from orchestrator.adapters.sql.notices import SqlNoticeStore
from orchestrator.adapters.sql.outbox import SqlOutbox
from orchestrator.adapters.sql.overdue import SqlOverdueStore
from orchestrator.adapters.sql.planning import SqlPlanStore
from orchestrator.adapters.sql.reconcile_runs import SqlReconcileRuns
from orchestrator.adapters.sql.reconciling import SqlReconcileStore
from orchestrator.adapters.sql.resolving import SqlResolveStore
from orchestrator.adapters.sql.subjects import SqlSubjectStore
from orchestrator.adapters.sql.sweeping import SqlAttentionStore, SqlTimerStore
from orchestrator.adapters.webhook import WebhookReceiver
from orchestrator.config import AppConfig, Config
from orchestrator.dialects import dialects
from orchestrator.domain.budget import Budget
from orchestrator.domain.retry import Backoff
from orchestrator.domain.signed_note import parse_verifier
from orchestrator.errors import UserError
from orchestrator.flows.application import Application
from orchestrator.flows.asking import SHARE, Asking, Reader
from orchestrator.flows.audit import AuditorEntries
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.breaking import Breaker
from orchestrator.flows.calling import Caller
from orchestrator.flows.checkpoints import CheckpointFlow
from orchestrator.flows.discovery import discover
from orchestrator.flows.expire import ExpireFlow
from orchestrator.flows.health_watch import HealthWatch
from orchestrator.flows.lane import Lanes
from orchestrator.flows.notify import DeliveryFlow, NotifyFlow
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.flows.overdue import OverdueFlow
from orchestrator.flows.reconcile_schedule import ReconcileSchedule
from orchestrator.flows.relay import RelayFlow
from orchestrator.flows.resolve import ResolveFlow
from orchestrator.ports import ApplicationHealth, Clock, Publisher
from orchestrator.ports.noticing import NoticeReceiver

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Role:
    """A running part of the system: `start` before the first record, `stop` before the broker stops.

    `failed` is done when the role found a defect and cannot go on.
    """

    name: str
    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    failed: "tuple[asyncio.Future[BaseException], ...]" = ()


@dataclass
class Runtime:
    """What the roles of one process share. `open_runtime` makes and ends it."""

    config: Config
    clock: Clock
    """The time of the people's lives: what is due and what is effective. A demo runs it through years."""
    wall: Clock
    """The machine's time: waiting, retries, and when something was recorded."""
    database: Database
    publisher: Publisher
    consumers: Consumers
    bootstrap: str
    """The broker's address, also where it is the embedded one."""
    unread: Unread | None = None
    """What the embedded broker holds unread; None on a real broker."""
    transports: list[HttpScimTransport] = field(default_factory=list)
    outboxes: list[OutboxPublisher] = field(default_factory=list)
    http: list[httpx.AsyncClient] = field(default_factory=list)
    receivers: list[NoticeReceiver] = field(default_factory=list)
    _watch: HealthWatch | None = None
    _evidence: OutboxPublisher | None = None

    def health_watch(self) -> HealthWatch:
        """What all lanes of this process listen to."""
        self._watch = self._watch or HealthWatch(SqlConvergeStore(self.database))
        return self._watch

    def outbox(self) -> OutboxPublisher:
        """A publisher of the outbox, one for each role.

        Were it one for all, commands that wait for a slow application would hold up the audit entries behind them, and
        the connector that waits for those could never make room for the commands.
        """
        outbox = OutboxPublisher(self.publisher, SqlOutbox(self.database))
        outbox.start()
        self.outboxes.append(outbox)
        return outbox

    def evidence(self) -> OutboxPublisher:
        """The one that the lanes of all applications share. They tell nothing but what was done, so none holds up the
        others, and together they ask the broker and the database less often."""
        self._evidence = self._evidence or self.outbox()
        return self._evidence

    async def published(self) -> None:
        """Return when everything that was saved so far is published."""
        await asyncio.gather(*(outbox.idle() for outbox in self.outboxes))

    def resolve_flow(self) -> ResolveFlow:
        """The resolver's flow, with a writer of its own."""
        writer = AuditWriter("resolver", self.wall.now())
        store = SqlResolveStore(self.database)
        breaker = Breaker(self.config.breaker_policy(), tuple(self.config.apps))
        return ResolveFlow(store, self.outbox(), writer, self.config.policy(), self.clock, self.wall, breaker=breaker)

    def expire_flow(self) -> tuple[ExpireFlow, SqlTimerStore]:
        """The scheduler's flow, and the store that knows what is due next."""
        store = SqlTimerStore(self.database)
        writer = AuditWriter("scheduler", self.wall.now())
        return ExpireFlow(store, self.outbox(), writer, self.clock, self.wall), store

    def overdue_flow(self) -> OverdueFlow:
        """The scheduler's other flow: ends that could not be enforced."""
        return OverdueFlow(
            SqlOverdueStore(self.database),
            self.outbox(),
            AuditWriter("scheduler", self.wall.now()),
            self.clock,
            self.wall,
            tell_after=timedelta(minutes=self.config.notices.overdue_after_minutes),
        )

    def reconcile_schedules(self) -> dict[str, ReconcileSchedule]:
        """By application: the reconciliations that the scheduler runs by itself."""
        found = {}
        for name, settings in self.config.apps.items():
            if (every := settings.reconcile_every) is not None:
                found[name] = ReconcileSchedule(
                    name,
                    SqlReconcileRuns(self.database),
                    SqlReconcileStore(self.database),
                    SqlPlanStore(self.database),
                    SqlSubjectStore(self.database),
                    SqlConvergeStore(self.database),
                    partial(reading, name, settings, self.wall),
                    AuditWriter("scheduler", self.wall.now()),
                    self.wall,
                    every=every,
                    fix=settings.reconcile_fix,
                    correlation=self.config.correlation(name),
                )
        return found

    def notify_flow(self) -> NotifyFlow:
        """The notifier's intake."""
        return NotifyFlow(SqlNoticeStore(self.database), self.config.notices.receivers(), self.wall)

    def delivery_flows(self) -> list[DeliveryFlow]:
        """What the notifier delivers over, one for each configured channel. Raises ConfigError."""
        notices, retry = self.config.notices, self.config.notices.retry
        receivers: list[NoticeReceiver] = []
        if (webhook := notices.webhook) is not None:
            timeout = webhook.timeout_seconds
            receivers.append(WebhookReceiver(str(webhook.url), webhook.secret(), self.wall, timeout=timeout))
        if (email := notices.email) is not None:
            receivers.append(
                SmtpReceiver(
                    email.host,
                    email.port,
                    load_letters(email.templates, email.sender, self.config.time.default_zone),
                    security=email.security,
                    ca_file=email.ca_file,
                    user=email.user,
                    password=email.password(),
                    sender=email.sender,
                    timeout=email.timeout_seconds,
                )
            )
        self.receivers += receivers
        store, backoff = SqlNoticeStore(self.database), Backoff(retry.base_seconds, retry.max_seconds)
        return [
            DeliveryFlow(store, one, self.clock, self.wall, backoff=backoff, attempts=retry.attempts)
            for one in receivers
        ]

    def relay_flow(self) -> RelayFlow:
        """The relay's flow."""
        return RelayFlow(
            SqlAttentionStore(self.database), SqlOutbox(self.database), self.outbox(), self.publisher, self.wall
        )

    def audit_log(self) -> tuple[TiledLog, CheckpointFlow]:
        """The audit log, and what signs it, publishes its checkpoints and shows them to the witnesses."""
        settings = self.config.audit
        key = signing_key(settings, embedded=self.config.kafka.embedded)
        configuration = {
            "origin": key.name,
            "key": str(key.verifier),
            "dir": str(settings.dir.absolute()),
            "witnesses": [{"url": str(one.url), "key": one.key} for one in settings.witnesses],
        }
        own = AuditorEntries(AuditWriter("auditor", self.wall.now()), self.wall)
        audit_log = TiledLog(settings.dir, key, own, configuration)
        client = httpx.AsyncClient()
        self.http.append(client)
        witnesses = [
            HttpWitness(settings.dir, str(one.url), parse_verifier(one.key), client) for one in settings.witnesses
        ]
        return audit_log, CheckpointFlow(audit_log, self.publisher, witnesses)

    def lanes(self, app: str) -> Lanes:
        """The lanes of one connected application."""
        settings = self.config.apps[app]
        transport, application = connect(app, settings, self.wall)
        self.transports.append(transport)
        return Lanes(
            app,
            transport=transport,
            store=SqlConvergeStore(self.database),
            outbox=self.evidence(),
            clock=self.wall,
            concurrency=settings.concurrency,
            backoff=Backoff(settings.retry.base_seconds, settings.retry.max_seconds),
            attempts=settings.retry.attempts,
            parked_leaver=Backoff(settings.retry.parked_leaver_seconds, settings.retry.parked_leaver_seconds),
            members_per_patch=settings.max_members_per_patch,
            limits=settings.limits(),
            leaver_share=settings.budget.leaver_share,
            longest_wait=timedelta(seconds=settings.budget.longest_wait_seconds),
            application=application,
            discover=settings.discover,
            bulk=settings.bulk,
            watch=self.health_watch(),
            correlation=self.config.correlation(app),
        )


def connect(app: str, settings: AppConfig, clock: Clock) -> tuple[HttpScimTransport, Application]:
    """The way to one application, and how to speak to it. Raises ConfigError for a secret that is not there."""
    dialect = settings.behaves.over(dialects()[settings.dialect])
    application = Application(dialect, settings.capabilities.known(), creates_groups=settings.create_groups)
    codec, auth = application.codec, settings.auth
    transport = HttpScimTransport(
        app,
        str(settings.base_url),
        concurrency=settings.concurrency,
        timeout=settings.timeout_seconds,
        headers=Headers(dialect.accept or codec.ACCEPT, codec.CONTENT_TYPE, dialect.user_agent or USER_AGENT),
        allow_private=settings.allow_private,
        tls=partial(tls_context, auth.ca_file, auth.cert_file, auth.key_file),
    )
    transport.credentials = credentials(app, auth, clock, transport.post_form)
    return transport, application


@asynccontextmanager
async def reading(app: str, settings: AppConfig, clock: Clock) -> AsyncIterator[Reader]:
    """A way to read what an application holds, with a part of its budget. Raises ConfigError, and ScimError when it
    cannot be used."""

    async def on_health(_: ApplicationHealth) -> None:
        return

    transport, application = connect(app, settings, clock)
    started = asyncio.get_running_loop().time()
    budget = Budget(settings.limits(), leaver_share=settings.budget.leaver_share, now=started, share=SHARE)
    caller = Caller(transport, clock, 1, on_health, app=app, budget=budget)
    try:
        if settings.discover:
            found, _ = await discover(caller, application, schemas=False)
            application.learn(found)
        yield Reader(Asking(caller), application)
    finally:
        await caller.close()
        await transport.close()


@asynccontextmanager
async def open_runtime(
    config: Config, *, clock: Clock | None = None, wall: Clock | None = None, broker: EmbeddedBroker | None = None
) -> AsyncIterator[Runtime]:
    """Everything the roles share, closed in the right order at the end.

    On the embedded broker the database is migrated as well: there is nobody else to do it. `broker` is an embedded one
    that runs already.
    """
    wall = wall or SystemClock()
    database = Database(config.store.url)
    embedded = broker or (EmbeddedBroker() if config.kafka.embedded else None)
    bootstrap = config.kafka.bootstrap
    kafka_publisher: KafkaPublisher | None = None
    runtime: Runtime | None = None
    try:
        if embedded is not None:
            if broker is None:
                await asyncio.to_thread(embedded.start)
            bootstrap = embedded.bootstrap
            await migrate(database)
        else:
            await check_migrated(database)
        kafka_publisher = KafkaPublisher(bootstrap)
        unread = Unread() if embedded is not None else None
        on_read = _count_reads(unread) if unread is not None else None
        consumers = Consumers(bootstrap, config.kafka, alone=embedded is not None, on_read=on_read)
        publisher: Publisher = kafka_publisher
        if unread is not None:
            publisher = BoundedPublisher(kafka_publisher, unread, lambda topic: topic in consumers.topics)
        runtime = Runtime(config, clock or wall, wall, database, publisher, consumers, bootstrap, unread)
        yield runtime
        await asyncio.gather(*(outbox.drain() for outbox in runtime.outboxes))
    finally:
        if runtime is not None:
            await asyncio.gather(*(outbox.drain(0) for outbox in runtime.outboxes))
            for transport in runtime.transports:
                await transport.close()
            for client in runtime.http:
                await client.aclose()
            for receiver in runtime.receivers:
                await receiver.close()
        if kafka_publisher is not None:
            await kafka_publisher.close()
        await database.close()
        if embedded is not None and broker is None:
            embedded.stop()


def _count_reads(unread: Unread) -> Callable[[Records], Awaitable[None]]:
    async def on_read(records: Records) -> None:
        sizes: dict[str, list[int]] = {}
        for record in records:
            sizes.setdefault(record.topic, []).append(weight_of(record.value))
        for topic, weights in sizes.items():
            await unread.read(topic, len(weights), sum(weights))

    return on_read


@asynccontextmanager
async def running(runtime: Runtime, roles: Sequence[Role]) -> AsyncIterator["asyncio.Future[BaseException]"]:
    """Run roles until the end of the block, which gets a future that is done when one of them found a defect.

    Raises Unreachable while nobody answers at the broker's address: none of them has begun then.
    """
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def pass_on(future: "asyncio.Future[BaseException]") -> None:
        if not future.cancelled() and not failed.done():
            failed.set_result(future.result())

    for future in (
        runtime.consumers.failed,
        *(outbox.failed for outbox in runtime.outboxes),
        *(future for role in roles for future in role.failed),
    ):
        future.add_done_callback(pass_on)
    started: list[Role] = []
    try:
        await runtime.consumers.reach()
        for role in roles:
            await role.start()
            started.append(role)
        await runtime.consumers.start()
        yield failed
    finally:
        await asyncio.gather(*(role.stop() for role in started))
        await runtime.consumers.stop()


async def until_done_or(failed: "asyncio.Future[BaseException]", work: Coroutine[Any, Any, Any]) -> None:
    """Run `work` to its end, or raise the defect that a role found meanwhile."""
    task: asyncio.Future[Any] = asyncio.ensure_future(work)
    waiting: set[asyncio.Future[Any]] = {task, failed}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise failed.result()
    finally:
        task.cancel()
    await task


@asynccontextmanager
async def publisher(config: Config) -> AsyncIterator[Publisher]:
    """A publisher for commands such as `jml events send`. Raises UserError on the embedded broker."""
    if config.kafka.embedded:
        raise UserError(
            "the embedded broker lives inside `jml up`, which prints its address when it starts; "
            "set JML_KAFKA__BOOTSTRAP to that address, or [kafka] bootstrap to a Kafka broker"
        )
    kafka = KafkaPublisher(config.kafka.bootstrap)
    try:
        yield kafka
    finally:
        with contextlib.suppress(TimeoutError):
            await kafka.close()
