"""What an operator can end or extend, and whether an account is known to be closed."""

from datetime import datetime

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.lifecycle import Span


def still_to_end(engaged: list[Span], now: datetime) -> list[Span]:
    """The engagements that run or are to come: an urgent end is one of all of them."""
    return [one for one in engaged if one.end is None or one.end > now]


def running_contracts(engaged: list[Span], now: datetime) -> list[Span]:
    """The contractor's engagements that run."""
    return [one for one in still_to_end(engaged, now) if one.kind == "contractor" and one.start <= now]


def is_closed(account: Account, progress: Progress) -> bool:
    """Whether a look at the application has shown that nobody can sign in, and nothing is left to do."""
    return (
        account.state != "active"
        and progress.status is AccountStatus.APPLIED
        and progress.applied_revision >= account.revision
        and (progress.remote_id is None or progress.active is False)
    )
