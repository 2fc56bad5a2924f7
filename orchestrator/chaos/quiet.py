"""When to stop waiting. This alone asks our own database, and nothing of it reaches the verdict."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from orchestrator.adapters.audit_log import entries_end
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.domain.intent import RECHECK
from orchestrator.ports import Clock

STILL_SECONDS = 2.0


class Quiet:
    """Whether everything told has been done, and the audit log has it."""

    def __init__(self, database: Database, audit: Path, clock: Clock, *, rechecks: bool) -> None:
        self._settling = SqlSettling(database)
        self._audit = audit
        self._clock = clock
        self._rechecks = rechecks

    async def wait(self, events: int, seconds: float, progress: Callable[[int], None]) -> bool:
        """Wait until nothing is left to do; False when `seconds` were not enough."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        still_since, end = loop.time(), -1
        while loop.time() < deadline:
            left = await self._left(events)
            progress(left)
            now = entries_end(self._audit)
            if left > 0 or now != end:
                still_since, end = loop.time(), now
            elif loop.time() - still_since >= STILL_SECONDS:
                return True
            await asyncio.sleep(0.25)
        return False

    async def _left(self, events: int) -> int:
        left = await self._settling.left(now=self._clock.now(), events=events)
        return left if self._rechecks else left - await self._settling.waiting(RECHECK)
