"""Reads the managed groups of an application and says whose membership is not as it should be.

One group is read at a time, and memory holds what should be of some groups: a quarter of a million memberships at most,
however many there are; each such part costs one more pass over the account rows.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.account import Account
from orchestrator.domain.group_drift import granted, may_end_early, misplaced, shown_groups, shown_members
from orchestrator.domain.reconciliation import Finding, FindingKind
from orchestrator.errors import NotFoundPage, Rejected, TooLarge, Unavailable
from orchestrator.flows.application import Application
from orchestrator.flows.listing import Send, groups
from orchestrator.flows.membership import FIXED
from orchestrator.ports import ReconcileStore, ScimRequest

MOST_MEMBERSHIPS = 250_000
BATCH = 200


class GroupDrift:
    """One reading of the managed groups: those that somebody is in, or was, by what we decided."""

    def __init__(
        self, app: str, store: ReconcileStore, send: Send, application: Application, *, began: datetime
    ) -> None:
        """What was issued since `began` may have come about behind the reading's back and is not judged."""
        self._app = app
        self._store = store
        self._send = send
        self._application = application
        self._began = began
        self._listed: dict[str, str] | None = None
        self.groups = 0
        """How many groups were read."""
        self.strangers: Counter[str] = Counter()
        """By group: members that are nobody's whom we know, groups in groups left out."""
        self.partial: dict[str, int | None] = {}
        """Groups of which not all members are shown, as far as can be told, and how many are; None: nothing is, because
        the group is too large to be read. Nothing is concluded of who is not among them."""

    @property
    def readable(self) -> bool:
        """Whether the application shows the members of its groups at all."""
        return self._application.dialect.shows_members

    async def find(self) -> AsyncIterator[Finding]:
        """Every account that is in a managed group and should not be, or should be and is not."""
        if not self.readable:
            return
        for part in _parts(await self._sizes()):
            expected = await self._expected(part)
            ids = await self._store.group_ids(self._app, [one for one in part if not one.startswith(FIXED)])
            for name in part:
                async for finding in self._judge(name, expected.pop(name), ids):
                    yield finding

    async def _sizes(self) -> Counter[str]:
        sizes: Counter[str] = Counter()
        async for page in self._store.linked(self._app):
            for account, progress in page:
                sizes.update(account.groups)
                sizes.update(dict.fromkeys(progress.left_groups, 0))
        return sizes

    async def _expected(self, part: Sequence[str]) -> dict[str, set[str]]:
        expected: dict[str, set[str]] = {name: set() for name in part}
        async for page in self._store.linked(self._app):
            for account, progress in page:
                if granted(account, progress):
                    for name in account.groups:
                        if name in expected:
                            expected[name].add(progress.remote_id or "")
        return expected

    async def _judge(self, name: str, expected: set[str], ids: Mapping[str, str]) -> AsyncIterator[Finding]:
        try:
            group = await self._read(name, ids)
        except (Rejected, TooLarge):
            self.partial[name] = None
            return
        self.groups += 1
        members = set() if group is None else shown_members(group)  # nobody can be in a group that is not there
        all_shown: bool | None = None
        differing = sorted(expected ^ members)
        for some in _batches(differing):
            # Read anew: what the connector has done since the expectation was read is no drift.
            rows = await self._store.by_remote_id(self._app, some)
            self.strangers[name] += sum(one not in rows for one in some if one in members)
            for finding in misplaced(name, members, rows, some):
                if finding.remote_id is None or self._late(rows[finding.remote_id][0]):
                    continue
                if finding.kind is FindingKind.MEMBER_MISSING:
                    if all_shown is None:
                        all_shown = group is None or await self._shows_all(group, finding.remote_id)
                    if not all_shown:
                        self.partial[name] = len(_listed(group or {}))
                        continue
                yield finding

    def _late(self, account: Account) -> bool:
        return account.issued_at is not None and account.issued_at >= self._began

    async def _shows_all(self, group: Mapping[str, Any], missing: str) -> bool:
        """Whether a group that does not show an account is believed. The account is asked, once for each group; where
        it does not say, a round number of members is suspicious."""
        answer = await self._send(self._application.read(missing))
        user = self._application.user(answer) if answer.status != 404 else None
        of_user = None if user is None else shown_groups(user)
        if of_user is not None:
            return str(group["id"]) not in of_user
        return not may_end_early(len(_listed(group)))

    async def _read(self, name: str, ids: Mapping[str, str]) -> Mapping[str, Any] | None:
        group_id = name.removeprefix(FIXED) if name.startswith(FIXED) else ids.get(name) or await self._find(name)
        if group_id is None:
            return None
        try:
            answer = await self._send(ScimRequest("GET", self._application.group_path(group_id)))
        except NotFoundPage:
            if name.startswith(FIXED) or await self._find(name) == group_id:
                raise
            return None  # the application shows none of that name, or another one that we have never used
        if answer.status == 404:
            return None
        group = self._application.user(answer)
        if group is None:
            raise Unavailable(f"the application answered a read of a group with {answer.status} and no group")
        return group

    async def _find(self, name: str) -> str | None:
        if not self._application.capabilities.filter:
            if self._listed is None:
                listing = groups(self._send, self._application)
                self._listed = {str(row.get("displayName")): str(row["id"]) async for row in listing}
            return self._listed.get(name)
        page = self._application.page(await self._send(self._application.find_group(name)))
        found = [str(one["id"]) for one in page.rows if one.get("displayName") == name] if page is not None else []
        return min(found) if found else None


def _listed(group: Mapping[str, Any]) -> list[Any]:
    members = group.get("members")
    return members if isinstance(members, list) else []


def _parts(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The groups in parts of which memory holds all members that there should be."""
    part: list[str] = []
    members = 0
    for name in sorted(sizes):
        if part and members + sizes[name] > MOST_MEMBERSHIPS:
            yield part
            part, members = [], 0
        part.append(name)
        members += sizes[name]
    if part:
        yield part


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
