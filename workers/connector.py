"""connector: the two lanes of every connected application, each with a consumer group and a budget of its own."""

import asyncio

from orchestrator.bootstrap import Role, Runtime
from orchestrator.flows.lane import close_all
from schemas.groups import connector_group


def connector(runtime: Runtime) -> Role:
    """Converge the accounts of all applications of the configuration."""
    lanes = [runtime.lanes(app) for app in runtime.config.apps]
    for lane in lanes:
        subscription = runtime.consumers.subscribe(
            lane.topics, connector_group(lane.app), lane.queues, listener=lane.queues
        )
        lane.queues.attach(subscription)

    async def start() -> None:
        """Take over what the applications asked of us before."""
        await asyncio.gather(*(lane.start() for lane in lanes))

    async def stop() -> None:
        """Drain the lanes while offsets can still be committed."""
        await close_all(lanes)

    return Role("connector", start, stop, tuple(lane.queues.failed for lane in lanes))
