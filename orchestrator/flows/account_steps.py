"""The calls that bring one account to its desired state, and the looks that tell what an application holds.

A POST is never repeated before a look at what the first one did, a 404 to a change is not believed before a look, and a
deactivation or a deletion counts only when a read shows it.
"""

from collections.abc import Mapping
from typing import Any

import structlog

from orchestrator.domain.account import takes_access
from orchestrator.domain.intent import OPEN_INTENT
from orchestrator.errors import (
    Ambiguous,
    Changed,
    NotEffective,
    NotFoundPage,
    Rejected,
    Unavailable,
    Unconditional,
    UniquenessConflict,
)
from orchestrator.flows.account_call import Call
from orchestrator.flows.application import Application, if_match
from orchestrator.flows.finding import Finder
from orchestrator.flows.membership import Membership
from orchestrator.flows.naming import Naming
from orchestrator.ports import Clock, ScimRequest, ScimResponse

log = structlog.get_logger()

READ_BACKS = 3
MOST_OUTDATED = 5
"""So often in one run somebody may change an account under our hands before we try again later."""


class Steps:
    """What to call for an account of one application."""

    def __init__(
        self, app: str, membership: Membership, clock: Clock, application: Application, finder: Finder
    ) -> None:
        self._app = app
        self._membership = membership
        self._clock = clock
        self._application = application
        self._finder = finder
        self._naming = Naming(app, finder)

    # --- what to call -------------------------------------------------------------------------------------------

    async def make_it_so(self, call: Call) -> None:
        account = call.account
        if account.state == "absent":
            await self._delete(call)
        elif account.state == "inactive":
            await self._deactivate(call)
            await self._groups(call, account.groups)
        elif account.state == "staged":
            await self._stage(call)
            await self._groups(call, ())
        else:
            await self._patch(call)
            await self._groups(call, account.groups)

    async def _stage(self, call: Call) -> None:
        """An account that is there before the first day: one that is found open is closed as a leaver's is. Where an
        inactive account is none, there is nothing to make before that day."""
        if call.remote.id is not None and not call.remote.is_out:
            await self._deactivate(call)
        if self._application.leaves_nothing:
            return
        await self._patch(call)
        if not call.remote.is_out:
            await self._deactivate(call)

    async def _create(self, call: Call) -> None:
        remote = call.remote
        if call.created:
            raise Rejected("the application shows an account and answers 404 to a change of it")
        if await self._is_there(call):
            return await self._patch(call)
        account = call.account
        request = self._application.create(account.resource, active=call.opens)
        call.created = True
        try:
            answer = await call.send(request)
        except Ambiguous:
            # It may exist now. Only a look can tell, and a second POST could make a second account. It may arrive once
            # more even where it is found: a proxy that repeats what times out does not ask whether it may.
            call.twins, call.recheck_at = True, self._clock.now() + OPEN_INTENT
            await self._finder.find(call)
            if remote.id is None:
                raise
            call.unsure = False
            return await self._patch(call)
        if answer.status == 409:
            call.unsure = True  # somebody has it, perhaps an earlier create that a search does not show yet
            await self._finder.find(call)
            if remote.id is None:
                await self._naming.refused(
                    call, "the application says the account exists (409) and shows none that matches"
                )
                call.created = False
                return await self._create(call)
            call.unsure = False
            return await self._patch(call)
        if answer.status == 404:  # no account is to blame for an address that does not exist
            raise Unavailable("the application does not know /Users (404): check base_url")
        created = self._application.user(answer)
        if created is None:  # it is there, and some do not say what it is called
            call.unsure = True
            await self._finder.find(call)
            if remote.id is None:
                raise Rejected(
                    f"the application answered a create with {answer.status} and no id, and shows no account"
                )
            call.unsure = False
            return await self._patch(call)
        remote.id, remote.active, remote.resource, remote.groups = created["id"], call.opens, account.resource, ()
        remote.version = self._application.version(answer)
        shown = self._application.is_active(created)
        if shown is not None and shown is not call.opens:
            remote.active = shown
            return await self._patch(call)
        return None

    async def _is_there(self, call: Call) -> bool:
        """Before the first call that makes an account: whether the rules that an operator chose, or the surest ones
        where names are made to collide, find it; and a name that nobody shows."""
        named, correlation = self._naming.of(call), self._finder.correlation
        if not call.looked and (named or correlation.configured):
            await self._finder.find(call, by_name=correlation.configured)
        if call.remote.id is None and named:
            await self._naming.settle(call)
        return call.remote.id is not None

    async def _patch(self, call: Call) -> None:
        account, remote = call.account, call.remote
        if remote.id is None:
            return await self._create(call)
        active = call.opens or remote.active is True  # one that should not be open yet is closed with a read after it
        request = await self._change(call, account.resource, active=active)
        if remote.id is None:
            return await self._create(call)
        if request is None:
            remote.active, remote.resource = active, account.resource
            return None
        remote.reopened = remote.reopened or (active and remote.active is not True)
        answer = await self._settled(call, request)
        if answer is None:
            return await self._patch(call)
        if answer.status == 404:
            await self._missed(call)
            return await self._patch(call)
        if answer.status == 409:
            message = "the application refuses a change because another account has the value (409)"
            if not self._naming.renames(call):
                raise UniquenessConflict(message)
            call.name_taken = True  # it is this account that we change, so whoever has the name is somebody else
            await self._naming.refused(call, message)
            return await self._patch(call)
        remote.active, remote.resource = active, account.resource
        remote.shown, remote.version = None, self._application.version(answer)
        return None

    async def _change(self, call: Call, wanted: Mapping[str, Any], *, active: bool) -> ScimRequest | None:
        """The call that makes the account show `wanted` and `active`; None when there is nothing to change, or when a
        look found the account gone. What can only be replaced whole is read before."""
        application, remote = self._application, call.remote
        if not application.can_patch(remote.resource, wanted):
            if not application.capabilities.put:
                raise Rejected("the application takes neither PATCH nor PUT of an account")
            if remote.shown is None:
                await self._look_anew(call)
            if remote.id is not None and remote.shown is None:
                raise call.too_soon()  # nothing shows what else it holds, which a PUT would take away
        if remote.id is None:
            return None
        if application.can_patch(remote.resource, wanted):
            switch = None if remote.active is active else active
            request = application.change(remote.id, remote.resource, wanted, active=switch)
        elif remote.active is active and application.shaped(remote.resource) == application.shaped(wanted):
            return None
        else:
            request = application.replace(remote.id, remote.shown or {}, remote.resource, wanted, active=active)
        return None if request is None else if_match(request, remote.version)

    async def _deactivate(self, call: Call) -> None:
        """Leavers: the patch counts only when a read shows that it took effect."""
        remote = call.remote
        if remote.is_out:
            return
        denied, certain = 0, True
        while denied < READ_BACKS:
            request = await self._switch_off(call)
            answer = None if request is None else await self._settled(call, request)
            if answer is not None and answer.status == 409:
                raise Rejected("the application refuses to deactivate the account (409)")
            if answer is not None and answer.status == 404 and not certain:
                remote.gone()  # the change before this one worked
            elif answer is not None and answer.status == 404:
                await self._missed(call)
            elif answer is not None:
                call.unsure = True  # until a look agrees with the answer nobody may go by either of them
                certain = await self._look(call)
                if not self._application.leaves_nothing:
                    if remote.id is None:
                        raise Unavailable("the application answered a change with success and a read after it with 404")
                    if not certain:
                        raise call.too_soon()  # it would say no more if we asked again now
                denied += 1  # unless the read shows otherwise; a 404 is no success that was denied
            if remote.is_out:
                call.unsure = False
                remote.verified_at = self._clock.now()
                return
            if certain:
                log.warning("deactivation_without_effect", app=self._app, attempt=denied)
        if not certain:
            raise call.too_soon()
        raise NotEffective("the application answered with success and the account is still active")

    async def _switch_off(self, call: Call) -> ScimRequest | None:
        """The call that takes access away; None when a look found that nobody has it any more."""
        if self._application.dialect.deactivate == "active":
            request = await self._change(call, call.remote.resource, active=False)
        else:
            request = if_match(self._application.delete(call.remote.id or ""), call.remote.version)
        return None if call.remote.is_out else request

    async def _delete(self, call: Call) -> None:
        """The deletion counts only when a read does not show the account any more, or shows what this application
        leaves of one."""
        remote = call.remote
        accepted, certain = 0, True
        while remote.id is not None:
            if accepted == READ_BACKS and not certain:
                raise call.too_soon()
            if accepted == READ_BACKS:
                raise NotEffective("the application answered a deletion with success and still shows the account")
            answer = await self._settled(call, if_match(self._application.delete(remote.id), remote.version))
            if answer is None:
                continue
            if answer.status == 409:
                raise Rejected("the application refuses to delete the account (409)")
            if answer.status == 404 and accepted:
                remote.gone()  # the deletion before this one worked, and the read after it was behind
                if certain:  # unless the 404 was the route's, and the deletion had no effect: one more look says
                    call.recheck_at = self._clock.now() + OPEN_INTENT
                break
            if answer.status == 404:
                await self._missed(call)
            else:
                accepted += 1
                call.unsure = True  # until a look agrees with the answer nobody may go by either of them
                certain = await self._look(call)
            if self._application.dialect.deleted == "inactive" and remote.active is False:
                remote.gone()  # it is deleted as far as this application deletes anything
        call.unsure = False
        remote.gone()
        remote.verified_at = self._clock.now()

    async def _groups(self, call: Call, wanted: tuple[str, ...]) -> None:
        remote = call.remote
        add, remove = sorted(set(wanted) - set(remote.groups)), sorted(set(remote.groups) - set(wanted))
        if remote.id is None or not (add or remove):
            return
        call.unsure = True  # should some of the groups fail, nobody says which did not
        await self._membership.change(
            remote.id, add=add, remove=remove, urgent=call.goes_ahead, may_send=call.hold_the_lease
        )
        call.unsure = call.forgot = False
        remote.added, remote.removed = tuple(add), tuple(remove)
        remote.groups = wanted

    def hurry(self, call: Call) -> None:
        """Access is to be taken away by now: what of this run stands in line goes ahead."""
        call.hurry()
        self._membership.hurry(call.remote.id)
        call.caller.hurry({call.account.person_id, call.remote.id or call.account.person_id})

    # --- what is there --------------------------------------------------------------------------------------------

    async def _settled(self, call: Call, request: ScimRequest) -> ScimResponse | None:
        """Send a change; None when its outcome was unknown, or what it came of out of date, and the account has been
        read back, so that the caller looks again."""
        if call.refused is not None and call.refused[0] == request:
            raise call.refused[1]  # the look has changed nothing of it
        try:
            return await call.send(request)
        except NotFoundPage:
            return ScimResponse(404)  # which is not believed before a look
        except Rejected as error:
            # A change within what somebody else took away is refused, by some without a word of why.
            if request.method != "PATCH" or call.refused is not None or call.remote.shown is not None:
                raise
            call.refused = request, error
            await self._look_anew(call)
            return None
        except Changed as error:
            call.outdated += 1
            if call.outdated > MOST_OUTDATED:
                raise Unavailable(f"{error}, however often the account is read before a change") from error
            self._application.insists |= isinstance(error, Unconditional)
            await self._look_anew(call)
            return None
        except Ambiguous:
            if call.settled:
                raise
            call.settled = True
            await self._look(call)
            call.unsure = False
            # It may arrive even where the account shows what it was to bring about: that may have been so before.
            call.recheck_at = self._clock.now() + OPEN_INTENT
            return None

    async def _missed(self, call: Call) -> None:
        """A 404 to a change is not believed before a look: it may have been the route's or a replica's, or the account
        may live on under another id."""
        if call.missed:
            raise Rejected("the application shows an account and answers 404 to a change of it")
        call.missed = call.unsure = True
        known, active = call.remote.id, call.remote.active
        await self._find(call)
        call.unsure = False
        if call.remote.id is not None:
            if not call.doubt(known) and call.remote.active is not active:
                call.recheck_at = self._clock.now() + OPEN_INTENT
        elif takes_access(call.account.state):
            # It was there when we looked last. Should all of this have come from a replica that is behind, it is again.
            call.recheck_at = self._clock.now() + OPEN_INTENT

    async def _look_anew(self, call: Call) -> bool:
        """Before a change, or after one that was not done; False where what it shows is not believed. A look that
        contradicts what we remember may be older than it: it is taken once more when no replica can be that far
        behind."""
        remote = call.remote
        known, active = remote.id, remote.active
        await self._find(call)
        if call.doubt(known):
            return False
        if (remote.id, remote.active) != (known, active):
            call.recheck_at = self._clock.now() + OPEN_INTENT
        return True

    async def is_the_only_one(self, call: Call) -> None:
        """After a create was left open, once it cannot arrive any more: whether it made a second account.

        Raises AmbiguousCorrelation where it did: a person has to say which one stays.
        """
        call.recheck_at = self._clock.now()  # until this look has succeeded it is still to be taken
        await self._finder.find_others(call)
        call.twins, call.recheck_at = False, None

    async def read_back(self, call: Call) -> None:
        """Find out what the application holds, trusting nothing we remember but the id."""
        known = call.remote.id
        await self._find(call)
        call.doubt(known)

    async def _find(self, call: Call) -> None:
        if call.remote.id is not None:
            await self._get(call)
        if call.remote.id is None:
            await self._finder.find(call)

    async def _look(self, call: Call) -> bool:
        """Read the account; False where what it shows is not believed, see `Call.doubt`."""
        known = call.remote.id
        await self._get(call)
        return not call.doubt(known)

    async def _get(self, call: Call) -> None:
        try:
            answer = await call.send(self._application.read(call.remote.id or ""))
        except NotFoundPage:
            # A proxy's, or how this application says that it does not have it: a search says which. It raises what
            # it meets, and whoever answers everything with pages answers it with one.
            await self._finder.find(call)
            return
        if answer.status == 404:
            call.remote.gone()
            return
        shown = self._application.user(answer)
        if shown is None:
            raise Unavailable(f"the application answered a read with {answer.status} and no account")
        self._finder.saw(call, shown)
        call.remote.shown, call.remote.version = shown, self._application.version(answer)
