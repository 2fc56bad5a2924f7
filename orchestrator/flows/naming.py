"""Unique names at the application: the first candidate that is free, kept with the account before it is sent.

A candidate is given up only when it is known that the account with it is not the person's: what a call of ours that
was left open may still bring about is never taken for somebody else's.
"""

import structlog

from orchestrator.domain.scim_diff import value_at, values_at
from orchestrator.domain.unique_names import MOST_NAMES, Paths
from orchestrator.errors import UniquenessConflict
from orchestrator.flows.account_call import Call, Fenced
from orchestrator.flows.finding import Finder
from orchestrator.metrics import NAMES_TAKEN

log = structlog.get_logger()

USER_NAME = ("userName",)
"""Every application refuses a second one (RFC 7643, section 4.1.1), so it is not asked for before."""
MOST_UNEXPLAINED = 3
"""So many candidates are given up in one run because of a refusal behind which nobody is shown: a deleted account
keeps its name for a while. After that it is probably another attribute that is taken."""


class Naming:
    """Names of accounts in one application."""

    def __init__(self, app: str, finder: Finder) -> None:
        self._app = app
        self._finder = finder

    def of(self, call: Call) -> bool:
        """Whether the account has a unique name."""
        paths = self._finder.correlation.unique
        return any(value_at(call.plain, steps) is not None for steps in paths)

    def renames(self, call: Call) -> bool:
        """Whether the change that is due gives the account another unique name."""
        held, wanted = call.remote.resource, call.account.resource
        paths = self._finder.correlation.unique
        return any(value_at(held, steps) != value_at(wanted, steps) for steps in paths)

    async def settle(self, call: Call) -> None:
        """Go on to a candidate that nobody shows, as far as the application can be asked. User names are left to its
        refusal, which no race can pass.

        Raises UniquenessConflict when all are taken, Fenced when the account has a new owner.
        """
        while await self._is_shown(call, [one for one in self._finder.correlation.unique if one != USER_NAME]):
            await self._next(call)

    async def _is_shown(self, call: Call, paths: Paths) -> bool:
        """Whether somebody else's account shows one of the names."""
        for steps in paths:
            for value in values_at(call.account.resource, steps):
                if await self._finder.holders_of(call, steps, value):
                    return True
        return False

    async def refused(self, call: Call, message: str) -> None:
        """After a 409 behind which a look has found no account of the person's: go on to the next candidate, which is
        saved before this returns. `call.name_taken` says whether the look found the account of somebody else.

        Raises UniquenessConflict with the message where that is not safe, or too many were tried; Fenced.
        """
        if not self.of(call):
            raise UniquenessConflict(message)
        if not call.name_taken and not await self._is_shown(call, self._finder.correlation.unique):
            call.unexplained += 1
            if call.recheck_at is not None or call.doubted or call.unexplained > MOST_UNEXPLAINED:
                raise UniquenessConflict(message)
        await self._next(call)

    async def _next(self, call: Call) -> None:
        number = call.progress.number + 1
        NAMES_TAKEN.labels(self._app).inc()
        if number > MOST_NAMES:
            call.take_name(1, self._finder.correlation.unique)  # a retry begins anew: names come free
            raise UniquenessConflict(
                f"{MOST_NAMES} names were tried and all are taken: have the policy make names that collide less"
            )
        log.info("name_taken", app=self._app, attempt=number, correlation_id=call.account.correlation_id)
        call.take_name(number, self._finder.correlation.unique)
        call.unsure = False
        if not await call.intend(call):
            raise Fenced
