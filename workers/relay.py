"""relay: publishes what a crash left unsent and re-issues what is due for another look."""

import asyncio

import structlog

from orchestrator.bootstrap import Role, Runtime
from orchestrator.errors import BrokerUnavailable, StoreUnavailable
from orchestrator.metrics import RELAYED

log = structlog.get_logger()

SWEEP_SECONDS = 1.0


def relay(runtime: Runtime) -> Role:
    """Sweep every second; a sweep that finds nothing costs two index reads."""
    flow = runtime.relay_flow()
    tasks: list[asyncio.Task[None]] = []
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def sweep_for_ever() -> None:
        while True:
            try:
                segments, accounts = await flow.sweep()
                await flow.count_held()
                if segments or accounts:
                    log.info("relayed", segments=segments, accounts=accounts)
                    RELAYED.labels("segments").inc(segments)
                    RELAYED.labels("accounts").inc(accounts)
            except (StoreUnavailable, BrokerUnavailable) as error:
                log.warning("relay_waits", reason=error.code)
            await asyncio.sleep(SWEEP_SECONDS)

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.set_result(error)

    async def start() -> None:
        """Begin to sweep."""
        task = asyncio.create_task(sweep_for_ever(), name="relay")
        task.add_done_callback(ended)
        tasks.append(task)

    async def stop() -> None:
        """A sweep that is cut off repeats: both of its parts are harmless to repeat."""
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])

    return Role("relay", start, stop, (failed,))
