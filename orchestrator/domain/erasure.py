"""Whether a person may be erased now, and if not, why: everything that speaks against it, in an operator's words.

Erasure takes the last link between a person and what was done for them. So it comes last: after access, after the
accounts, and after whatever time the law asks to keep records for (GDPR Art. 17(3)(b), Art. 5(1)(e)).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.lifecycle import Standing, Status

_GONE = (Status.LEFT, Status.UNKNOWN)


def refusals(
    standing: Standing,
    accounts: Iterable[tuple[Account, Progress]],
    now: datetime,
    *,
    retention: timedelta | None,
    leave_accounts: bool,
) -> list[str]:
    """The reasons against it; none when the person can be erased. `retention` counts from the end of the engagement."""
    found = []
    if standing.status not in _GONE:
        found.append(f"the person is {standing.status.value}: HR or a policy has to end the access first")
    for account, progress in accounts:
        if reason := _held_by(account, progress, leave_accounts):
            found.append(reason)
    if retention and standing.status is Status.LEFT and standing.since + retention > now:
        until, days = standing.since + retention, retention.days
        found.append(
            f"the records have to be kept until {until:%Y-%m-%d}: the last engagement ended on "
            f"{standing.since:%Y-%m-%d}, and [privacy] retention_days_after_end is {days}"
        )
    return found


def _held_by(account: Account, progress: Progress, leave_accounts: bool) -> str | None:
    app = account.app
    if account.state == "active":
        return f"the account in {app} is active"
    if progress.status is AccountStatus.PARKED:
        return f"the account in {app} is parked and not {account.state}: see `jml parked list`"
    settled = progress.status is AccountStatus.APPLIED and progress.intent is None
    if not settled or progress.applied_revision < account.revision:
        return f"the account in {app} is not known to be {account.state} yet: `jml person show` says how far it is"
    if progress.remote_id is not None and not leave_accounts:
        return (
            f"the account in {app} is {account.state} and still there, with the person's data in it: wait until "
            f"delete_after_days has it deleted, or leave it to the application's owner with --leave-accounts"
        )
    return None
