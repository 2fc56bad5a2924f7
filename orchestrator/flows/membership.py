"""Group membership, merged across people: whatever comes together for one group goes out in one PATCH.

At most one PATCH per group is under way; what arrives meanwhile is merged into the next. Adding a member that is
there and removing one that is not are harmless, so a chunk of unknown outcome is simply sent again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.domain.scim_diff import GROUP_SCHEMA, member_operations, patch_body, quoted
from orchestrator.errors import Ambiguous, Rejected, ScimError, Unavailable
from orchestrator.flows.calling import Caller
from orchestrator.ports import Clock, ConvergeStore, ScimRequest

CLAIM = timedelta(seconds=30)


@dataclass(slots=True)
class _Change:
    member: str
    add: bool
    urgent: bool
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Membership:
    """The groups of one application."""

    def __init__(self, app: str, caller: Caller, store: ConvergeStore, clock: Clock, *, chunk: int) -> None:
        self._app = app
        self._caller = caller
        self._store = store
        self._clock = clock
        self._chunk = chunk
        self._ids: dict[str, str] = {}
        self._waiting: dict[str, list[_Change]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def change(self, member: str, *, add: Sequence[str], remove: Sequence[str], urgent: bool) -> None:
        """Put `member` (its id in the application) into the groups `add` and out of the groups `remove`.

        Returns when all of it is done; raises the first error, after all of it was tried.
        """
        changes = [(name, _Change(member, True, urgent)) for name in add]
        changes += [(name, _Change(member, False, urgent)) for name in remove]
        for name, change in changes:
            self._waiting.setdefault(name, []).append(change)
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._run(name), name=f"group {self._app}")
        outcomes = await asyncio.gather(*(change.done for _, change in changes), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _run(self, name: str) -> None:
        try:
            while self._waiting.get(name):
                await asyncio.sleep(0)
                waiting = self._waiting[name]
                changes, self._waiting[name] = waiting[: self._chunk], waiting[self._chunk :]
                await self._send(name, changes)
        finally:
            del self._tasks[name]
            self._waiting.pop(name, None)

    async def _send(self, name: str, changes: list[_Change]) -> None:
        try:
            await self._patch(name, changes)
        except Rejected as error:
            if len(changes) == 1:
                _fail(changes, error)
                return
            for change in changes:  # one of them is to blame: find out which
                await self._send(name, [change])
        except ScimError as error:
            _fail(changes, error)
        else:
            for change in changes:
                if not change.done.done():
                    change.done.set_result(None)

    async def _patch(self, name: str, changes: list[_Change]) -> None:
        add = [change.member for change in changes if change.add]
        remove = [change.member for change in changes if not change.add]
        urgent = any(change.urgent for change in changes)
        body = patch_body(member_operations(add, remove))
        for _ in range(2):
            group_id = await self._group_id(name, create=bool(add), urgent=urgent)
            if group_id is None:
                return  # nobody is a member of a group that does not exist
            answer = await self._caller.call(ScimRequest("PATCH", f"/Groups/{group_id}", body), urgent=urgent)
            if answer.status == 409:
                raise Rejected("the application refuses the members of a group (409)")
            if answer.status != 404:
                return
            self._ids.pop(name, None)
            await self._store.save_group_id(self._app, name, None)
        raise Rejected("the application does not know a group, or a member, that it showed before (404)")

    async def _group_id(self, name: str, *, create: bool, urgent: bool) -> str | None:
        if name in self._ids:
            return self._ids[name]
        group_id = (await self._store.group_ids(self._app, [name])).get(name) or await self._find(name, urgent=urgent)
        if group_id is None and create:
            group_id = await self._create(name, urgent=urgent)
        if group_id is not None:
            self._ids[name] = group_id
            await self._store.save_group_id(self._app, name, group_id)
        return group_id

    async def _find(self, name: str, *, urgent: bool) -> str | None:
        query = {"filter": f"displayName eq {quoted(name)}", "excludedAttributes": "members"}
        answer = await self._caller.call(ScimRequest("GET", "/Groups", query=query), urgent=urgent)
        resources = (answer.body or {}).get("Resources") or []
        found = [one["id"] for one in resources if isinstance(one, dict) and one.get("displayName") == name]
        return str(min(found)) if found else None

    async def _create(self, name: str, *, urgent: bool) -> str:
        now = self._clock.now()
        if not await self._store.claim_group(self._app, name, now=now, until=now + CLAIM):
            raise Unavailable("another process is creating a group that this account needs")
        body = {"schemas": [GROUP_SCHEMA], "displayName": name}
        try:
            answer = await self._caller.call(ScimRequest("POST", "/Groups", body), urgent=urgent)
        except Ambiguous:
            if found := await self._find(name, urgent=urgent):
                return found
            raise
        created = (answer.body or {}).get("id")
        if answer.status in (200, 201) and created:
            return str(created)
        if found := await self._find(name, urgent=urgent):
            return found
        raise Rejected(f"the application did not create a group ({answer.status})")

    async def close(self) -> None:
        """Stop; whoever waits is told that nothing is known."""
        for task in list(self._tasks.values()):
            task.cancel()


def _fail(changes: list[_Change], error: ScimError) -> None:
    for change in changes:
        if not change.done.done():
            change.done.set_exception(error)
