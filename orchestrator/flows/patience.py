"""Questions of a connector to the store that wait for its answer however long it is down."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from orchestrator.domain.retry import Backoff
from orchestrator.errors import StoreUnavailable

log = structlog.get_logger()

T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]], *, app: str, backoff: Backoff, chance: random.Random) -> T:
    """What the store says; asks again, ever more slowly, while it is down."""
    attempt = 0
    while True:
        try:
            return await ask()
        except StoreUnavailable as error:
            attempt += 1
            log.warning("connector_waits_for_store", app=app, reason=error.code, attempt=attempt)
            await asyncio.sleep(backoff.delay(attempt, chance))
