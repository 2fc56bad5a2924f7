"""One account towards its desired state: the least calls, an intent before them, the outcome after, all behind a fence.

However a run ends, the next one is safe: an intent without an outcome makes it read the account back first, a lost
race makes it read back and converge at once, and a POST is never repeated before a look at what the first one did.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import structlog

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.correlation import RULES, matches
from orchestrator.domain.retry import Backoff
from orchestrator.domain.scim_diff import (
    create_body,
    is_active,
    operations,
    patch_body,
    project,
    quoted,
    set_active,
)
from orchestrator.errors import (
    Ambiguous,
    AmbiguousCorrelation,
    NotEffective,
    Permanent,
    RateLimited,
    Rejected,
    ScimError,
    Transient,
    Unavailable,
    UniquenessConflict,
)
from orchestrator.flows.audit_writer import Entry
from orchestrator.flows.calling import Caller
from orchestrator.flows.group_commit import Loader, Saver
from orchestrator.flows.membership import Membership
from orchestrator.metrics import COMMANDS, DEPROVISION_SECONDS, PARKED_LEAVERS
from orchestrator.ports import Clock, ProgressUpdate, ScimRequest, ScimResponse
from schemas.audit import AuditKind
from schemas.envelope import timestamp

log = structlog.get_logger()

LEASE_SECONDS = 10.0
"""How long after its intent was saved a call may still go out. After that the intent is saved anew, which fails when
the account has got a new owner meanwhile: this process may have been paused for long."""
OPEN_INTENT = timedelta(seconds=90)
"""An intent that is this old without an outcome was left by a process that died; the relay has it looked at."""
RECHECK = "recheck@"
"""The intent that asks for one more look at an instant, after a call was found open: it may still arrive."""
READ_BACKS = 3


class _Fenced(Exception):
    """The lease ran out before a call, and somebody else has the account: load again."""


@dataclass(slots=True)
class Remote:
    """The account in the application as far as we know it during one run, and the calls made."""

    id: str | None
    active: bool | None
    resource: Mapping[str, Any]
    groups: tuple[str, ...]
    calls: list[list[Any]] = field(default_factory=list)
    verified_at: datetime | None = None

    def gone(self) -> None:
        """The application does not show it. The groups stay on record: a replica may only be behind, and an account
        that is found again may still be in them."""
        self.id, self.active, self.resource = None, None, {}

    @property
    def is_out(self) -> bool:
        """Whether nobody can sign in with it."""
        return self.id is None or self.active is False


class Converge:
    """Converges the accounts of one application; one call per account at a time."""

    def __init__(
        self,
        app: str,
        caller: Caller,
        membership: Membership,
        loader: Loader,
        saver: Saver,
        clock: Clock,
        *,
        backoff: Backoff,
        attempts: int | None,
    ) -> None:
        self._app = app
        self._caller = caller
        self._membership = membership
        self._loader = loader
        self._saver = saver
        self._clock = clock
        self._backoff = backoff
        self._attempts = attempts
        self._chance = random.Random()

    async def __call__(self, person_id: str) -> None:
        """Bring the account to its newest desired state, or to a retry row, or park it. Never raises a ScimError."""
        lost = False
        while True:
            row = await self._loader.load(person_id)
            if row is None:
                log.error("account_unknown", app=self._app, person_id=person_id)
                return
            account, progress = row
            if not lost and _is_settled(account, progress):
                return
            if await self._run(account, progress, read_back=lost or progress.intent is not None):
                return
            lost = True

    async def _run(self, account: Account, progress: Progress, *, read_back: bool) -> bool:
        """One attempt. False when somebody else saved the account meanwhile, so that nothing is known any more."""
        remote = Remote(progress.remote_id, progress.active, progress.resource, progress.groups)
        if not read_back and _holds(account, remote):
            return await self._applied(account, progress, remote, recheck_at=None)
        recheck_at = _recheck_at(progress.intent, self._clock.now())
        call = _Call(self, self._caller, account, progress, remote, recheck_at, unsure=read_back)
        entry = self._entry(AuditKind.CALL_INTENDED, account, {"read_back": read_back} if read_back else None)
        if not await self.intend(call, entry):
            return False
        try:
            if read_back:
                await self._read_back(call)
                call.unsure = False
            await self._make_it_so(call)
        except _Fenced:
            return False
        except Transient as error:
            return await self._retry(call, error)
        except Permanent as error:
            return await self._park(call, error)
        maybe = progress.groups if read_back else ()
        return await self._applied(account, call.progress, remote, recheck_at=call.recheck_at, maybe=maybe)

    async def intend(self, call: "_Call", *entries: Entry) -> bool:
        """Save that calls are about to go out; False when somebody else saved the account meanwhile.

        It names every group the calls may put the account into: whoever finds it open cannot know which they were.
        """
        account, sent_at = call.account, self._clock.now()
        lease_until = asyncio.get_running_loop().time() + LEASE_SECONDS
        intended = replace(
            _learned(call.progress, call.remote),
            intent=f"{account.revision}@{timestamp(sent_at)}",
            groups=_either(call.remote.groups, account.groups),
        )
        if not await self._save(account, intended, sent_at + OPEN_INTENT, *entries):
            return False
        call.progress = replace(intended, version=intended.version + 1)
        call.lease_until = lease_until
        return True

    # --- what to call -------------------------------------------------------------------------------------------

    async def _make_it_so(self, call: "_Call") -> None:
        account = call.account
        if account.state == "absent":
            await self._delete(call)
        elif account.state == "inactive":
            await self._deactivate(call)
            await self._groups(call, ())
        else:
            await self._patch(call)
            await self._groups(call, account.groups)

    async def _create(self, call: "_Call") -> None:
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

    async def _patch(self, call: "_Call") -> None:
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

    async def _deactivate(self, call: "_Call") -> None:
        """Leavers: the patch counts only when a read shows that it took effect."""
        remote = call.remote
        if remote.is_out:
            return
        for attempt in range(1, READ_BACKS + 1):
            request = ScimRequest("PATCH", _place(remote), patch_body([set_active(False)]))
            answer = await self._settled(call, request)
            if answer is not None and answer.status == 409:
                raise Rejected("the application refuses to deactivate the account (409)")
            if answer is not None and answer.status == 404:
                await self._missed(call)
            elif answer is not None:
                call.unsure = True  # should the look fail, nobody may go by what was there before
                await self._get(call)
                if remote.id is None:
                    raise Unavailable("the application answered a change with success and a read after it with 404")
                call.unsure = False
            if remote.is_out:
                remote.verified_at = self._clock.now()
                return
            log.warning("deactivation_without_effect", app=self._app, attempt=attempt)
        call.unsure = True  # or the reads are behind
        raise NotEffective("the application answered with success and the account is still active")

    async def _delete(self, call: "_Call") -> None:
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

    async def _groups(self, call: "_Call", wanted: tuple[str, ...]) -> None:
        remote = call.remote
        add, remove = sorted(set(wanted) - set(remote.groups)), sorted(set(remote.groups) - set(wanted))
        if remote.id is None or not (add or remove):
            return
        call.unsure = True  # should some of the groups fail, nobody says which did not
        await self._membership.change(
            remote.id, add=add, remove=remove, urgent=call.urgent, may_send=call.hold_the_lease
        )
        call.unsure = call.forgot = False
        remote.calls.append(["GROUPS", len(add), len(remove)])
        remote.groups = wanted

    # --- what is there --------------------------------------------------------------------------------------------

    async def _settled(self, call: "_Call", request: ScimRequest) -> ScimResponse | None:
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

    async def _missed(self, call: "_Call") -> None:
        """A 404 to a change is not believed before a look: it may have been the route's or a replica's, or the account
        may live on under another id."""
        if call.missed:
            raise Rejected("the application shows an account and answers 404 to a change of it")
        call.missed = call.unsure = True
        await self._read_back(call)
        call.unsure = False

    async def _read_back(self, call: "_Call") -> None:
        """Find out what the application holds, trusting nothing we remember but the id."""
        if call.remote.id is not None:
            await self._get(call)
        if call.remote.id is None:
            await self._find(call)

    async def _get(self, call: "_Call") -> None:
        answer = await call.send(ScimRequest("GET", _place(call.remote)))
        if answer.status == 404:
            call.remote.gone()
        elif answer.body is None or not answer.body.get("id"):
            raise Unavailable(f"the application answered a read with {answer.status} and no account")
        else:
            self._saw(call, answer.body)

    async def _find(self, call: "_Call") -> None:
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

    def _saw(self, call: "_Call", resource: Mapping[str, Any]) -> None:
        remote = call.remote
        remote.id = str(resource["id"])
        remote.active = is_active(resource)
        remote.resource = project(resource, call.account.resource)
        # Not every application shows a user's groups, and a delta of what is there already is harmless.
        kept = tuple(name for name in remote.groups if name not in call.account.groups)
        call.forgot = call.forgot or kept != remote.groups
        remote.groups = kept

    # --- how it ended ---------------------------------------------------------------------------------------------

    async def _applied(
        self,
        account: Account,
        progress: Progress,
        remote: Remote,
        *,
        recheck_at: datetime | None,
        maybe: tuple[str, ...] = (),
    ) -> bool:
        """Save the success. Until the recheck, a call that was left open may still put the account into the groups
        `maybe`: they stay on record, so that the recheck takes it out of them."""
        skipped = range(progress.applied_revision + 1, account.revision)
        entries = [
            self._entry(AuditKind.COMMAND_SUPERSEDED, account, {"by": account.revision}, revision=revision)
            for revision in skipped
        ]
        details: dict[str, Any] = {"state": account.state, "calls": remote.calls}
        if progress.attempts:
            details["attempts"] = progress.attempts + 1
        if remote.verified_at is not None:
            details["verified_at"] = timestamp(remote.verified_at)
            DEPROVISION_SECONDS.labels(self._app).observe((remote.verified_at - account.since).total_seconds())
        groups = () if remote.id is None else remote.groups
        if recheck_at is not None:
            groups = _either(remote.groups, maybe)
        again = account.revision <= progress.applied_revision
        kind = AuditKind.ACCOUNT_VERIFIED if again else AuditKind.COMMAND_APPLIED
        entries.append(self._entry(kind, account, details))
        done = replace(
            _learned(progress, remote),
            applied_revision=account.revision,
            groups=groups,
            intent=_recheck(recheck_at),
            status=AccountStatus.APPLIED,
            attempts=0,
            error_code=None,
            error=None,
        )
        return await self._save(account, done, recheck_at, *entries)

    async def _retry(self, call: "_Call", error: Transient) -> bool:
        account, attempts = call.account, call.progress.attempts + 1
        if self._attempts is not None and attempts >= self._attempts and account.state == "active":
            return await self._park(call, error)
        now = self._clock.now()
        not_before = error.not_before if isinstance(error, RateLimited | Unavailable) else None
        next_attempt = self._backoff.next_attempt(attempts, now, self._chance, not_before)
        retrying = _failed(call, error, AccountStatus.RETRYING)
        details = {
            "code": error.code,
            "attempts": attempts,
            "next_attempt": timestamp(next_attempt),
            "calls": call.remote.calls,
        }
        entry = self._entry(AuditKind.COMMAND_RETRIED, account, details)
        log.info(
            "command_retried", app=self._app, code=error.code, attempt=attempts, correlation_id=account.correlation_id
        )
        return await self._save(account, retrying, next_attempt, entry)

    async def _park(self, call: "_Call", error: ScimError) -> bool:
        account, calls = call.account, call.remote.calls
        parked = _failed(call, error, AccountStatus.PARKED)
        details = {"code": error.code, "reason": str(error), "leaver": account.state != "active", "calls": calls}
        entry = self._entry(AuditKind.COMMAND_PARKED, account, details)
        level = log.warning
        if account.state != "active":
            level = log.error
            PARKED_LEAVERS.labels(self._app).inc()
        level("command_parked", app=self._app, code=error.code, correlation_id=account.correlation_id)
        return await self._save(account, parked, None, entry)

    async def _save(self, account: Account, progress: Progress, attention_at: datetime | None, *entries: Entry) -> bool:
        update = ProgressUpdate(account.person_id, progress, attention_at)
        saved = await self._saver.save(update, entries, revision=account.revision)
        if saved:
            for entry in entries:
                COMMANDS.labels(self._app, entry.kind.value).inc()
        return saved

    def _entry(
        self, kind: AuditKind, account: Account, details: Mapping[str, Any] | None, revision: int | None = None
    ) -> Entry:
        return Entry(
            kind,
            self._clock.now(),
            "connector",
            person_id=account.person_id,
            app=self._app,
            revision=account.revision if revision is None else revision,
            event_id=account.event_id,
            correlation_id=account.correlation_id,
            policy=account.policy,
            details=details,
        )


@dataclass(slots=True)
class _Call:
    """The calls of one run, under one lease."""

    converge: Converge
    caller: Caller
    account: Account
    progress: Progress
    remote: Remote
    recheck_at: datetime | None
    unsure: bool
    """Whether nobody knows what the application holds, so that the intent has to outlive a failure."""
    lease_until: float = 0.0
    settled: bool = False
    created: bool = False
    missed: bool = False
    forgot: bool = False
    """Whether groups that the account may be in were dropped from what is known, to be added once more."""

    @property
    def urgent(self) -> bool:
        """Whether this run takes access away."""
        return self.account.state != "active"

    async def hold_the_lease(self) -> None:
        """Say anew what is intended when the lease has run out, as it does in a long line before a slow application.

        Raises _Fenced when the account has a new owner by now.
        """
        if asyncio.get_running_loop().time() > self.lease_until and not await self.converge.intend(self):
            raise _Fenced

    async def send(self, request: ScimRequest) -> ScimResponse:
        """Send one call and remember method and status for the audit entry."""
        may_send = self.hold_the_lease if request.method != "GET" else None
        try:
            answer = await self.caller.call(
                request, urgent=self.urgent, correlation_id=self.account.correlation_id, may_send=may_send
            )
        except Ambiguous:
            self.unsure = self.unsure or request.method != "GET"
            raise
        self.remote.calls.append([request.method, answer.status])
        return answer


def _is_settled(account: Account, progress: Progress) -> bool:
    """Whether nothing is left to do or to find out. A look that failed or was parked after the revision was applied
    still has to succeed."""
    return (
        account.revision <= progress.applied_revision
        and progress.intent is None
        and progress.status is AccountStatus.APPLIED
    )


def _recheck_at(intent: str | None, now: datetime) -> datetime | None:
    """When the account has to be looked at once more. A call that was left open may arrive until then, whatever is
    done here meanwhile."""
    if intent is None:
        return None
    if not intent.startswith(RECHECK):
        return now + OPEN_INTENT
    due = datetime.fromisoformat(intent.removeprefix(RECHECK))
    return due if due > now else None


def _recheck(due: datetime | None) -> str | None:
    return None if due is None else f"{RECHECK}{timestamp(due)}"


def _place(remote: Remote) -> str:
    """Where the account is. An id is the application's own text, so what has a meaning in a URL is escaped."""
    return f"/Users/{quote(remote.id or '', safe='@:')}"


def _either(these: tuple[str, ...], those: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*these, *those}))


def _failed(call: _Call, error: ScimError, status: AccountStatus) -> Progress:
    """The intent stays where the outcome, or what was there before, is unknown: the next attempt reads back."""
    unsure = call.unsure or call.forgot or isinstance(error, Ambiguous)
    learned = _learned(call.progress, call.remote)
    return replace(
        learned,
        groups=_either(learned.groups, call.account.groups) if unsure else learned.groups,
        intent=call.progress.intent if unsure else _recheck(call.recheck_at),
        status=status,
        attempts=learned.attempts + 1,
        error_code=error.code,
        error=str(error),
    )


def _holds(account: Account, remote: Remote) -> bool:
    """Whether nothing needs to be called for the desired state."""
    if account.state == "absent":
        return remote.id is None
    if account.state == "inactive":
        return remote.id is None or (remote.active is False and not remote.groups)
    return (
        remote.id is not None
        and remote.active is True
        and remote.groups == account.groups
        and remote.resource == account.resource
    )


def _has_arrived(account: Account, remote: Remote) -> bool:
    """Whether the account shows what a change whose answer got lost was to bring about."""
    if account.state == "absent":
        return remote.id is None
    if account.state == "inactive":
        return remote.is_out
    return remote.active is True and remote.resource == account.resource


def _learned(progress: Progress, remote: Remote) -> Progress:
    return replace(progress, remote_id=remote.id, active=remote.active, resource=remote.resource, groups=remote.groups)
