"""Members of a managed group as the application shows them, held against those that the group should have.

Only accounts of people we know are judged. Groups in groups, and members that nobody is known to have, are left alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.domain.account import Account, Progress
from orchestrator.domain.reconciliation import Finding, FindingKind, is_done

MEMBER, NO_MEMBER = "member", "no member"


def shown_members(group: Mapping[str, Any]) -> set[str]:
    """The ids of a group's members that may be accounts (RFC 7643, section 4.2: `type` is User or Group)."""
    members = group.get("members")
    return {
        str(one["value"])
        for one in (members if isinstance(members, list) else ())
        if isinstance(one, Mapping) and one.get("value") and not is_group(one)
    }


def is_group(member: Mapping[str, Any]) -> bool:
    """Whether a member is a group within the group. Ids are unique among users and among groups, not over both."""
    return str(member.get("type", "")).lower() == "group" or "/groups/" in str(member.get("$ref", "")).lower()


_ROUND = frozenset(first * 10**zeros for first in (10, 20, 25, 50) for zeros in range(5))


def may_end_early(members: int) -> bool:
    """Whether a list of so many members may be a part of all: some applications show the first 100 of a group and say
    nothing, and whoever cuts a list cuts it at a round number."""
    return members in _ROUND


def shown_groups(user: Mapping[str, Any]) -> set[str] | None:
    """The ids of the groups that a user shows to be in (RFC 7643, section 4.1.2); None where it does not say."""
    groups = user.get("groups")
    if not isinstance(groups, list):
        return None
    return {str(one["value"]) for one in groups if isinstance(one, Mapping) and one.get("value")}


def granted(account: Account, progress: Progress) -> bool:
    """Whether the account's groups can be judged at all: the connector is done with it, and it exists."""
    return progress.remote_id is not None and account.state != "absent" and is_done(account, progress)


def misplaced(
    group: str, members: set[str], rows: Mapping[str, tuple[Account, Progress]], only: Iterable[str]
) -> Iterator[Finding]:
    """The findings of those accounts among `only` (by their ids) that are on record as `rows`."""
    for remote_id in only:
        row = rows.get(remote_id)
        if row is None or not granted(*row):
            continue
        account, progress = row
        wanted, shown = group in account.groups, remote_id in members
        if wanted and not shown:
            yield _finding(FindingKind.MEMBER_MISSING, account, remote_id, group)
        elif shown and not wanted:
            ours = group in progress.left_groups
            kind = FindingKind.MEMBER_EXTRA if ours else FindingKind.MEMBER_FOREIGN
            yield _finding(kind, account, remote_id, group)


def _finding(kind: FindingKind, account: Account, remote_id: str, group: str) -> Finding:
    shown = NO_MEMBER if kind is FindingKind.MEMBER_MISSING else MEMBER
    wanted = MEMBER if kind is FindingKind.MEMBER_MISSING else NO_MEMBER
    return Finding(kind, remote_id, account.person_id, {f"groups[{group}]": (shown, wanted)}, group=group)
