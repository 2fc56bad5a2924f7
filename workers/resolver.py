"""resolver: identity changes become desired accounts, timers and commands."""

import asyncio

from orchestrator.adapters.kafka.consuming import Records, next_offsets
from orchestrator.bootstrap import Role, Runtime
from schemas.groups import RESOLVER
from schemas.topics import HR_EVENTS, IDP_EVENTS, LIFECYCLE_TIMERS


def resolver(runtime: Runtime) -> Role:
    """Resolve batches of hr.events, idp.events and lifecycle.timers; commit their offsets when all is saved."""
    resolve = runtime.resolve_flow()
    idle = asyncio.Event()
    idle.set()

    async def handle(records: Records) -> None:
        idle.clear()
        try:
            await resolve(records)
            await subscription.commit(next_offsets(records))
        finally:
            idle.set()

    subscription = runtime.consumers.subscribe((HR_EVENTS, IDP_EVENTS, LIFECYCLE_TIMERS), RESOLVER, handle)

    async def start() -> None:
        """Nothing to prepare: the first batch may come."""

    async def stop() -> None:
        """Let the batch under way end; one that waits for the store is given up and comes again."""
        try:
            await asyncio.wait_for(idle.wait(), 10)
        except TimeoutError:
            return

    return Role("resolver", start, stop)
