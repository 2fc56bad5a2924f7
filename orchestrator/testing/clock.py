"""Clocks for tests: one that moves when it is told to, and one that follows the event loop's (virtual) time."""

import asyncio
from datetime import datetime, timedelta

from orchestrator.adapters.clock import SimulatedClock as ManualClock

__all__ = ["LoopClock", "ManualClock", "SkewedClock"]


class LoopClock:
    """The loop's time as instants. `scale` makes it run faster: people's lives take days, a test takes minutes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime, scale: float = 1.0) -> None:
        self._loop = loop
        self._start = start
        self._began = loop.time()
        self._scale = scale

    def now(self) -> datetime:
        """The current instant."""
        return self._start + timedelta(seconds=(self._loop.time() - self._began) * self._scale)

    def seconds_until(self, moment: datetime) -> float:
        """How many seconds of the loop it is until `now()` reaches `moment`."""
        return (moment - self.now()).total_seconds() / self._scale

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `now()` has reached `moment`. The microsecond more keeps rounding from waking us too early."""
        while (wait := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(wait / self._scale + 1e-6)


class SkewedClock:
    """Another clock that is ahead by `seconds`, or behind."""

    def __init__(self, true: LoopClock, seconds: float) -> None:
        self._true = true
        self._ahead = timedelta(seconds=seconds)

    def now(self) -> datetime:
        """The current instant as this clock shows it."""
        return self._true.now() + self._ahead

    def seconds_until(self, moment: datetime) -> float:
        """See `LoopClock`."""
        return self._true.seconds_until(moment - self._ahead)

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `now()` has reached `moment`."""
        await self._true.sleep_until(moment - self._ahead)
