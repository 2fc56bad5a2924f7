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
from orchestrator.ports import Clock, ProgressUpdate, ScimRequest, ScimResponse
from schemas.audit import AuditKind
from schemas.envelope import timestamp

log = structlog.get_logger()

LEASE_SECONDS = 10.0
"""How long after its intent was saved a call may still go out. A process that was paused for longer starts over: its
account may have a new owner."""
OPEN_INTENT = timedelta(seconds=90)
"""An intent that is this old without an outcome was left by a process that died; the relay has it looked at."""
RECHECK = "recheck"
"""The intent that asks for one more look, after somebody else's call was found open: it may still arrive."""
READ_BACKS = 3


class _Fenced(Exception):
    """The lease ran out before a call: load again."""


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
        """The application does not have it."""
        self.id, self.active, self.resource, self.groups = None, None, {}, ()

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
            if account.revision <= progress.applied_revision and progress.intent is None and not lost:
                return
            if await self._run(account, progress, read_back=lost or progress.intent is not None):
                return
            lost = True

    async def _run(self, account: Account, progress: Progress, *, read_back: bool) -> bool:
        """One attempt. False when somebody else saved the account meanwhile, so that nothing is known any more."""
        remote = Remote(progress.remote_id, progress.active, progress.resource, progress.groups)
        if not read_back and _holds(account, remote):
            return await self._applied(account, progress, remote, foreign=False)
        foreign = progress.intent not in (None, RECHECK)
        sent_at = self._clock.now()
        intended = replace(progress, intent=f"{account.revision}@{timestamp(sent_at)}")
        entry = self._entry(AuditKind.CALL_INTENDED, account, {"read_back": read_back} if read_back else None)
        if not await self._saver.save(ProgressUpdate(account.person_id, intended, sent_at + OPEN_INTENT), [entry]):
            return False
        progress = replace(intended, version=progress.version + 1)
        call = _Call(self._caller, account, remote, asyncio.get_running_loop().time() + LEASE_SECONDS)
        try:
            if read_back:
                await self._read_back(call)
            await self._make_it_so(call)
        except _Fenced:
            return False
        except Transient as error:
            return await self._retry(account, progress, remote, error)
        except Permanent as error:
            return await self._park(account, progress, remote, error)
        return await self._applied(account, progress, remote, foreign=foreign)

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
        try:
            answer = await call.send(ScimRequest("POST", "/Users", create_body(account.resource)))
        except Ambiguous:
            # It may exist now. Only a look can tell, and a second POST could make a second account.
            await self._find(call)
            if remote.id is None:
                raise
            return await self._patch(call)
        if answer.status == 409:
            await self._find(call)
            if remote.id is None:
                raise UniquenessConflict("the application says the account exists (409) and shows none that matches")
            return await self._patch(call)
        created = (answer.body or {}).get("id")
        if answer.status == 404 or not created:
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
        answer = await self._settled(call, ScimRequest("PATCH", f"/Users/{remote.id}", patch_body(changes)))
        if answer is None:
            return await self._patch(call)
        if answer.status == 404:
            remote.gone()
            return await self._create(call)
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
            request = ScimRequest("PATCH", f"/Users/{remote.id}", patch_body([set_active(False)]))
            answer = await self._settled(call, request)
            if answer is not None and answer.status == 409:
                raise Rejected("the application refuses to deactivate the account (409)")
            if answer is not None and answer.status == 404:
                remote.gone()
                return
            if answer is not None:
                await self._get(call)
            if remote.is_out:
                remote.verified_at = self._clock.now()
                return
            log.warning("deactivation_without_effect", app=self._app, attempt=attempt)
        raise NotEffective("the application answered with success and the account is still active")

    async def _delete(self, call: "_Call") -> None:
        remote = call.remote
        if remote.id is not None:
            answer = await self._settled(call, ScimRequest("DELETE", f"/Users/{remote.id}"))
            if answer is None and remote.id is not None:
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
        call.check_lease()
        await self._membership.change(remote.id, add=add, remove=remove, urgent=call.urgent)
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
            return None

    async def _read_back(self, call: "_Call") -> None:
        """Find out what the application holds, trusting nothing we remember but the id."""
        if call.remote.id is not None:
            await self._get(call)
        if call.remote.id is None:
            await self._find(call)

    async def _get(self, call: "_Call") -> None:
        answer = await call.send(ScimRequest("GET", f"/Users/{call.remote.id}"))
        if answer.status == 404 or answer.body is None:
            call.remote.gone()
        else:
            self._saw(call, answer.body)

    async def _find(self, call: "_Call") -> None:
        """Correlate the account; see `domain.correlation`."""
        wanted = call.account.resource
        for rule in RULES:
            if not isinstance(value := wanted.get(rule), str):
                continue
            answer = await call.send(ScimRequest("GET", "/Users", query={"filter": f"{rule} eq {quoted(value)}"}))
            found = matches((answer.body or {}).get("Resources") or [], rule, wanted)
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
        remote.groups = tuple(name for name in remote.groups if name not in call.account.groups)

    # --- how it ended ---------------------------------------------------------------------------------------------

    async def _applied(self, account: Account, progress: Progress, remote: Remote, *, foreign: bool) -> bool:
        now = self._clock.now()
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
        again = account.revision <= progress.applied_revision
        kind = AuditKind.ACCOUNT_VERIFIED if again else AuditKind.COMMAND_APPLIED
        entries.append(self._entry(kind, account, details))
        done = replace(
            _learned(progress, remote),
            applied_revision=account.revision,
            intent=RECHECK if foreign else None,
            status=AccountStatus.APPLIED,
            attempts=0,
            error_code=None,
            error=None,
        )
        attention = now + OPEN_INTENT if foreign else None
        return await self._saver.save(ProgressUpdate(account.person_id, done, attention), entries)

    async def _retry(self, account: Account, progress: Progress, remote: Remote, error: Transient) -> bool:
        attempts = progress.attempts + 1
        if self._attempts is not None and attempts >= self._attempts and account.state == "active":
            return await self._park(account, progress, remote, error)
        now = self._clock.now()
        not_before = error.not_before if isinstance(error, RateLimited | Unavailable) else None
        next_attempt = self._backoff.next_attempt(attempts, now, self._chance, not_before)
        retrying = self._failed(progress, remote, error, AccountStatus.RETRYING)
        details = {
            "code": error.code,
            "attempts": attempts,
            "next_attempt": timestamp(next_attempt),
            "calls": remote.calls,
        }
        entry = self._entry(AuditKind.COMMAND_RETRIED, account, details)
        log.info(
            "command_retried", app=self._app, code=error.code, attempt=attempts, correlation_id=account.correlation_id
        )
        return await self._saver.save(ProgressUpdate(account.person_id, retrying, next_attempt), [entry])

    async def _park(self, account: Account, progress: Progress, remote: Remote, error: ScimError) -> bool:
        parked = self._failed(progress, remote, error, AccountStatus.PARKED)
        details = {"code": error.code, "reason": str(error), "leaver": account.state != "active", "calls": remote.calls}
        entry = self._entry(AuditKind.COMMAND_PARKED, account, details)
        level = log.warning if account.state == "active" else log.error
        level("command_parked", app=self._app, code=error.code, correlation_id=account.correlation_id)
        return await self._saver.save(ProgressUpdate(account.person_id, parked, None), [entry])

    def _failed(self, progress: Progress, remote: Remote, error: ScimError, status: AccountStatus) -> Progress:
        return replace(
            _learned(progress, remote),
            intent=progress.intent if isinstance(error, Ambiguous) else None,
            status=status,
            attempts=progress.attempts + 1,
            error_code=error.code,
            error=str(error),
        )

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

    caller: Caller
    account: Account
    remote: Remote
    lease_until: float
    settled: bool = False

    @property
    def urgent(self) -> bool:
        """Whether this run takes access away."""
        return self.account.state != "active"

    def check_lease(self) -> None:
        """Raise _Fenced when the account may have a new owner by now."""
        if asyncio.get_running_loop().time() > self.lease_until:
            raise _Fenced

    async def send(self, request: ScimRequest) -> ScimResponse:
        """Send one call and remember method and status for the audit entry."""
        may_send = self.check_lease if request.method != "GET" else None
        answer = await self.caller.call(
            request, urgent=self.urgent, correlation_id=self.account.correlation_id, may_send=may_send
        )
        self.remote.calls.append([request.method, answer.status])
        return answer


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


def _learned(progress: Progress, remote: Remote) -> Progress:
    return replace(progress, remote_id=remote.id, active=remote.active, resource=remote.resource, groups=remote.groups)
