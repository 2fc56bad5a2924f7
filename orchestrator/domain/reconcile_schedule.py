"""When an application is reconciled by itself: a row tells of the last run, and this when the next one is due."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

RETRY_AFTER = timedelta(minutes=15)
"""When a run that failed is tried again, where the next one is not due before."""
COMPLETE, INCOMPLETE = "complete", "incomplete"


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run over one application. `run` counts them; `lease_until` is set while a process is at it; `outcome` is
    `complete`, `incomplete`, or the code of the error that ended it. `counts` are by finding."""

    run: int
    began_at: datetime
    lease_until: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether something was read to its end."""
        return self.outcome in (COMPLETE, INCOMPLETE)


def is_due(last: LastRun | None, every: timedelta, now: datetime) -> bool:
    """Whether a run is to begin now. One whose process died is due when its lease is over."""
    if last is None:
        return True
    if last.lease_until is not None:
        return last.lease_until <= now
    if last.succeeded or last.ended_at is None:
        return last.began_at + every <= now
    return last.ended_at + min(every, RETRY_AFTER) <= now


def run_id(app: str, run: int) -> str:
    """How entries name a run, the same in whichever process it happens."""
    return f"{app}/{run}"
