"""Progress on standard error, one bar for each phase of a command that takes its time."""

from collections.abc import AsyncIterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from orchestrator.flows.listing import Listing
from orchestrator.log import configure

TICK = 100
"""Rows of a list between two looks at the bar."""


class Bars:
    """Call it with a phase, how much of it is done, and how much there is; phases appear as they come."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        self._bars = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show how far a phase is."""
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total)
        self._bars.update(self._tasks[phase], completed=done, total=total)

    def __enter__(self) -> "Bars":
        configure("error")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class Watched:
    """A listing whose progress is shown."""

    def __init__(self, listing: Listing, bars: Bars) -> None:
        self._listing = listing
        self._bars = bars

    @property
    def complete(self) -> bool:
        """See `Listing`."""
        return self._listing.complete

    @property
    def skipped(self) -> int:
        """See `Listing`."""
        return self._listing.skipped

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """The rows."""
        listing, phase = self._listing, "accounts read"
        async for row in listing:
            if listing.received % TICK == 0:
                self._bars(phase, listing.received, max(listing.total or 0, listing.received))
            yield row
        self._bars(phase, listing.received, listing.received)
