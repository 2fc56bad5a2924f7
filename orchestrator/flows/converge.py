"""One account towards its desired state: the least calls, an intent before them, the outcome after, all behind a fence.

However a run ends, the next one is safe: an intent without an outcome makes it read the account back first, a lost
race makes it read back and converge at once, and a POST is never repeated before a look at what the first one did.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from orchestrator.domain.account import Account, AccountStatus, Progress, takes_access
from orchestrator.domain.correlation import Correlation
from orchestrator.domain.intent import (
    LEASE_SECONDS,
    OPEN_INTENT,
    calls_of,
    lease_left,
    may_have_twins,
    recheck,
    recheck_at,
)
from orchestrator.domain.references import linked, referred
from orchestrator.domain.retry import Backoff
from orchestrator.domain.sealing import Subject, differing
from orchestrator.domain.unique_names import numbered
from orchestrator.errors import (
    Ambiguous,
    AmbiguousCorrelation,
    NotEffective,
    Permanent,
    RateLimited,
    ScimError,
    Transient,
    Unavailable,
)
from orchestrator.flows.account_call import Call, Fenced, Outdated, Remote
from orchestrator.flows.account_steps import Steps
from orchestrator.flows.application import Application
from orchestrator.flows.audit_writer import Entry, actor_of
from orchestrator.flows.calling import Calls
from orchestrator.flows.finding import Finder
from orchestrator.flows.group_commit import Loader, Saved, Saver
from orchestrator.flows.membership import Membership
from orchestrator.metrics import COMMANDS, DEPROVISION_SECONDS, PARKED_LEAVERS
from orchestrator.ports import Clock, ProgressUpdate
from schemas.audit import AuditKind
from schemas.envelope import timestamp

log = structlog.get_logger()

KEPT_LEASES = 4096
MOST_LEFT = 100
"""So many groups that an account was taken out of are kept of it."""
LOOK_AGAIN_SECONDS = 1.0
"""While somebody else has the account; mostly that takes less."""
DENIALS = 2
"""How often a success without effect is tried again before it parks: a replica may be seconds behind its master."""
PARKED_LEAVER = Backoff(3600, 3600)
"""When a parked leaver is tried again: within the hour, and not all of them at once."""


class Converge:
    """Converges the accounts of one application; one call per account at a time."""

    def __init__(
        self,
        app: str,
        caller: Calls,
        membership: Membership,
        loader: Loader,
        saver: Saver,
        clock: Clock,
        *,
        backoff: Backoff,
        attempts: int | None,
        application: Application,
        parked_leaver: Backoff = PARKED_LEAVER,
        ready: Callable[[], Awaitable[None]] | None = None,
        correlation: Correlation | None = None,
    ) -> None:
        self._app = app
        self._caller = caller
        finder = Finder(application, correlation, loader)
        self._unique = finder.correlation.unique
        self._steps = Steps(app, membership, clock, application, finder)
        self._loader = loader
        self._saver = saver
        self._clock = clock
        self._backoff = backoff
        self._attempts = attempts
        self._parked_leaver = parked_leaver
        self._ready = ready
        self._chance = random.Random()
        self._ours: dict[str, tuple[float, str]] = {}
        self._runs: dict[str, Call] = {}
        self._hurried: set[str] = set()

    async def __call__(self, person_id: str) -> None:
        """Bring the account to its newest desired state, or to a retry row, or park it. Never raises a ScimError."""
        try:
            await self._converge(person_id)
        finally:
            self._runs.pop(person_id, None)
            self._hurried.discard(person_id)

    async def _converge(self, person_id: str) -> None:
        lost = False
        while True:
            row = await self._loader.load(person_id)
            if row is None:
                log.error("account_unknown", app=self._app, person_id=person_id)
                return
            account, progress = row
            account, progress, link = await self._linked(account, progress)
            plain = account.resource
            account = replace(account, resource=numbered(plain, self._unique, progress.number))
            if not lost and _is_settled(account, progress) and _is_linked(account, progress):
                return
            theirs = progress.intent is not None and self._ours.get(person_id, (0.0, ""))[1] != progress.intent
            if (lost or theirs) and await self._let_finish(progress):
                continue
            read_back = lost or progress.intent is not None
            try:
                if await self._run(account, progress, read_back=read_back, link=link, plain=plain):
                    return
                lost = True
            except Outdated:  # what we know of the account is true: we are the ones who had it
                lost = False

    def hurry(self, person_id: str) -> None:
        """Access is to be taken away from somebody whose account is under way for something else: what of it stands in
        line goes ahead, and gives way where it was to change anything."""
        self._hurried.add(person_id)
        if (call := self._runs.get(person_id)) is not None:
            self._steps.hurry(call)

    async def _linked(self, account: Account, progress: Progress) -> tuple[Account, Progress, str | None]:
        """The account with the id of the one it refers to, as that is now, and that id."""
        person_id = referred(account.resource) if account.state == "active" else None
        if person_id is None:
            return account, progress if progress.refers_to is None else replace(progress, refers_to=None), None
        row = await self._loader.load(person_id)
        link = row[1].remote_id if row is not None else None
        account = replace(account, resource=linked(account.resource, link))
        return account, progress if progress.refers_to == person_id else replace(progress, refers_to=person_id), link

    async def _let_finish(self, progress: Progress) -> bool:
        """Whoever won the race, or had the account before us and was thrown out of the group, may be calling now, and
        would be fenced off by us in the middle of it: two processes that take the account from each other make two
        accounts. True when there was something to wait for."""
        left = lease_left(progress.intent, self._clock.now())
        await asyncio.sleep(min(left, LOOK_AGAIN_SECONDS))
        return left > 0

    async def _run(
        self, account: Account, progress: Progress, *, read_back: bool, link: str | None, plain: Mapping[str, Any]
    ) -> bool:
        """One attempt. False when somebody else saved the account meanwhile, so that nothing is known any more."""
        remote = Remote(
            progress.remote_id, progress.active, progress.resource, progress.groups, before=progress.resource
        )
        if not read_back and _holds(account, remote):
            return await self._applied(account, progress, remote, recheck_at=None, link=link)
        if self._ready is not None:
            await self._ready()
        due = recheck_at(progress.intent, self._clock.now())
        call = Call(self.intend, self._caller, account, progress, remote, due, self._clock.now, unsure=read_back)
        call.plain, call.twins, call.hurried = plain, may_have_twins(progress), account.person_id in self._hurried
        self._runs[account.person_id] = call
        intended = {"state": account.state, "read_back": read_back}
        entry = self._entry(AuditKind.CALL_INTENDED, account, intended)
        saved = await self.intend(call, entry)
        if not saved:
            return False
        if saved is Saved.BEHIND:
            return await self._overtaken(call, progress)
        try:
            if read_back:
                await self._steps.read_back(call)
                call.unsure, remote.before = False, remote.resource
            await self._steps.make_it_so(call)
            if call.twins and call.recheck_at is None and remote.id is not None:
                await self._steps.is_the_only_one(call)
        except Outdated:
            return await self._overtaken(call, progress)
        except Fenced:
            return False
        except Transient as error:
            return await self._retry(call, error)
        except NotEffective as error:
            return await self._deny(call, error)
        except Permanent as error:
            return await self._park(call, error)
        maybe = progress.groups if read_back else ()
        account, progress = call.account, call.progress
        intent = None if call.recheck_at is None else recheck(call.recheck_at, twins=call.twins)
        return await self._applied(
            account, progress, remote, recheck_at=call.recheck_at, intent=intent, maybe=maybe, link=link
        )

    async def intend(self, call: Call, *entries: Entry) -> Saved:
        """Save that calls are about to go out, unless somebody else saved the account meanwhile.

        It names every group the calls may put the account into: whoever finds it open cannot know which they were.
        """
        account, sent_at = call.account, self._clock.now()
        lease_until = asyncio.get_running_loop().time() + LEASE_SECONDS
        remote = call.remote
        intended = replace(
            call.progress,
            remote_id=remote.id,
            active=remote.active,
            resource=remote.resource,
            intent=calls_of(account.revision, sent_at, twins=call.twins),
            groups=_either(call.remote.groups, account.groups),
        )
        intended = _dated(intended, call.progress, remote, sent_at)
        saved = await self._save(account, intended, sent_at + OPEN_INTENT, *entries, before=call.progress)
        if not saved:
            return saved
        call.progress = replace(intended, version=intended.version + 1)
        call.lease_until = lease_until
        self._note_lease(account.person_id, lease_until, intended.intent or "")
        return saved

    async def _overtaken(self, call: Call, before: Progress) -> bool:
        """Something else is wanted by now. Where no change has gone out yet, what stood before the intent stands again:
        one that is left open has the account read back, and looked at later.

        Raises Outdated; False when somebody else saved the account meanwhile.
        """
        if call.remote.sent_at is None and before.intent is None:
            dropped = replace(before, version=call.progress.version, number=call.progress.number)
            if not await self._save(call.account, dropped, None, before=call.progress):
                return False
        raise Outdated

    def _note_lease(self, person_id: str, until: float, intent: str) -> None:
        """An open intent of our own needs no waiting for: whoever sent those calls is not going to send more."""
        now = asyncio.get_running_loop().time()
        self._ours.pop(person_id, None)
        self._ours[person_id] = until, intent
        while len(self._ours) > KEPT_LEASES and self._ours[oldest := next(iter(self._ours))][0] <= now:
            del self._ours[oldest]  # the oldest ends first

    # --- how it ended ---------------------------------------------------------------------------------------------

    async def _applied(
        self,
        account: Account,
        progress: Progress,
        remote: Remote,
        *,
        recheck_at: datetime | None,
        intent: str | None = None,
        maybe: tuple[str, ...] = (),
        link: str | None = None,
    ) -> bool:
        """Save the success. Until the recheck, a call that was left open may still put the account into the groups
        `maybe`: they stay on record, so that the recheck takes it out of them."""
        skipped = range(progress.applied_revision + 1, account.revision)
        entries = [
            self._entry(AuditKind.COMMAND_SUPERSEDED, account, {"by": account.revision}, revision=revision)
            for revision in skipped
        ]
        details = _told(account, remote)
        if progress.attempts:
            details["attempts"] = progress.attempts + 1
        if remote.verified_at is not None:
            DEPROVISION_SECONDS.labels(self._app).observe((remote.verified_at - account.since).total_seconds())
        groups = () if remote.id is None else remote.groups
        if recheck_at is not None:
            groups = _either(remote.groups, maybe)
        again = account.revision <= progress.applied_revision
        kind = AuditKind.ACCOUNT_VERIFIED if again else AuditKind.COMMAND_APPLIED
        entries.append(self._entry(kind, account, details, sealed=_sealed(remote, progress.remote_id)))
        done = replace(
            progress,
            remote_id=remote.id,
            active=remote.active,
            resource=remote.resource,
            applied_revision=account.revision,
            groups=groups,
            intent=intent,
            status=AccountStatus.APPLIED,
            attempts=0,
            error_code=None,
            error=None,
            number=progress.number if remote.id is not None or account.state != "absent" else 1,
            candidates=(),
            left_groups=_left(progress.left_groups, remote, account),
        )
        done = _dated(done, progress, remote, self._clock.now())
        return bool(await self._save(account, done, recheck_at, *entries, before=progress, link=link))

    async def _retry(self, call: Call, error: Transient) -> bool:
        attempts = call.progress.attempts + 1
        if self._attempts is not None and attempts >= self._attempts and not call.urgent:
            return await self._park(call, error)
        return await self._try_again(call, error)

    async def _deny(self, call: Call, error: NotEffective) -> bool:
        """The reads may have come from a replica that is behind: a false alarm at night costs more than seconds."""
        before = call.progress
        if before.error_code != error.code:  # attempts that failed otherwise say nothing about this
            before = call.progress = replace(before, attempts=0)
        if before.status is AccountStatus.PARKED or before.attempts >= DENIALS:
            return await self._park(call, error)
        return await self._try_again(call, error)

    async def _try_again(self, call: Call, error: ScimError) -> bool:
        account, attempts = call.account, call.progress.attempts + 1
        now = self._clock.now()
        not_before = error.not_before if isinstance(error, RateLimited | Unavailable) else None
        next_attempt = self._backoff.next_attempt(attempts, now, self._chance, not_before)
        retrying = _failed(call, error, AccountStatus.RETRYING, now)
        details = {
            "code": error.code,
            "attempts": attempts,
            "next_attempt": timestamp(next_attempt),
            **_told(account, call.remote),
        }
        sealed = _sealed(call.remote, call.progress.remote_id)
        entry = self._entry(AuditKind.COMMAND_RETRIED, account, details, sealed=sealed)
        log.info(
            "command_retried", app=self._app, code=error.code, attempt=attempts, correlation_id=account.correlation_id
        )
        return bool(await self._save(account, retrying, next_attempt, entry, before=call.progress))

    async def _park(self, call: Call, error: ScimError) -> bool:
        """Somebody who should be out is tried again for ever, while the alarm stands; who should get something waits
        for a person, or for a newer revision."""
        account, now = call.account, self._clock.now()
        leaver = call.urgent
        parked = _failed(call, error, AccountStatus.PARKED, now)
        details = {
            "code": error.code,
            "reason": str(error),
            "leaver": leaver,
            "attempts": parked.attempts,
            **_told(account, call.remote),
        }
        level, next_attempt = log.warning, None
        if leaver:
            level, next_attempt = log.error, self._parked_leaver.next_attempt(1, now, self._chance)
            details["next_attempt"] = timestamp(next_attempt)
            if call.progress.status is not AccountStatus.PARKED:
                PARKED_LEAVERS.labels(self._app).inc()
        level("command_parked", app=self._app, code=error.code, correlation_id=account.correlation_id)
        sealed = _sealed(call.remote, call.progress.remote_id)
        if parked.candidates:
            details["candidates"], sealed["candidates"] = len(parked.candidates), parked.candidates
        entry = self._entry(AuditKind.COMMAND_PARKED, account, details, sealed=sealed)
        return bool(await self._save(account, parked, next_attempt, entry, before=call.progress))

    async def _save(
        self,
        account: Account,
        progress: Progress,
        attention_at: datetime | None,
        *entries: Entry,
        before: Progress,
        link: str | None = None,
    ) -> Saved:
        appeared = progress.remote_id is not None and progress.remote_id != before.remote_id
        update = ProgressUpdate(account.person_id, progress, attention_at, appeared, link)
        fenced = [one.behind(progress.version + 1) for one in entries]
        urgent = takes_access(account.state)
        saved = await self._saver.save(update, fenced, revision=account.revision, urgent=urgent)
        if saved:
            for entry in entries:
                COMMANDS.labels(self._app, entry.kind.value).inc()
        return saved

    def _entry(
        self,
        kind: AuditKind,
        account: Account,
        details: Mapping[str, Any] | None,
        revision: int | None = None,
        sealed: Mapping[str, Any] | None = None,
    ) -> Entry:
        return Entry(
            kind,
            self._clock.now(),
            actor_of(account.event_id.partition("#")[0]),
            account.subject or Subject("", account.person_id),
            app=self._app,
            revision=account.revision if revision is None else revision,
            event_id=account.event_id,
            correlation_id=account.correlation_id,
            policy=account.policy,
            details=details,
            sealed=sealed,
        )


def _told(account: Account, remote: Remote) -> dict[str, Any]:
    """What an outcome tells of one run, whatever came of it: the calls, the groups, and the times that matter.

    `effective_at` is when the state began to hold for the person, `received_at` when the command was issued.
    """
    details: dict[str, Any] = {
        "state": account.state,
        "calls": remote.calls,
        "effective_at": timestamp(account.since),
    }
    times = {"received_at": account.issued_at, "sent_at": remote.sent_at, "verified_at": remote.verified_at}
    details.update({name: timestamp(at) for name, at in times.items() if at is not None})
    if remote.added:
        details["groups_added"] = remote.added
    if remote.removed:
        details["groups_removed"] = remote.removed
    return details


def _sealed(remote: Remote, known_id: str | None) -> dict[str, Any]:
    """The account's id in the application, which may be a name or an address, and what was changed of it."""
    values: dict[str, Any] = differing(remote.before, remote.resource)
    if account_id := remote.id or known_id:
        values["account"] = account_id
    return values


def _is_settled(account: Account, progress: Progress) -> bool:
    """Whether nothing is left to do or to find out. A look that failed or was parked after the revision was applied
    still has to succeed."""
    return (
        account.revision <= progress.applied_revision
        and progress.intent is None
        and progress.status is AccountStatus.APPLIED
    )


def _is_linked(account: Account, progress: Progress) -> bool:
    """Whether a settled account names the account it refers to by the id that this one has now."""
    return progress.refers_to is None or progress.resource == account.resource


def _either(these: tuple[str, ...], those: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*these, *those}))


def _left(before: tuple[str, ...], remote: Remote, account: Account) -> tuple[str, ...]:
    """The groups that the account was taken out of and is not to be in again."""
    if not (before or remote.removed) or remote.id is None:
        return ()
    return tuple(sorted({*before, *remote.removed} - {*account.groups}))[:MOST_LEFT]


def _failed(call: Call, error: ScimError, status: AccountStatus, now: datetime) -> Progress:
    """The intent stays where the outcome, or what was there before, is unknown: the next attempt reads back. After an
    answer nothing can arrive any more, so one look is enough there."""
    unsure = call.unsure or call.forgot or isinstance(error, Ambiguous)
    learned = _dated(_learned(call.progress, call.remote), call.progress, call.remote, now)
    look_at = call.recheck_at or (now if call.doubted else None)
    return replace(
        learned,
        groups=_either(learned.groups, call.account.groups) if unsure or call.doubted else learned.groups,
        intent=call.progress.intent if unsure else None if look_at is None else recheck(look_at, twins=call.twins),
        status=status,
        attempts=learned.attempts + 1,
        error_code=error.code,
        error=str(error),
        candidates=error.candidates if isinstance(error, AmbiguousCorrelation) else (),
    )


def _holds(account: Account, remote: Remote) -> bool:
    """Whether nothing needs to be called for the desired state."""
    if account.state == "absent":
        return remote.id is None
    if account.state == "inactive":
        return remote.id is None or (remote.active is False and remote.groups == account.groups)
    return (
        remote.id is not None
        and remote.active is (account.state == "active")
        and remote.groups == account.groups
        and remote.resource == account.resource
    )


def _dated(progress: Progress, before: Progress, remote: Remote, now: datetime) -> Progress:
    """With the instants from before which a look proves nothing, as long as that matters."""
    appeared = remote.id is not None and remote.id != before.remote_id
    return replace(
        progress,
        appeared_at=now if appeared else before.appeared_at if before.may_be_unseen(now) else None,
        reopened_at=now if remote.reopened else before.reopened_at if before.may_look_closed(now) else None,
    )


def _learned(progress: Progress, remote: Remote) -> Progress:
    return replace(progress, remote_id=remote.id, active=remote.active, resource=remote.resource, groups=remote.groups)
