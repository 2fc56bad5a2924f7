"""The calls that bring one account to its desired state, and the looks that tell what an application holds.

A POST is never repeated before a look at what the first one did, a 404 to a change is not believed before a look, and a
deactivation counts only when a read shows it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import structlog

from orchestrator.domain.account import Account
from orchestrator.domain.correlation import RULES, matches
from orchestrator.domain.scim_diff import create_body, is_active, operations, patch_body, project, quoted, set_active
from orchestrator.errors import (
    Ambiguous,
    AmbiguousCorrelation,
    NotEffective,
    Rejected,
    Unavailable,
    UniquenessConflict,
)
from orchestrator.flows.account_call import Call, Remote
from orchestrator.flows.membership import Membership
from orchestrator.ports import Clock, ScimRequest, ScimResponse

log = structlog.get_logger()

OPEN_INTENT = timedelta(seconds=90)
"""An intent that is this old without an outcome was left by a process that died; the relay has it looked at."""
RECHECK = "recheck@"
"""The intent that asks for one more look at an instant, after a call was found open: it may still arrive."""
READ_BACKS = 3


class Steps:
    """What to call for an account of one application."""

    def __init__(self, app: str, membership: Membership, clock: Clock) -> None:
        self._app = app
        self._membership = membership
        self._clock = clock

    # --- what to call -------------------------------------------------------------------------------------------

    async def make_it_so(self, call: Call) -> None:
        account = call.account
        if account.state == "absent":
            await self._delete(call)
        elif account.state == "inactive":
            await self._deactivate(call)
            await self._groups(call, account.groups)
        else:
            await self._patch(call)
            await self._groups(call, account.groups)

    async def _create(self, call: Call) -> None:
        account, remote = call.account, call.remote
        if call.created:
            raise Rejected("the application shows an account and answers 404 to a change of it")
        call.created = True
        try:
            answer = await call.send(ScimRequest("POST", "/Users", create_body(account.resource)))
        except Ambiguous:
            # It may exist now. Only a look can tell, and a second POST could make a second account.
            await self._find(call)
            if remote.id is None:
                raise
            call.unsure = False
            return await self._patch(call)
        if answer.status == 409:
            call.unsure = True  # somebody has it, perhaps an earlier create that a search does not show yet
            await self._find(call)
            if remote.id is None:
                raise UniquenessConflict("the application says the account exists (409) and shows none that matches")
            call.unsure = False
            return await self._patch(call)
        if answer.status == 404:  # no account is to blame for an address that does not exist
            raise Unavailable("the application does not know /Users (404): check base_url")
        created = (answer.body or {}).get("id")
        if not created:
            raise Rejected(f"the application answered a create with {answer.status} and no id")
        remote.id, remote.active, remote.resource, remote.groups = str(created), True, account.resource, ()
        if answer.body and is_active(answer.body) is False:
            remote.active = False
            return await self._patch(call)
        return None

    async def _patch(self, call: Call) -> None:
        account, remote = call.account, call.remote
        if remote.id is None:
            return await self._create(call)
        changes = operations(remote.resource, account.resource)
        if remote.active is not True:
            changes.append(set_active(True))
        if not changes:
            return None
        answer = await self._settled(call, ScimRequest("PATCH", _place(remote), patch_body(changes)))
        if answer is None:
            return await self._patch(call)
        if answer.status == 404:
            await self._missed(call)
            return await self._patch(call)
        if answer.status == 409:
            raise UniquenessConflict("the application refuses a change because another account has the value (409)")
        remote.active, remote.resource = True, account.resource
        return None

    async def _deactivate(self, call: Call) -> None:
        """Leavers: the patch counts only when a read shows that it took effect."""
        remote = call.remote
        if remote.is_out:
            return
        denied = 0
        while denied < READ_BACKS:
            request = ScimRequest("PATCH", _place(remote), patch_body([set_active(False)]))
            answer = await self._settled(call, request)
            if answer is not None and answer.status == 409:
                raise Rejected("the application refuses to deactivate the account (409)")
            if answer is not None and answer.status == 404:
                await self._missed(call)
            elif answer is not None:
                call.unsure = True  # until a look agrees with the answer nobody may go by either of them
                await self._get(call)
                if remote.id is None:
                    raise Unavailable("the application answered a change with success and a read after it with 404")
                denied += 1  # unless the read shows otherwise; a 404 is no success that was denied
            if remote.is_out:
                call.unsure = False
                remote.verified_at = self._clock.now()
                return
            log.warning("deactivation_without_effect", app=self._app, attempt=denied)
        raise NotEffective("the application answered with success and the account is still active")

    async def _delete(self, call: Call) -> None:
        remote = call.remote
        if remote.id is not None:
            answer = await self._settled(call, ScimRequest("DELETE", _place(remote)))
            if answer is not None and answer.status == 404:
                await self._missed(call)
            if (answer is None or answer.status == 404) and remote.id is not None:
                return await self._delete(call)
            if answer is not None and answer.status == 409:
                raise Rejected("the application refuses to delete the account (409)")
        remote.gone()
        remote.verified_at = self._clock.now()
        return None

    async def _groups(self, call: Call, wanted: tuple[str, ...]) -> None:
        remote = call.remote
        add, remove = sorted(set(wanted) - set(remote.groups)), sorted(set(remote.groups) - set(wanted))
        if remote.id is None or not (add or remove):
            return
        call.unsure = True  # should some of the groups fail, nobody says which did not
        await self._membership.change(
            remote.id, add=add, remove=remove, urgent=call.urgent, may_send=call.hold_the_lease
        )
        call.unsure = call.forgot = False
        remote.added, remote.removed = tuple(add), tuple(remove)
        remote.groups = wanted

    # --- what is there --------------------------------------------------------------------------------------------

    async def _settled(self, call: Call, request: ScimRequest) -> ScimResponse | None:
        """Send a change; None when its outcome was unknown and has been read back, so that the caller looks again."""
        try:
            return await call.send(request)
        except Ambiguous:
            if call.settled:
                raise
            call.settled = True
            await self._get(call)
            call.unsure = False
            if not _has_arrived(call.account, call.remote):  # it may do so after the change that follows now
                call.recheck_at = self._clock.now() + OPEN_INTENT
            return None

    async def _missed(self, call: Call) -> None:
        """A 404 to a change is not believed before a look: it may have been the route's or a replica's, or the account
        may live on under another id."""
        if call.missed:
            raise Rejected("the application shows an account and answers 404 to a change of it")
        call.missed = call.unsure = True
        await self.read_back(call)
        call.unsure = False

    async def read_back(self, call: Call) -> None:
        """Find out what the application holds, trusting nothing we remember but the id."""
        if call.remote.id is not None:
            await self._get(call)
        if call.remote.id is None:
            await self._find(call)

    async def _get(self, call: Call) -> None:
        answer = await call.send(ScimRequest("GET", _place(call.remote)))
        if answer.status == 404:
            call.remote.gone()
        elif answer.body is None or not answer.body.get("id"):
            raise Unavailable(f"the application answered a read with {answer.status} and no account")
        else:
            self._saw(call, answer.body)

    async def _find(self, call: Call) -> None:
        """Correlate the account; see `domain.correlation`."""
        wanted = call.account.resource
        for rule in RULES:
            if not isinstance(value := wanted.get(rule), str):
                continue
            answer = await call.send(ScimRequest("GET", "/Users", query={"filter": f"{rule} eq {quoted(value)}"}))
            if answer.body is None and answer.status != 404:
                raise Unavailable(f"the application answered a search with {answer.status} and no list")
            listed = (answer.body or {}).get("Resources")
            found = matches(listed if isinstance(listed, list) else [], rule, wanted)
            if len(found) > 1:
                raise AmbiguousCorrelation(f"{len(found)} accounts of the application have the same {rule}")
            if found:
                self._saw(call, found[0])
                return
        call.remote.gone()

    def _saw(self, call: Call, resource: Mapping[str, Any]) -> None:
        remote = call.remote
        remote.id = str(resource["id"])
        remote.active = is_active(resource)
        remote.resource = project(resource, call.account.resource)
        # Not every application shows a user's groups, and a delta of what is there already is harmless.
        kept = tuple(name for name in remote.groups if name not in call.account.groups)
        call.forgot = call.forgot or kept != remote.groups
        remote.groups = kept


def _place(remote: Remote) -> str:
    """Where the account is. An id is the application's own text, so what has a meaning in a URL is escaped."""
    return f"/Users/{quote(remote.id or '', safe='@:')}"


def _has_arrived(account: Account, remote: Remote) -> bool:
    """Whether the account shows what a change whose answer got lost was to bring about."""
    if account.state == "absent":
        return remote.id is None
    if account.state == "inactive":
        return remote.is_out
    return remote.active is True and remote.resource == account.resource
