"""Group membership, merged across people: whatever comes together for one group goes out in one PATCH.

At most one PATCH per group is under way; what arrives meanwhile is merged into the next. While more people keep coming
for a group its next PATCH waits for them, a little; who loses a membership is not made to wait. Adding a member that is
there and removing one that is not are harmless, so a chunk of unknown outcome is simply sent again. Whoever is to leave
a group and is no member is out of it, also where the application refuses that (400 noTarget).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar

import structlog

from orchestrator.domain.retry import Backoff
from orchestrator.errors import Ambiguous, Changed, NoTarget, NotFoundPage, Rejected, Unavailable, Unconditional
from orchestrator.flows.account_call import all_asked
from orchestrator.flows.application import Application, if_match
from orchestrator.flows.calling import Caller
from orchestrator.flows.listing import groups
from orchestrator.flows.patience import patiently
from orchestrator.ports import Clock, ConvergeStore, ScimRequest, ScimResponse

log = structlog.get_logger()

T = TypeVar("T")

CLAIM = timedelta(seconds=30)
LINGER_SECONDS = 0.1
"""So long a PATCH waits for one more member; a lone joiner is in the group so much later."""
LONGEST_LINGER_SECONDS = 5.0
"""So long at most, however they keep coming: half of the lease under which the change may be sent."""
MOST_WAITING = 2000
"""Accounts that may wait here beside those that the lane has under way."""
MOST_OUTDATED = 5
"""So often in a row somebody may change a group between our look and our change of it."""
FIXED = "id:"
"""A group that is named `id:X` is the one with the id X, whatever it is called."""
_BACKOFF = Backoff(base=0.1, most=10)


_Ask = Callable[[ScimRequest], Awaitable[ScimResponse]]


class _Fewer(Exception):
    """Somebody no longer stands behind a change that was about to be sent."""


async def _always() -> None:
    return


@dataclass(slots=True)
class _Change:
    member: str
    add: bool
    urgent: bool
    may_send: Callable[[], Awaitable[None]]
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Membership:
    """The groups of one application."""

    def __init__(
        self,
        app: str,
        caller: Caller,
        store: ConvergeStore,
        clock: Clock,
        application: Application,
        *,
        chunk: int,
        on_waiting: Callable[[], None] | None = None,
    ) -> None:
        self._on_waiting = on_waiting
        self._accounts = 0
        self._app = app
        self._caller = caller
        self._store = store
        self._clock = clock
        self._application = application
        self._chunk = application.chunk(chunk)
        self._ids: dict[str, str] = {}
        self._waiting: dict[str, list[_Change]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changes: dict[str, list[_Change]] = {}
        self._chance = random.Random()

    async def change(
        self,
        member: str,
        *,
        add: Sequence[str],
        remove: Sequence[str],
        urgent: bool,
        may_send: Callable[[], Awaitable[None]] = _always,
    ) -> None:
        """Put `member` (its id in the application) into the groups `add` and out of the groups `remove`.

        Returns when all of it is done; raises the first error, after all of it was tried. `may_send` is asked at the
        last moment and may raise; a change whose caller was cancelled is not sent.
        """
        changes = [(name, _Change(member, True, urgent, may_send)) for name in add]
        changes += [(name, _Change(member, False, urgent, may_send)) for name in remove]
        for name, change in changes:
            self._waiting.setdefault(name, []).append(change)
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._run(name), name=f"group {self._app}")
        self._accounts += 1
        self._changes[member] = [change for _, change in changes]
        if self._on_waiting is not None:
            self._on_waiting()
        try:
            outcomes = await asyncio.gather(*(change.done for _, change in changes), return_exceptions=True)
        finally:
            self._accounts -= 1
            self._changes.pop(member, None)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def hurry(self, member: str | None) -> None:
        """What is under way for this member goes with whoever takes access away."""
        for change in self._changes.get(member or "", ()):
            change.urgent = True

    @property
    def waiting(self) -> int:
        """Accounts that wait for their groups and need nothing else; at most `MOST_WAITING` of them."""
        return min(self._accounts, MOST_WAITING)

    async def _gather_more(self, name: str) -> None:
        """Wait while more people keep coming for a group, unless its PATCH is full or somebody has to be out."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST_LINGER_SECONDS
        known = 0
        await asyncio.sleep(0)
        while known < (number := len(self._waiting[name])) < self._chunk and loop.time() < until:
            if any(change.urgent or not change.add for change in self._waiting[name][known:]):
                return
            known = number
            await asyncio.sleep(LINGER_SECONDS)

    async def _run(self, name: str) -> None:
        try:
            while self._waiting.get(name):
                await self._gather_more(name)
                waiting = self._waiting[name]
                changes, self._waiting[name] = waiting[: self._chunk], waiting[self._chunk :]
                await self._send(name, changes)
        finally:
            del self._tasks[name]
            for change in self._waiting.pop(name, ()):
                change.done.cancel()

    async def _send(self, name: str, changes: list[_Change]) -> None:
        changes = [change for change in changes if not change.done.done()]
        if not changes:
            return
        try:
            await self._patch(name, changes)
        except _Fewer:
            await self._send(name, changes)
        except Rejected as error:
            if len(changes) > 1:  # one of them is to blame: find out which
                middle = len(changes) // 2
                await self._send(name, changes[:middle])
                await self._send(name, changes[middle:])
            elif isinstance(error, NoTarget) and not changes[0].add:
                _succeed(changes)  # whoever is no member is out of the group
            else:
                _fail(changes, error)
        except Exception as error:  # noqa: BLE001 - whoever waits knows what it means, and nobody may wait for ever
            _fail(changes, error)
        except asyncio.CancelledError:
            for change in changes:
                change.done.cancel()
            raise
        else:
            _succeed(changes)

    async def _patch(self, name: str, changes: list[_Change]) -> None:
        add = [change.member for change in changes if change.add]
        remove = [change.member for change in changes if not change.add]
        call = partial(self._call, changes)
        missed = outdated = 0
        while missed < 2:
            group_id = await self._group_id(name, call, create=bool(add))
            if group_id is None:
                return  # nobody is a member of a group that does not exist
            request = await self._request(group_id, add, remove, call)
            if request is None:
                missed += 1
                await self._forget(name)
                continue
            try:
                answer = await call(request, may_send=partial(self._all_stand_by, changes))
            except NotFoundPage:
                if name.startswith(FIXED):
                    raise  # nothing else can be asked for it
                answer = ScimResponse(404)  # a search for the group says whether that is so
            except Changed as error:
                outdated += 1
                if outdated > MOST_OUTDATED:
                    raise Unavailable(f"{error}, however often a group is read before a change") from error
                self._application.insists |= isinstance(error, Unconditional)
                continue
            if answer.status == 409:
                raise Rejected("the application refuses the members of a group (409)")
            if answer.status != 404:
                return
            missed += 1
            await self._forget(name)
        raise Rejected("the application does not know a group, or a member, that it showed before (404)")

    async def _call(
        self, changes: list[_Change], request: ScimRequest, may_send: Callable[[], Awaitable[None]] | None = None
    ) -> ScimResponse:
        """A call for all of them; it goes ahead where one of them does by then."""
        whom = [change.member for change in changes]
        urgent = any(change.urgent for change in changes)
        return await self._caller.call(request, urgent=urgent, may_send=may_send, whom=whom)

    async def _request(self, group_id: str, add: list[str], remove: list[str], call: _Ask) -> ScimRequest | None:
        """The change of the members; None when the group has to be looked up again. An application without PATCH
        wants the group whole, so it is read before; nobody else changes it between the two but by If-Match."""
        application = self._application
        if application.capabilities.patch:
            change = application.members(group_id, add, remove)
            if not application.insists:
                return change
            answer = await call(application.read_group(group_id))
            if answer.status == 404:
                return None
            return if_match(change, application.version(answer))
        if not application.capabilities.put:
            raise Rejected("the application takes neither PATCH nor PUT of a group")
        answer = await call(ScimRequest("GET", application.group_path(group_id)))
        shown = application.user(answer)
        if answer.status == 404 or shown is None:
            return application.members(group_id, add, remove) if answer.status == 404 else None
        request = application.replace_members(group_id, shown, add, remove)
        return if_match(request, application.version(answer))

    async def _forget(self, name: str) -> None:
        """The application does not know the group under the id that we know."""
        self._ids.pop(name, None)
        if not name.startswith(FIXED):
            await self._patiently(lambda: self._store.save_group_id(self._app, name, None))

    async def _all_stand_by(self, changes: list[_Change]) -> None:
        """Leave out whoever was cancelled or has lost the account while the PATCH stood in line."""
        answers = await all_asked([change.may_send for change in changes])
        for change, answer in zip(changes, answers, strict=True):
            if answer is not None:
                _fail([change], answer)
        if any(change.done.done() for change in changes):
            raise _Fewer

    async def _group_id(self, name: str, call: _Ask, *, create: bool) -> str | None:
        if name.startswith(FIXED):
            return name.removeprefix(FIXED)
        if name in self._ids:
            return self._ids[name]
        stored = await self._patiently(lambda: self._store.group_ids(self._app, [name]))
        group_id = stored.get(name) or await self._find(name, call)
        if group_id is None and create:
            group_id = await self._create(name, call)
        if group_id is not None:
            self._ids[name] = group_id
            await self._patiently(lambda: self._store.save_group_id(self._app, name, group_id))
        return group_id

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await patiently(ask, app=self._app, backoff=_BACKOFF, chance=self._chance)

    async def _find(self, name: str, call: _Ask) -> str | None:
        if not self._application.capabilities.filter:
            listing = groups(call, self._application)
            named = [row async for row in listing if row.get("displayName") == name]
        else:
            answer = await call(self._application.find_group(name))
            page = self._application.page(answer)
            named = page.rows if page is not None else []
        found = [str(one["id"]) for one in named if one.get("displayName") == name]
        return min(found) if found else None

    async def _create(self, name: str, call: _Ask) -> str:
        if not self._application.creates_groups:
            raise Rejected("a group that this account needs does not exist, and groups are not created there")
        now = self._clock.now()
        if not await self._patiently(lambda: self._store.claim_group(self._app, name, now=now, until=now + CLAIM)):
            raise Unavailable("another process is creating a group that this account needs")
        try:
            answer = await call(self._application.create_group(name))
        except Ambiguous:
            if found := await self._find(name, call):
                return found
            raise
        created = self._application.user(answer)
        if answer.status in (200, 201) and created is not None:
            return str(created["id"])
        if found := await self._find(name, call):
            return found
        raise Rejected(f"the application did not create a group ({answer.status})")

    async def close(self) -> None:
        """Stop; whoever waits is told that nothing is known."""
        for task in list(self._tasks.values()):
            task.cancel()


def _succeed(changes: list[_Change]) -> None:
    for change in changes:
        if not change.done.done():
            change.done.set_result(None)


def _fail(changes: list[_Change], error: BaseException) -> None:
    for change in changes:
        if not change.done.done():
            change.done.set_exception(error)
