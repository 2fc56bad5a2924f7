"""Reconciliation by schedule: the same run as an operator's, one process at a time, and what the last one found."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog

from orchestrator.domain.correlation import Correlation
from orchestrator.domain.reconcile_schedule import COMPLETE, INCOMPLETE, LastRun, is_due, run_id
from orchestrator.domain.reconciliation import FindingKind
from orchestrator.errors import ConfigError, ScimError, StoreUnavailable
from orchestrator.flows.asking import Reader
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.group_drift import GroupDrift
from orchestrator.flows.listing import users
from orchestrator.flows.recognizing import BY_ATTRIBUTES
from orchestrator.flows.reconcile import Reconciliation
from orchestrator.flows.reconcile_run import ReconcileRun
from orchestrator.metrics import RECONCILE_FINDINGS, RECONCILE_RUNS, RECONCILED_AGE, RECONCILED_AT
from orchestrator.ports import Clock, ConvergeStore, PlanStore, ReconcileRuns, ReconcileStore, SubjectStore

log = structlog.get_logger()

ACTOR = "scheduler"
LEASE = timedelta(minutes=2)
"""For so long nobody else begins a run when the process that is at it has died."""
RENEWALS = 4
"""How often the lease is renewed in that time."""


class LeaseLost(Exception):
    """Another process has begun a run: this one was away for too long."""


class ReconcileSchedule:
    """The schedule of one application. `sweep` may be called at any time and in any number of processes."""

    def __init__(
        self,
        app: str,
        runs: ReconcileRuns,
        accounts: ReconcileStore,
        persons: PlanStore,
        subjects: SubjectStore,
        health: ConvergeStore,
        reading: Callable[[], AbstractAsyncContextManager[Reader]],
        writer: AuditWriter,
        clock: Clock,
        *,
        every: timedelta,
        fix: bool,
        correlation: Correlation = BY_ATTRIBUTES,
    ) -> None:
        """`reading` opens a way to ask the application, for the time of one run."""
        self._correlation = correlation
        self._app = app
        self._runs = runs
        self._accounts = accounts
        self._persons = persons
        self._subjects = subjects
        self._health = health
        self._reading = reading
        self._writer = writer
        self._clock = clock
        self._every = every
        self._fix = fix
        self._looking: asyncio.Task[Any] | None = None

    async def look(self) -> None:
        """A sweep of a scheduler, one at a time; a store that is down is looked at again the next time."""
        self._looking = asyncio.current_task()
        try:
            await self.sweep()
        except StoreUnavailable as error:
            log.warning("reconcile_sweep_failed", app=self._app, reason=error.code)
        finally:
            self._looking = None

    async def close(self) -> None:
        """Give up what is under way: whoever finds the lease over begins anew."""
        if (looking := self._looking) is not None:
            looking.cancel()
            await asyncio.wait([looking])

    async def sweep(self) -> bool:
        """Reconcile if it is due; returns whether this process did. Raises StoreUnavailable.

        An application that an operator has stopped is left alone. One that cannot be used is tried again later.
        """
        last = (await self._runs.last()).get(self._app)
        self._show(last)
        if not is_due(last, self._every, self._clock.now()) or await self._is_stopped():
            return False
        run, now = last.run + 1 if last else 1, self._clock.now()
        if not await self._runs.claim(self._app, run, now=now, until=now + LEASE):
            return False
        counts: dict[str, int] | None = None
        try:
            async with self._leased(run):
                outcome, counts = await self._reconcile(run)
        except (ScimError, ConfigError) as error:
            outcome = error.code if isinstance(error, ScimError) else "config"
            log.warning("reconcile_failed", app=self._app, code=outcome)
        except LeaseLost:
            log.warning("reconcile_failed", app=self._app, code="lease_lost")
            return False
        await self._runs.end(self._app, run, outcome, counts, now=self._clock.now())
        RECONCILE_RUNS.labels(self._app, outcome).inc()
        self._show((await self._runs.last()).get(self._app))
        return True

    async def _reconcile(self, run: int) -> tuple[str, dict[str, int]]:
        began = self._clock.now()
        async with self._reading() as reader:
            application = reader.application
            listing = users(reader.ask, application)
            groups = GroupDrift(self._app, self._accounts, reader.ask, application, began=began)
            found = Reconciliation(
                self._app,
                self._accounts,
                self._persons,
                shows=application.shows,
                began=began,
                groups=groups,
                correlation=self._correlation,
            )
            taken = ReconcileRun(self._app, found, self._accounts, self._subjects, self._writer, actor=ACTOR)
            async for one in found.find(listing):
                taken.take(one)
            if self._fix:
                await taken.fix(now=self._clock.now())
            name = run_id(self._app, run)
            calls, skipped = reader.ask.calls, listing.skipped
            await taken.record(now=self._clock.now(), calls=calls, skipped=skipped, run=name)
        log.info("reconciled", app=self._app, accounts=taken.differing)
        return COMPLETE if found.complete else INCOMPLETE, {kind.value: found.counts[kind] for kind in FindingKind}

    @asynccontextmanager
    async def _leased(self, run: int) -> AsyncIterator[None]:
        """Renew the lease until the end of the block, which is cancelled when that fails. Raises LeaseLost."""
        work, lost = asyncio.current_task(), False
        assert work is not None

        async def renew() -> None:
            nonlocal lost
            while True:
                await asyncio.sleep(LEASE.total_seconds() / RENEWALS)
                with contextlib.suppress(StoreUnavailable):  # the next one may succeed, and says whose it is by then
                    if not await self._runs.renew(self._app, run, until=self._clock.now() + LEASE):
                        lost = True
                        work.cancel()
                        return

        renewing = asyncio.create_task(renew(), name=f"lease {self._app}")
        try:
            yield
        except asyncio.CancelledError:
            if lost and work.uncancel() == 0:
                raise LeaseLost from None
            raise
        finally:
            renewing.cancel()

    async def _is_stopped(self) -> bool:
        health = (await self._health.load_health([self._app])).get(self._app)
        return health is not None and health.stop is not None

    def _show(self, last: LastRun | None) -> None:
        """What the last run found, in this process's metrics too, wherever it ran."""
        if last is None or not last.succeeded:
            return
        RECONCILED_AT.labels(self._app).set(last.began_at.timestamp())
        RECONCILED_AGE.labels(self._app).set((self._clock.now() - last.began_at).total_seconds())
        for finding, number in last.counts.items():
            RECONCILE_FINDINGS.labels(self._app, finding).set(number)
