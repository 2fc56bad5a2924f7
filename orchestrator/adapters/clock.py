"""Clocks: the system's, and one that moves only when it is told to."""

import asyncio
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """The current instant."""
        return datetime.now(UTC)  # the one place that may ask

    async def sleep_until(self, moment: datetime) -> None:
        """Sleep until `moment`; at most a minute at a time, so that a stepped clock is noticed."""
        await asyncio.sleep(min(max((moment - self.now()).total_seconds(), 0.0), 60.0))


class SimulatedClock:
    """A clock for demos and tests: stands still until `advance_to`."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._stepped = asyncio.Event()

    def now(self) -> datetime:
        """The simulated instant."""
        return self._now

    def advance_to(self, moment: datetime) -> None:
        """Step forward and wake every sleeper; going back is ignored, the simulation's past is over."""
        if moment > self._now:
            self._now = moment
            self._stepped.set()
            self._stepped = asyncio.Event()

    async def sleep_until(self, moment: datetime) -> None:
        """Return when the clock was stepped, at once when `moment` is over."""
        if moment > self._now:
            await self._stepped.wait()
