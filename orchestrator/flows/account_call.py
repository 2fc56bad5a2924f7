"""One account in an application during one run: what is known of it, and the calls made, under one lease."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from orchestrator.domain.account import Account, Progress, takes_access
from orchestrator.domain.unique_names import Paths, numbered
from orchestrator.errors import Ambiguous, Rejected, Unavailable
from orchestrator.flows.calling import Calls
from orchestrator.flows.group_commit import Saved
from orchestrator.ports import ScimRequest, ScimResponse

ASKED_AT_ONCE_SECONDS = 1.0
"""Many who may send were asked together: when it took longer, they are asked once more, as the first lease may have run
out by the time of the last answer."""


async def all_asked(questions: Sequence[Callable[[], Awaitable[None]]]) -> list[BaseException | None]:
    """Ask whether each may send, see `Call.hold_the_lease`; what speaks against each."""
    loop = asyncio.get_running_loop()
    against: list[BaseException | None] = [None] * len(questions)
    while True:
        began, asked = loop.time(), [place for place, error in enumerate(against) if error is None]
        answers = await asyncio.gather(*(questions[place]() for place in asked), return_exceptions=True)
        for place, answer in zip(asked, answers, strict=True):
            against[place] = answer
        if loop.time() - began < ASKED_AT_ONCE_SECONDS:
            return against


class Fenced(Exception):
    """The lease ran out before a call, and somebody else has the account: load again."""


class Outdated(Fenced):
    """We waited for long, and by now something else is wanted of the account: load again, and wait for nobody."""


@dataclass(slots=True)
class Remote:
    """The account in the application as far as we know it during one run, and the calls made."""

    id: str | None
    active: bool | None
    resource: Mapping[str, Any]
    groups: tuple[str, ...]
    calls: list[list[Any]] = field(default_factory=list)
    """Method, path and status of each call, for the audit; the account's id is not in it. Between path and status
    stands "bulk" where it was one operation of a Bulk request."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """The attributes as they were found, before anything was changed."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Groups that the account was put into and taken out of."""
    sent_at: datetime | None = None
    """When the first change went out."""
    verified_at: datetime | None = None
    shown: Mapping[str, Any] | None = None
    """The whole resource as the application showed it last in this run; None after a change of it."""
    version: str | None = None
    """Its ETag."""
    reopened: bool = False
    """Whether a call of this run was to open an account that was there."""

    def gone(self) -> None:
        """The application does not show it. The groups stay on record: a replica may only be behind, and an account
        that is found again may still be in them."""
        self.id, self.active, self.resource, self.shown, self.version = None, None, {}, None, None

    @property
    def is_out(self) -> bool:
        """Whether nobody can sign in with it."""
        return self.id is None or self.active is False


@dataclass(slots=True)
class Call:
    """The calls of one run, under one lease."""

    intend: Callable[["Call"], Awaitable[Saved]]
    """Saves anew what is intended, unless the account has a new owner."""
    caller: Calls
    account: Account
    progress: Progress
    remote: Remote
    recheck_at: datetime | None
    now: Callable[[], datetime]
    unsure: bool
    """Whether nobody knows what the application holds, so that the intent has to outlive a failure."""
    doubted: bool = False
    """Whether a change was answered with 5xx: the application may have done it, and will not do it any more."""
    lease_until: float = 0.0
    hurried: bool = False
    """Whether access is to be taken away by now, whatever this run is for: it stands in nobody's way, nor in line."""
    settled: bool = False
    created: bool = False
    missed: bool = False
    refused: tuple[ScimRequest, Rejected] | None = None
    """A change that was refused and came of what we remembered, not of a look."""
    outdated: int = 0
    """How often somebody else changed the account between our look and our change of it."""
    forgot: bool = False
    """Whether groups that the account may be in were dropped from what is known, to be added once more."""
    plain: Mapping[str, Any] = field(default_factory=dict)
    """What is wanted of the account with the plain one of its unique names."""
    twins: bool = False
    """Whether a create was left open: should it arrive late, where names are not unique, there are two accounts."""
    looked: bool = False
    """Whether the account was looked for in this run."""
    name_taken: bool = False
    """Whether the last look found somebody else's account with the name."""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)
    unexplained: int = 0
    """How often a name was refused and nobody was shown to have it."""

    @property
    def urgent(self) -> bool:
        """Whether this run takes access away."""
        return takes_access(self.account.state) or (self.account.state == "staged" and self.remote.active is True)

    @property
    def goes_ahead(self) -> bool:
        """Whether its calls go ahead of those that give access."""
        return self.urgent or self.hurried

    def hurry(self) -> None:
        """Access is to be taken away by now. A run that has changed nothing yet asks what is wanted before it does; one
        that has is finished ahead of the line, so that what it did is told, and not found out by looks."""
        self.hurried = True
        if self.remote.sent_at is None:
            self.lease_until = 0.0

    def doubt(self, known: str | None) -> bool:
        """After a look at the account with the id `known`: whether a replica may have answered it whose picture is from
        before the account was there, or was opened. Then it is as if it had told nothing, and a change has to show:
        that never meets a replica."""
        remote, progress, now = self.remote, self.progress, self.now()
        unseen = known != progress.remote_id or progress.may_be_unseen(now)
        if known is not None and remote.id is None and unseen:
            remote.id = known
            return True
        closed = remote.id == known and remote.active is False and takes_access(self.account.state)
        if closed and progress.may_look_closed(now):
            remote.active = None
            return True
        return False

    def too_soon(self) -> Unavailable:
        """What to raise where a look is in doubt. Every call is answered, so nothing else may arrive: the next attempt
        looks at once, and not once more later."""
        self.unsure, self.doubted = False, True
        return Unavailable(
            "the account was opened a moment ago, and what the application shows may be older: it is looked at again"
        )

    @property
    def opens(self) -> bool:
        """Whether the account is to be open, and not made ready for a first day."""
        return self.account.state == "active"

    def take_name(self, number: int, paths: Paths) -> None:
        """From now on the account is to have that candidate of its unique names."""
        self.account = replace(self.account, resource=numbered(self.plain, paths, number), number=number)
        self.progress = replace(self.progress, number=number)

    async def hold_the_lease(self) -> None:
        """Say anew what is intended when the lease has run out, as it does in a long line before a slow application,
        and again should this process sleep while it says so. A change goes out right after it.

        Raises Fenced when the account has a new owner by now, Outdated when it has a newer revision: somebody who came
        back in the meantime must not be put out.
        """
        async with self.renewing:
            while asyncio.get_running_loop().time() > self.lease_until:
                saved = await self.intend(self)
                if saved is Saved.NOT:
                    raise Fenced
                if saved is Saved.BEHIND:
                    raise Outdated
        self.remote.sent_at = self.remote.sent_at or self.now()

    async def send(self, request: ScimRequest) -> ScimResponse:
        """Send one call and remember method, path and status for the audit entry."""
        may_send = self.hold_the_lease if request.method != "GET" else None
        try:
            answer = await self.caller.call(
                request,
                urgent=self.goes_ahead,
                correlation_id=self.account.correlation_id,
                may_send=may_send,
                whom=(self.account.person_id,),
            )
        except Ambiguous:
            self.unsure = self.unsure or request.method != "GET"
            raise
        except Unavailable:
            self.doubted = self.doubted or request.method != "GET"
            raise
        way = ("bulk",) if answer.in_bulk else ()
        self.remote.calls.append([request.method, _impersonal(request.path), *way, answer.status])
        return answer


def _impersonal(path: str) -> str:
    """A path without the account's id, which may be a name or an address."""
    steps = path.split("/")
    return "/".join((*steps[:2], "{account}", *steps[3:])) if steps[1:2] == ["Users"] and steps[2:] else path
