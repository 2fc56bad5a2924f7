"""notifier: notices from their topic to the receivers that the configuration names."""

import asyncio
import contextlib

import structlog

from orchestrator.adapters.kafka.consuming import Records, next_offsets
from orchestrator.bootstrap import Role, Runtime
from orchestrator.errors import StoreUnavailable
from orchestrator.flows.notify import DeliveryFlow
from schemas.groups import NOTIFIER
from schemas.topics import LIFECYCLE_NOTICES

log = structlog.get_logger()

SWEEP_SECONDS = 1.0
BATCH_SECONDS = 10


def notifier(runtime: Runtime) -> Role:
    """Take notices into the store, commit, and deliver from there: a receiver that is down holds up nothing."""
    notify, deliveries = runtime.notify_flow(), runtime.delivery_flows()
    idle, arrived = asyncio.Event(), [asyncio.Event() for _ in deliveries]
    idle.set()
    tasks: list[asyncio.Task[None]] = []
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def handle(records: Records) -> None:
        idle.clear()
        try:
            await notify(records)
            await subscription.commit(next_offsets(records))
        finally:
            idle.set()
        for event in arrived:
            event.set()

    subscription = runtime.consumers.subscribe((LIFECYCLE_NOTICES,), NOTIFIER, handle)

    async def deliver_for_ever(flow: DeliveryFlow, event: asyncio.Event) -> None:
        while True:
            event.clear()
            try:
                if attempts := await flow.sweep():
                    log.info("notices_handled", notices=attempts)
            except StoreUnavailable as error:
                log.warning("notifier_waits_for_store", reason=error.code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), SWEEP_SECONDS)

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not failed.done():
            failed.set_result(error)

    async def start() -> None:
        """Begin to deliver: there may be some left from before."""
        for flow, event in zip(deliveries, arrived, strict=True):
            task = asyncio.create_task(deliver_for_ever(flow, event), name="deliver notices")
            task.add_done_callback(ended)
            tasks.append(task)

    async def stop() -> None:
        """Let the batch under way end. A delivery that is cut off comes again when its lease has run out."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(idle.wait(), BATCH_SECONDS)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    return Role("notifier", start, stop, (failed,))
