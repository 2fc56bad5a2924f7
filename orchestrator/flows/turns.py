"""Whose turn it is to call an application: a free slot and room in the budget, both at once, leavers first.

Were one taken before the other, whoever holds it would keep it from those who go ahead: joiners that wait for the
budget would sit in every slot, or room in the budget would go to calls that have no slot yet and leave all together.
"""

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from math import ceil, inf

from orchestrator.domain.budget import Budget, CallKind

MAKING_WAY = 4
"""While somebody loses access, whoever gets something uses one slot in so many. What all the others have to do would
take this process's time from the leaver, who needs it between the calls as well: to load, to save, to read back."""


@dataclass(slots=True)
class Turn:
    """The permission for one call; give it back with `Turns.end`."""

    kind: CallKind
    urgent: bool
    granted: "asyncio.Future[bool]"
    """True when the call may go out, False when another one took it along."""
    number: int
    whom: Collection[str] = ()
    """Whose account, or member of a group, the call is about."""
    sent: float | None = field(default=None)
    """When the call went out; None while it has not."""


class Turns:
    """At most `slots` calls at once, within the budget; whoever takes access away goes ahead of whoever gives it."""

    def __init__(self, slots: int, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self._slots = slots
        self._open = slots
        self._taken = {True: 0, False: 0}  # by calls that take access away, and by others
        self._making_way = False
        self._number = 0
        self._waiting = {
            urgent: {kind: deque[Turn]() for kind in CallKind} for urgent in (True, False)
        }  # the urgent ones are looked at first
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, kind: CallKind = CallKind.READ, *, urgent: bool, whom: Collection[str] = ()) -> Turn:
        """Wait for a turn."""
        turn = self.line_up(kind, urgent=urgent, whom=whom)
        await self.granted(turn)
        return turn

    def line_up(self, kind: CallKind, *, urgent: bool, whom: Collection[str] = ()) -> Turn:
        """Stand in line, without waiting yet; see `granted`."""
        turn = Turn(kind, urgent, asyncio.get_running_loop().create_future(), self._number, whom)
        self._number += 1
        self._waiting[urgent][kind].append(turn)
        self._grant()
        return turn

    async def granted(self, turn: Turn) -> bool:
        """Wait for the turn. False when it was given up meanwhile, so that there is nothing to end."""
        try:
            return await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled() and turn.granted.result():
                self.end(turn)  # it was given to us in the moment of cancellation
            raise

    def give_up(self, turn: Turn) -> bool:
        """Out of the line, at no cost, because another call takes this one along. False when it is too late."""
        if turn.granted.done():
            return False
        turn.granted.set_result(False)
        return True

    def hurry(self, whom: Collection[str]) -> None:
        """Calls about one of them that stand in line go ahead from now on, like those that take access away."""
        for kind, line in self._waiting[False].items():
            for turn in [one for one in line if any(name in whom for name in one.whom)]:
                line.remove(turn)
                turn.urgent = True
                self._waiting[True][kind].append(turn)
        self._grant()

    @property
    def under_way(self) -> int:
        """How many turns are taken."""
        return sum(self._taken.values())

    @property
    def open(self) -> int:
        """How many calls may be under way at once."""
        return self._open

    def is_scarce(self, kind: CallKind) -> bool:
        """Whether the budget has no room for one more of them now."""
        return self.budget.wait(kind, asyncio.get_running_loop().time(), urgent=False) > 0

    def sends(self, turn: Turn) -> None:
        """The call goes out now."""
        turn.sent = asyncio.get_running_loop().time()

    def end(self, turn: Turn) -> None:
        """The call has ended, or was not sent at all; the next in line may go."""
        self._taken[turn.urgent] -= 1
        if turn.sent is None:
            self.budget.forget(turn.kind)
        else:
            self.budget.done(turn.kind, turn.sent, asyncio.get_running_loop().time())
        self._grant()

    def widen(self, part: float) -> None:
        """Use this part of the slots from now on, at least one."""
        self._open = max(ceil(self._slots * part), 1)
        self._grant()

    def make_way(self, somebody_leaves: bool) -> None:
        """While somebody does, the others use a part of the slots, at least one."""
        self._making_way = somebody_leaves
        self._grant()

    def resize(self, share: float) -> None:
        """This process now holds that share of the budget."""
        self.budget.resize(share, asyncio.get_running_loop().time())
        self._grant()

    def _grant(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self.under_way < self._open:
            turn, wait = self._next()
            if turn is None:
                if wait < inf:
                    self._timer = asyncio.get_running_loop().call_later(max(wait, 0.0005), self._grant)
                return
            self._taken[turn.urgent] += 1
            turn.granted.set_result(True)

    def _next(self) -> tuple[Turn | None, float]:
        """Who goes now, or in how many seconds somebody may."""
        soonest = inf
        now = asyncio.get_running_loop().time()
        for urgent, lines in self._waiting.items():
            if not urgent and self._making_way and self._taken[False] >= ceil(self._open / MAKING_WAY):
                continue
            ready: Turn | None = None
            for kind, line in lines.items():
                while line and line[0].granted.done():
                    line.popleft()  # cancelled, or taken along
                if not line:
                    continue
                wait = self.budget.wait(kind, now, urgent=urgent)
                if wait > 0:
                    soonest = min(soonest, wait)
                elif ready is None or line[0].number < ready.number:
                    ready = line[0]
            if ready is not None:
                lines[ready.kind].popleft()
                self.budget.take(ready.kind, now)
                return ready, 0.0
        return None, soonest
