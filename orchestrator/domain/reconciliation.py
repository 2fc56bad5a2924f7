"""What an application holds against what it should hold: one finding for every account on either side.

Nothing is decided anew here. A finding that is to be put right becomes one more look at the account by its connector,
on the same lanes as every change.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.correlation import Candidate, handles
from orchestrator.domain.scim_diff import is_active, operations, project


class FindingKind(StrEnum):
    """What was found of one account."""

    LINKED = "linked"
    """As it should be."""
    UNFINISHED = "unfinished"
    """The connector is not done with it, or it waits for a person: nothing is said of it."""
    DRIFTED = "drifted"
    """Somebody changed it behind our back."""
    MISSING = "missing"
    """It should be there and is not."""
    ORPHAN = "orphan"
    """The application holds it and nobody is known to have it."""
    DUPLICATE = "duplicate"
    """One more account of somebody whose account is another one."""
    MEMBER_MISSING = "member_missing"
    """It should be in a group and is not."""
    MEMBER_EXTRA = "member_extra"
    """It is in a group that we took it out of."""
    MEMBER_FOREIGN = "member_foreign"
    """It is in a group of ours that somebody else put it into."""


class Finding(NamedTuple):
    """`differences` are by attribute path: what the account shows, and what it should show."""

    kind: FindingKind
    remote_id: str | None
    person_id: str | None = None
    differences: Mapping[str, tuple[Any, Any]] = {}
    candidates: tuple[Candidate, ...] = ()
    named: bool = False
    """Whether the account's id is a name or an address."""
    group: str | None = None
    """The group whose membership differs."""

    @property
    def differs(self) -> bool:
        """Whether it is not as it should be."""
        return self.kind not in (FindingKind.LINKED, FindingKind.UNFINISHED)

    @property
    def takes_access(self) -> bool:
        """Whether putting it right takes access away from somebody."""
        if self.kind is FindingKind.MEMBER_EXTRA:
            return True
        return "account" in self.differences or self.differences.get("active", (None, True))[1] is False

    @property
    def fixable(self) -> bool:
        """Whether one more look of the connector puts it right. Nobody touches accounts that may be somebody else's."""
        return self.kind in FIXABLE


FIXABLE = (FindingKind.DRIFTED, FindingKind.MISSING, FindingKind.MEMBER_MISSING, FindingKind.MEMBER_EXTRA)
"""What one more look of the connector puts right."""

Shows = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""What a resource shows of the attributes that are wanted, comparable with them; an application has its own way."""


def compare(account: Account, progress: Progress, resource: Mapping[str, Any], shows: Shows = project) -> Finding:
    """A linked account as the application shows it now. Of one that should be inactive only that counts."""
    remote_id = str(resource["id"])
    if not is_done(account, progress):
        return Finding(FindingKind.UNFINISHED, remote_id, account.person_id)
    differences: dict[str, tuple[Any, Any]] = {}
    active, shown = account.state == "active", is_active(resource)
    if account.state == "absent":
        differences["account"] = ("present", "absent")
    elif (shown is not False) is not active:
        differences["active"] = (shown, active)
    if active:
        held = shows(resource, account.resource)
        wanted = {one["path"]: one.get("value") for one in operations(held, account.resource)}
        back = {one["path"]: one.get("value") for one in operations(account.resource, held)}
        differences |= {path: (back.get(path), wanted.get(path)) for path in sorted({*wanted, *back})}
    kind = FindingKind.DRIFTED if differences else FindingKind.LINKED
    return Finding(kind, remote_id, account.person_id, differences)


def unseen(account: Account, progress: Progress, began: datetime | None = None) -> Finding | None:
    """An account on our record that the application did not show. None when there is nothing to miss. Whatever was
    decided since the reading `began` may have come about behind its back."""
    late = began is not None and account.issued_at is not None and account.issued_at >= began
    if late or not is_done(account, progress):
        return Finding(FindingKind.UNFINISHED, progress.remote_id, account.person_id)
    if account.state != "active":  # who should be out is out
        return None
    return Finding(FindingKind.MISSING, progress.remote_id, account.person_id)


def orphan(resource: Mapping[str, Any], candidates: Iterable[Candidate], linked: Mapping[str, str]) -> Finding:
    """An account that is on nobody's record. `linked` are the remote ids of the candidates' own accounts: where the
    surest candidate has another account already this one is a duplicate."""
    ranked = tuple(dict.fromkeys(candidates))
    remote_id = str(resource["id"])
    sure = next((one for one in ranked if one.by != "email"), None)
    if sure is not None and linked.get(sure.person_id, remote_id) != remote_id:
        return Finding(FindingKind.DUPLICATE, remote_id, sure.person_id, candidates=ranked)
    return Finding(FindingKind.ORPHAN, remote_id, candidates=ranked, named=_names_somebody(remote_id, resource))


def _names_somebody(remote_id: str, resource: Mapping[str, Any]) -> bool:
    found = handles(resource)
    names = {one.lower() for one in (found.user_name, found.external_id, *found.emails) if one}
    return "@" in remote_id or remote_id.lower() in names


def is_done(account: Account, progress: Progress) -> bool:
    """Whether the connector has nothing left to do for the account, and nobody has anything to decide."""
    return (
        progress.applied_revision >= account.revision
        and progress.intent is None
        and progress.status is AccountStatus.APPLIED
    )
