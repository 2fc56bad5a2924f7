"""scheduler: wakes at the next due instant and fires what is due. The timers table is the truth, never a job store."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from orchestrator.bootstrap import Role, Runtime
from orchestrator.errors import StoreUnavailable

log = structlog.get_logger()

OVERDUE_SECONDS = 15
"""How often ends are counted that could not be enforced."""
RECONCILE_SECONDS = 30
"""How often a scheduler looks whether an application is to be reconciled."""
SAFETY_SECONDS = 1
"""The longest time between two looks: a timer that another process has just set is seen by then."""


def scheduler(runtime: Runtime) -> Role:
    """One APScheduler job at the next due instant, one at a safety interval; both do the same sweep."""
    expire, timers = runtime.expire_flow()
    overdue = runtime.overdue_flow()
    jobs = AsyncIOScheduler(
        timezone=UTC, job_defaults={"coalesce": True, "max_instances": 2, "misfire_grace_time": None}
    )
    watching: list[asyncio.Task[None]] = []
    schedules = runtime.reconcile_schedules()

    async def sweep() -> None:
        """Fire what is due, then set the alarm for what comes next."""
        try:
            await expire.sweep()
            due = await timers.next_due()
        except StoreUnavailable as error:
            log.warning("sweep_failed", reason=error.code)
            return
        if due is not None:
            wait = max(due - runtime.clock.now(), timedelta(milliseconds=1))
            if wait < timedelta(seconds=SAFETY_SECONDS):
                # APScheduler runs by the machine's clock, ours may be simulated.
                wake = datetime.now(UTC) + wait
                jobs.add_job(sweep, DateTrigger(wake), id="next due", replace_existing=True)

    async def look_for_overdue() -> None:
        """Measure what should be closed by now, and have people told."""
        try:
            await overdue.sweep()
        except StoreUnavailable as error:
            log.warning("overdue_sweep_failed", reason=error.code)

    async def follow_clock() -> None:
        """A clock that is stepped, as the demo's is, brings its timers due at once."""
        while True:
            now = runtime.clock.now()
            await runtime.clock.sleep_until(now + timedelta(days=36500))
            if runtime.clock.now() > now:
                await sweep()

    async def start() -> None:
        """A sweep at once: there may be a backlog from the time we were down."""
        jobs.add_job(sweep, IntervalTrigger(seconds=SAFETY_SECONDS), id="safety", next_run_time=datetime.now(UTC))
        jobs.add_job(
            look_for_overdue, IntervalTrigger(seconds=OVERDUE_SECONDS), id="overdue", next_run_time=datetime.now(UTC)
        )
        for app, schedule in schedules.items():  # each a job of its own: a slow application delays only itself
            every, at = IntervalTrigger(seconds=RECONCILE_SECONDS), datetime.now(UTC)
            jobs.add_job(schedule.look, every, id=f"reconcile {app}", next_run_time=at, max_instances=1)
        jobs.start()
        watching.append(asyncio.create_task(follow_clock(), name="follow clock"))

    async def stop() -> None:
        """A sweep that is under way ends with its transaction; a reconciliation begins anew elsewhere."""
        jobs.shutdown(wait=False)
        await asyncio.gather(*(schedule.close() for schedule in schedules.values()))
        for task in watching:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return Role("scheduler", start, stop)
