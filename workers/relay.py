"""relay: publishes what a crash left unsent and re-issues what is due for another look."""

import asyncio
import contextlib
from datetime import timedelta

import structlog

from orchestrator.bootstrap import Role, Runtime
from orchestrator.errors import BrokerUnavailable, StoreUnavailable

log = structlog.get_logger()

SWEEP_SECONDS = 1.0


def relay(runtime: Runtime) -> Role:
    """Sweep every second, and at once when the clock was stepped; a sweep that finds nothing costs two index reads."""
    flow = runtime.relay_flow()
    tasks: list[asyncio.Task[None]] = []

    async def sweep_for_ever() -> None:
        while True:
            try:
                segments, accounts = await flow.sweep()
                if segments or accounts:
                    log.info("relayed", segments=segments, accounts=accounts)
            except (StoreUnavailable, BrokerUnavailable) as error:
                log.warning("relay_waits", reason=error.code)
            wait = runtime.clock.sleep_until(runtime.clock.now() + timedelta(seconds=SWEEP_SECONDS))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wait, SWEEP_SECONDS)

    async def start() -> None:
        """Begin to sweep."""
        tasks.append(asyncio.create_task(sweep_for_ever(), name="relay"))

    async def stop() -> None:
        """A sweep that is cut off repeats: both of its parts are harmless to repeat."""
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return Role("relay", start, stop)
