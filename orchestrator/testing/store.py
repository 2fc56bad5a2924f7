"""The store in memory: one `MemoryStore`, with a facet for each port, because each port has its own transaction."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from orchestrator.adapters.sql.resolving import SAFETY_NET
from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.person import Person
from orchestrator.ports import ApplicationHealth, ParkedAccount, ProgressUpdate, Quarantined, ResolveChanges, Timer
from orchestrator.testing.references import References
from orchestrator.testing.tables import Tables, Transaction, Weather
from schemas.envelope import Message

PERSON, ACCOUNT, INBOX, OUTBOX, TIMER = "person", "account", "inbox", "outbox", "timer"
QUARANTINED, GROUP, HEALTH, AUDIT_INDEX = "quarantined", "entitlement_group", "application", "audit_index"

_ENDS = ("contract_end", "termination", "leave_of_absence_start")


@dataclass(frozen=True, slots=True)
class AccountRow:
    """Both sides of an account, and when the relay should have a look."""

    account: Account
    progress: Progress = field(default_factory=Progress)
    attention_at: datetime | None = None


class TimerRow(NamedTuple):
    """A timer, and when it fired."""

    timer: Timer
    fired_at: datetime | None = None


class Segment(NamedTuple):
    """The messages of one transaction."""

    messages: Sequence[Message]
    created_at: datetime


class GroupRow(NamedTuple):
    """A group in an application, or the claim of a process to create it."""

    remote_id: str | None = None
    claimed_until: datetime | None = None


class MemoryStore:
    """Everything the stores keep. `weather` and `owner`: see `tables`."""

    def __init__(self, weather: Weather | None = None, owner: Callable[[], Hashable] = lambda: None) -> None:
        self.tables = Tables(weather, owner)
        self.resolve = MemoryResolveStore(self.tables)
        self.converge = MemoryConvergeStore(self.tables)
        self.timers = MemoryTimerStore(self.tables)
        self.attention = MemoryAttentionStore(self.tables)
        self.outbox = MemoryOutbox(self.tables)
        self.audit_index = MemoryAuditIndex(self.tables)
        self.parked = MemoryParkedAccounts(self.tables)


async def _save_segment(
    transaction: Transaction, tables: Tables, messages: Sequence[Message], now: datetime
) -> int | None:
    if not messages:
        return None
    number = tables.next_number(OUTBOX)
    await transaction.insert(OUTBOX, number, Segment(list(messages), now))
    return number


class MemoryResolveStore:
    """`ports.ResolveStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryResolveTransaction"]:
        """One transaction; see `ports.ResolveStore`."""
        async with self._tables.write() as transaction:
            yield MemoryResolveTransaction(transaction, self._tables)


class MemoryResolveTransaction:
    """`ports.ResolveTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables
        self._known: set[str] = set()
        self._known_accounts: set[tuple[str, str]] = set()

    async def seen(self, keys: Sequence[str]) -> set[str]:
        """Which of these events are in the inbox already."""
        await self._transaction.statement()
        return {key for key in keys if self._transaction.get(INBOX, key) is not None}

    async def correlate_emails(self, emails: Sequence[str]) -> Mapping[str, list[str]]:
        """The persons that hold each of these e-mail addresses (lower case)."""
        await self._transaction.statement()
        found: dict[str, list[str]] = {}
        for person_id, person in sorted(self._transaction.scan(PERSON)):
            email = _current(person, "email")
            if email and email.lower() in emails:
                found.setdefault(email.lower(), []).append(person_id)
        return found

    async def load(
        self, person_ids: Sequence[str]
    ) -> tuple[dict[str, Person], dict[str, dict[str, Account]], dict[str, list[Timer]]]:
        """Lock and load persons, their accounts by application, and their open timers."""
        transaction = self._transaction
        await transaction.statement()
        persons: dict[str, Person] = {}
        for person_id in await transaction.lock(PERSON, set(person_ids)):
            persons[person_id] = _required(transaction.get(PERSON, person_id))
        self._known |= set(persons)
        accounts: dict[str, dict[str, Account]] = {}
        timers: dict[str, list[Timer]] = {}
        if not persons:
            return persons, accounts, timers
        await transaction.statement()
        for (person_id, app), row in transaction.scan(ACCOUNT):
            if person_id in person_ids:
                accounts.setdefault(person_id, {})[app] = row.account
                self._known_accounts.add((person_id, app))
        for (person_id, _, _), row in transaction.scan(TIMER):
            if person_id in person_ids and row.fired_at is None:
                timers.setdefault(person_id, []).append(row.timer)
        return persons, accounts, timers

    async def managers(self, person_ids: Sequence[str]) -> Mapping[str, str | None]:
        """The manager of each of these persons, as stored."""
        await self._transaction.statement()
        rows = {one: self._transaction.get(PERSON, one) for one in person_ids}
        return {one: _current(row, "manager_id") for one, row in rows.items() if row is not None}

    async def save(self, changes: ResolveChanges, *, now: datetime) -> int | None:
        """Write everything in bulk; returns the id of the outbox segment, if anything is to be published."""
        transaction = self._transaction
        await transaction.statement()
        for row in changes.inbox:
            await transaction.insert(INBOX, row.key, row)
        for person in sorted(changes.persons, key=lambda one: one.id):
            if person.id in self._known:
                await transaction.upsert(PERSON, person.id, _always(person))
            else:
                await transaction.insert(PERSON, person.id, person)
        for account in sorted(changes.accounts, key=lambda one: (one.person_id, one.app)):
            await self._save_account(account, now)
        for timer in changes.timers_cancelled:
            key = (timer.person_id, timer.kind, timer.due)
            for locked in await transaction.lock(TIMER, [key]):
                if _required(transaction.get(TIMER, locked)).fired_at is None:
                    transaction.delete(TIMER, locked)
        for timer in changes.timers_set:
            # One that fired before its time, by a clock that was ahead, is still to come.
            row_ = TimerRow(timer._replace(event_id=_text(timer.event_id), rule=_text(timer.rule)))
            await transaction.upsert(TIMER, (timer.person_id, timer.kind, timer.due), _always(row_))
        for record in changes.quarantined:
            await self._save_quarantined(record)
        return await _save_segment(transaction, self._tables, changes.outbox, now)

    async def _save_account(self, account: Account, now: datetime) -> None:
        key = (account.person_id, account.app)
        account = replace(account, event_id=_text(account.event_id), correlation_id=_text(account.correlation_id))
        if key in self._known_accounts:
            await self._transaction.upsert(
                ACCOUNT, key, lambda row: row and replace(row, account=account, attention_at=now + SAFETY_NET)
            )
        else:
            await self._transaction.insert(ACCOUNT, key, AccountRow(account, attention_at=now + SAFETY_NET))

    async def _save_quarantined(self, record: Quarantined) -> None:
        event_id = record.event_id and _text(record.event_id)
        cleaned = replace(record, reason=_text(record.reason), event_id=event_id)
        key = (record.topic, record.partition, record.offset)
        await self._transaction.upsert(QUARANTINED, key, _unless_there(cleaned))


class MemoryConvergeStore:
    """`ports.ConvergeStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def load(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """These accounts, desired and known side; those without a row are absent."""
        rows = await self._tables.read(ACCOUNT)
        found = {one: rows[one, app] for one in person_ids if (one, app) in rows}
        return {one: (row.account, row.progress) for one, row in found.items()}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryConvergeTransaction"]:
        """One group commit; see `ports.ConvergeStore`."""
        async with self._tables.write() as transaction:
            yield MemoryConvergeTransaction(transaction, self._tables)

    async def group_ids(self, app: str, names: Sequence[str]) -> dict[str, str]:
        """The ids of groups that are known in the application."""
        rows = await self._tables.read(GROUP)
        found = {name: rows[app, name].remote_id for name in names if (app, name) in rows}
        return {name: remote_id for name, remote_id in found.items() if remote_id is not None}

    async def save_group_id(self, app: str, name: str, remote_id: str | None) -> None:
        """Remember a group's id; None forgets it, because the application no longer has it."""
        async with self._tables.write() as transaction:
            await transaction.upsert(GROUP, (app, name), lambda _: GroupRow(remote_id))

    async def claim_group(self, app: str, name: str, *, now: datetime, until: datetime) -> bool:
        """Whether this process may create the group now; somebody else's claim holds until it runs out."""

        def claim(row: GroupRow | None) -> GroupRow | None:
            if row and (row.remote_id is not None or (row.claimed_until is not None and row.claimed_until >= now)):
                return None
            return GroupRow(None, until)

        async with self._tables.write() as transaction:
            return await transaction.upsert(GROUP, (app, name), claim) is not None

    async def save_health(self, app: str, health: ApplicationHealth) -> None:
        """Remember how the application as a whole is doing, for operators and for the next start."""
        async with self._tables.write() as transaction:
            await transaction.upsert(HEALTH, app, lambda _: health)

    async def load_health(self, app: str) -> ApplicationHealth | None:
        """What was remembered last."""
        return (await self._tables.read(HEALTH)).get(app)


class MemoryConvergeTransaction(References):
    """`ports.ConvergeTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables

    async def lock(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Lock these accounts, in id order; returns each one's fence (version) and desired revision."""
        await self._transaction.statement()
        found = {}
        for key in await self._transaction.lock(ACCOUNT, {(one, app) for one in person_ids}):
            row = _required(self._transaction.get(ACCOUNT, key))
            found[key[0]] = (row.progress.version, row.account.revision)
        return found

    async def save(
        self, app: str, updates: Sequence[ProgressUpdate], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Write the updates, raising each version by one; returns the id of the outbox segment.

        Whoever has not looked at `lock` and comes with an old version changes nothing.
        """
        await self._transaction.statement()
        for update in sorted(updates, key=lambda one: one.person_id):
            await self._transaction.upsert(ACCOUNT, (update.person_id, app), partial(_on, update))
        return await _save_segment(self._transaction, self._tables, outbox, now)


def _on(update: ProgressUpdate, row: AccountRow | None) -> AccountRow | None:
    if row is None or row.progress.version != update.progress.version:
        return None
    progress = replace(
        update.progress,
        version=update.progress.version + 1,
        remote_id=update.progress.remote_id and _text(update.progress.remote_id),
        intent=update.progress.intent and _text(update.progress.intent),
        error=update.progress.error and _text(update.progress.error),
    )
    return replace(row, progress=progress, attention_at=update.attention_at)


class MemoryTimerStore:
    """`ports.TimerStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def next_due(self) -> datetime | None:
        """The due instant of the next timer that has not fired."""
        rows = await self._tables.read(TIMER)
        return min((row.timer.due for row in rows.values() if row.fired_at is None), default=None)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryTimerTransaction"]:
        """One sweep; see `ports.TimerStore`."""
        async with self._tables.write() as transaction:
            yield MemoryTimerTransaction(transaction, self._tables)


class MemoryTimerTransaction:
    """`ports.TimerTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables

    async def take_due(self, *, now: datetime, limit: int) -> list[Timer]:
        """Up to `limit` timers that are due and have not fired, in order of due time, ends before starts."""
        await self._transaction.statement()
        due = [
            (row.timer.due, row.timer.kind not in _ENDS, row.timer.person_id, row.timer.kind)
            for _, row in self._transaction.scan(TIMER)
            if row.fired_at is None and row.timer.due <= now
        ]
        keys = [(person_id, kind, at) for at, _, person_id, kind in sorted(due)]
        taken = await self._transaction.lock_free(TIMER, keys, limit)
        return [_required(self._transaction.get(TIMER, key)).timer for key in taken]

    async def fired(self, timers: Sequence[Timer], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Mark them as fired and save their events; returns the outbox segment."""
        await self._transaction.statement()
        for timer in timers:
            key = (timer.person_id, timer.kind, timer.due)
            await self._transaction.upsert(TIMER, key, lambda row: row and row._replace(fired_at=now))
        return await _save_segment(self._transaction, self._tables, outbox, now)


class MemoryAttentionStore:
    """`ports.AttentionStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryAttentionTransaction"]:
        """One sweep; see `ports.AttentionStore`."""
        async with self._tables.write() as transaction:
            yield MemoryAttentionTransaction(transaction, self._tables)


class MemoryAttentionTransaction:
    """`ports.AttentionTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables

    async def take(self, *, now: datetime, limit: int) -> list[Account]:
        """Up to `limit` accounts whose attention is due, oldest first, invisible to other relays until the end."""
        await self._transaction.statement()
        due = sorted(
            (row.attention_at, key)
            for key, row in self._transaction.scan(ACCOUNT)
            if row.attention_at is not None and row.attention_at <= now
        )
        taken = await self._transaction.lock_free(ACCOUNT, [key for _, key in due], limit)
        return [_required(self._transaction.get(ACCOUNT, key)).account for key in taken]

    async def reissued(
        self, accounts: Sequence[Account], outbox: Sequence[Message], *, next_attention: datetime, now: datetime
    ) -> int | None:
        """Push their attention into the future and save the commands; returns the outbox segment."""
        await self._transaction.statement()
        for account in accounts:
            key = (account.person_id, account.app)
            await self._transaction.upsert(ACCOUNT, key, lambda row: row and replace(row, attention_at=next_attention))
        return await _save_segment(self._transaction, self._tables, outbox, now)


class MemoryOutbox:
    """`ports.OutboxStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def published(self, segments: Sequence[int]) -> None:
        """Forget these segments."""
        if not segments:
            return
        async with self._tables.write() as transaction:
            for number in await transaction.lock(OUTBOX, set(segments)):
                transaction.delete(OUTBOX, number)

    async def leftover(self, *, older_than: datetime, limit: int) -> list[tuple[int, list[Message]]]:
        """Segments that nobody published for a while, oldest first."""
        rows = await self._tables.read(OUTBOX)
        old = sorted(number for number, row in rows.items() if row.created_at < older_than)
        return [(number, list(rows[number].messages)) for number in old[:limit]]


class MemoryAuditIndex:
    """`ports.AuditIndex`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def next_position(self) -> int:
        """The position after the last one that is indexed."""
        return max(await self._tables.read(AUDIT_INDEX), default=-1) + 1

    async def add(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Index entries by their positions; those that are there already stay as they are."""
        if not entries:
            return
        async with self._tables.write() as transaction:
            for position, record in entries:
                await transaction.upsert(AUDIT_INDEX, position, _unless_there(record))


class MemoryParkedAccounts:
    """The part of `ports.OperatorStore` that tries parked accounts again."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def parked(self, *, app: str | None = None, person_id: str | None = None) -> list[ParkedAccount]:
        """Parked accounts, leavers first, then those that wait longest."""
        rows = await self._tables.read(ACCOUNT)
        found = [
            _parked(row)
            for key, row in rows.items()
            if row.progress.status is AccountStatus.PARKED and app in (None, key[1]) and person_id in (None, key[0])
        ]
        return sorted(found, key=lambda one: (not one.leaver, one.since, one.person_id))

    @asynccontextmanager
    async def retry(self) -> AsyncIterator["MemoryRetryTransaction"]:
        """One decision about parked accounts; see `ports.OperatorStore`."""
        async with self._tables.write() as transaction:
            yield MemoryRetryTransaction(transaction, self._tables)


class MemoryRetryTransaction:
    """`ports.RetryTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables) -> None:
        self._transaction = transaction
        self._tables = tables

    async def take(self, app: str, person_ids: Sequence[str]) -> list[ParkedAccount]:
        """Lock those of these accounts that are parked still, in id order."""
        await self._transaction.statement()
        keys = await self._transaction.lock(ACCOUNT, {(one, app) for one in person_ids})
        rows = [_required(self._transaction.get(ACCOUNT, key)) for key in keys]
        return [_parked(row) for row in rows if row.progress.status is AccountStatus.PARKED]

    async def retried(
        self, app: str, person_ids: Sequence[str], outbox: Sequence[Message], *, now: datetime
    ) -> int | None:
        """Make them pending, with a fresh count of attempts and due for the relay; returns the outbox segment."""

        def pending(row: AccountRow | None) -> AccountRow | None:
            if row is None or row.progress.status is not AccountStatus.PARKED:
                return None
            version = row.progress.version + 1
            again = replace(row.progress, status=AccountStatus.PENDING, attempts=0, version=version)
            return replace(row, progress=again, attention_at=now)

        await self._transaction.statement()
        for person_id in sorted(person_ids):
            await self._transaction.upsert(ACCOUNT, (person_id, app), pending)
        return await _save_segment(self._transaction, self._tables, outbox, now)


def _parked(row: AccountRow) -> ParkedAccount:
    account, progress = row.account, row.progress
    return ParkedAccount(
        person_id=account.person_id,
        app=account.app,
        state=account.state,
        since=account.since,
        revision=account.revision,
        applied_revision=progress.applied_revision,
        attempts=progress.attempts,
        error_code=progress.error_code,
        error=progress.error,
        event_id=account.event_id,
        correlation_id=account.correlation_id,
        policy=account.policy,
    )


def _current(person: Person, name: str) -> str | None:
    return person.history.at(person.decision.at).get(name) if person.decision else None


def _text(text: str) -> str:
    """Text from outside as a database keeps it: PostgreSQL has no NUL character."""
    return text.replace("\x00", "\ufffd")


def _required(row: Any) -> Any:
    assert row is not None
    return row


def _always(row: Any) -> Callable[[Any], Any]:
    return lambda _: row


def _unless_there(row: Any) -> Callable[[Any], Any]:
    return lambda known: row if known is None else None
