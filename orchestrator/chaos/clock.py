"""A role's clock that somebody sets wrong: the machine's, moved by what a file says."""

from datetime import datetime, timedelta
from pathlib import Path

from orchestrator.adapters.clock import SystemClock


class SteppedClock(SystemClock):
    """`ports.Clock`. The file holds seconds, ahead or behind; where there is none the clock is right.

    Waiting goes by the machine's own timers, as it does when a real clock is set.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._written = -1
        self._offset = timedelta()

    def now(self) -> datetime:
        """The current instant by this clock."""
        try:
            written = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return super().now()
        if written != self._written:
            self._offset = timedelta(seconds=float(self._path.read_text() or 0))
            self._written = written
        return super().now() + self._offset


def set_clock(file: Path, seconds: float) -> None:
    """Step the clock; nobody reads half of it."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{seconds}")
    fresh.replace(file)
