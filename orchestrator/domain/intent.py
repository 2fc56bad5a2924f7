"""What an account's row says of calls that are going out, or may still arrive: its intent, a short text.

`REVISION@INSTANT`: calls of that revision were about to go out then. `recheck@INSTANT`: nothing goes out, and one more
look is due at that instant; with `+twins` also for a second account.
"""

from datetime import datetime, timedelta

from orchestrator.domain.account import Progress
from schemas.envelope import timestamp

LEASE_SECONDS = 10.0
"""How long after its intent was saved a call may still go out. Then it is saved anew, which fails when somebody else
has got the account: this process may have been paused for long."""
OPEN_INTENT = timedelta(seconds=90)
"""An intent that is this old without an outcome was left by a process that died; the relay has it looked at."""
RECHECK = "recheck@"
"""The intent that asks for one more look at an instant, after a call was found open: it may still arrive."""
TWINS = "+twins"
"""What follows the instant where that look is also for a second account, after a create was found open."""


def calls_of(revision: int, now: datetime, *, twins: bool = False) -> str:
    """Calls of this revision are about to go out."""
    return f"{revision}@{timestamp(now)}{TWINS if twins else ''}"


def recheck(due: datetime, *, twins: bool = False) -> str:
    """One more look is due then."""
    return f"{RECHECK}{timestamp(due)}{TWINS if twins else ''}"


def recheck_at(intent: str | None, now: datetime) -> datetime | None:
    """When the account has to be looked at once more. A call that was left open may arrive until then, whatever is
    done here meanwhile."""
    if intent is None:
        return None
    if not intent.startswith(RECHECK):
        return now + OPEN_INTENT
    due = datetime.fromisoformat(intent.removeprefix(RECHECK).removesuffix(TWINS))
    return due if due > now else None


def may_have_twins(progress: Progress) -> bool:
    """Whether a create may have been left open that can still make a second account."""
    intent = progress.intent
    if intent is None or intent.startswith(RECHECK) or intent.endswith(TWINS):
        return intent is not None and intent.endswith(TWINS)
    return progress.remote_id is None


def lease_left(intent: str | None, now: datetime) -> float:
    """For how many seconds whoever wrote the intent may still send calls; none by a clock that is ahead of ours."""
    if intent is None or intent.startswith(RECHECK):
        return 0.0
    age = (now - datetime.fromisoformat(intent.partition("@")[2].removesuffix(TWINS))).total_seconds()
    return max(LEASE_SECONDS - age, 0.0) if age >= 0 else 0.0
