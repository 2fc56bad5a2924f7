"""The store in memory: one `MemoryStore`, with a facet for each port, because each port has its own transaction."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from orchestrator.adapters.sql.resolving import SAFETY_NET
from orchestrator.domain.account import Account, Progress
from orchestrator.domain.breaker import Held, Window
from orchestrator.domain.history import EARLIEST
from orchestrator.domain.person import Person
from orchestrator.domain.timers import rank
from orchestrator.ports import (
    ApplicationHealth,
    Place,
    ProgressUpdate,
    Quarantined,
    ResolveChanges,
    Timer,
)
from orchestrator.testing import holding
from orchestrator.testing.auditing import SUBJECT, MemoryAuditIndex, MemorySubjectStore, NamesPeople
from orchestrator.testing.parked import MemoryParkedAccounts
from orchestrator.testing.references import References
from orchestrator.testing.rows import (
    ACCOUNT,
    GROUP,
    HEALTH,
    INBOX,
    OUTBOX,
    PERSON,
    QUARANTINED,
    TIMER,
    AccountRow,
    GroupRow,
    TimerRow,
    save_segment,
)
from orchestrator.testing.tables import Index, Tables, Transaction, Weather
from schemas.envelope import Message


class MemoryStore:
    """Everything the stores keep. `weather` and `owner`: see `tables`."""

    def __init__(self, weather: Weather | None = None, owner: Callable[[], Hashable] = lambda: None) -> None:
        self.tables = Tables(weather, owner)
        due = self.tables.index(TIMER, lambda _, row: None if row.fired_at else row.timer.due)
        attention = self.tables.index(ACCOUNT, lambda _, row: row.attention_at)
        accounts = self.tables.index(ACCOUNT, lambda key, _: key[0])
        timers = self.tables.index(TIMER, lambda key, _: key[0])
        self.resolve = MemoryResolveStore(self.tables, accounts, timers)
        self.converge = MemoryConvergeStore(self.tables)
        self.timers = MemoryTimerStore(self.tables, due)
        self.attention = MemoryAttentionStore(self.tables, attention)
        self.outbox = MemoryOutbox(self.tables)
        self.audit_index = MemoryAuditIndex(self.tables)
        self.parked = MemoryParkedAccounts(self.tables)
        self.subjects = MemorySubjectStore(self.tables)
        self.holds = holding.MemoryHolds(self.tables)


class MemoryResolveStore:
    """`ports.ResolveStore`. The indexes are those of accounts and timers by person."""

    def __init__(self, tables: Tables, *by_person: Index) -> None:
        self._tables = tables
        self._by_person = by_person

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryResolveTransaction"]:
        """One transaction; see `ports.ResolveStore`."""
        async with self._tables.write() as transaction:
            yield MemoryResolveTransaction(transaction, self._tables, *self._by_person)


class MemoryResolveTransaction(NamesPeople):
    """`ports.ResolveTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables, accounts: Index, timers: Index) -> None:
        self._transaction = transaction
        self._tables = tables
        self._accounts_of = accounts
        self._timers_of = timers
        self._known: set[str] = set()
        self._known_accounts: set[tuple[str, str]] = set()
        self._unseen: set[Place] = set()

    async def seen(self, keys: Sequence[str]) -> set[str]:
        """Which of these events are in the inbox already."""
        await self._transaction.statement()
        return {key for key in keys if self._transaction.get(INBOX, key) is not None}

    async def quarantined(self, records: Sequence[Place]) -> Mapping[Place, bytes | None]:
        """The bytes of those of these records that are in quarantine already."""
        await self._transaction.statement()
        rows = {place: self._transaction.get(QUARANTINED, place) for place in records}
        self._unseen.update(place for place, row in rows.items() if row is None)
        return {place: row.value for place, row in rows.items() if row is not None}

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
        transaction, accounts, timers = self._transaction, dict[str, dict[str, Account]](), dict[str, list[Timer]]()
        await transaction.statement()
        known = await transaction.lock(PERSON, set(person_ids))
        persons = {one: _required(transaction.get(PERSON, one)) for one in known}
        self._known |= set(persons)
        if persons:
            await transaction.statement()
        for person_id in person_ids:
            for (_, app), row in transaction.find(ACCOUNT, self._accounts_of, person_id, person_id):
                accounts.setdefault(person_id, {})[app] = row.account
                self._known_accounts.add((person_id, app))
            for _, row in transaction.find(TIMER, self._timers_of, person_id, person_id):
                if row.fired_at is None:
                    timers.setdefault(person_id, []).append(row.timer)
        return persons, accounts, timers

    async def held(self, person_ids: Sequence[str]) -> dict[tuple[str, str], Held]:
        """What the breaker holds of these persons' accounts, or an operator rejected; after `load`."""
        await self._transaction.statement()
        return holding.load(self._transaction, person_ids)

    async def windows(self, apps: Sequence[str], *, since: datetime, now: datetime) -> dict[str, Window]:
        """What passed the breaker since then. Until the end nobody else passes anything for these applications."""
        active = Counter(key[1] for key, row in self._transaction.scan(ACCOUNT) if row.account.state == "active")
        return await holding.windows(self._transaction, apps, active=active, since=since, now=now)

    async def managers(self, person_ids: Sequence[str]) -> Mapping[str, str | None]:
        """The manager of each of these persons, as stored."""
        await self._transaction.statement()
        rows = ((one, self._transaction.get(PERSON, one)) for one in person_ids)
        return {one: _current(row, "manager_id") for one, row in rows if row is not None}

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
        await holding.save(transaction, changes)
        return await save_segment(transaction, self._tables, changes.outbox, now)

    async def _save_account(self, account: Account, now: datetime) -> None:
        key = (account.person_id, account.app)
        account = replace(account, event_id=_text(account.event_id), correlation_id=_text(account.correlation_id))
        account = replace(account, issued_at=now, subject=None)
        if key in self._known_accounts:
            await self._transaction.upsert(ACCOUNT, key, lambda row: row and _decided(row, account, now))
        else:
            await self._transaction.insert(ACCOUNT, key, AccountRow(account, attention_at=now + SAFETY_NET))

    async def _save_quarantined(self, record: Quarantined) -> None:
        event_id = record.event_id and _text(record.event_id)
        cleaned = replace(record, reason=_text(record.reason), event_id=event_id)
        key = (record.topic, record.partition, record.offset)
        if key in self._unseen:
            await self._transaction.insert(QUARANTINED, key, cleaned)
        else:
            await self._transaction.upsert(QUARANTINED, key, _unless_there(cleaned))


class MemoryConvergeStore:
    """`ports.ConvergeStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def load(self, app: str, person_ids: Sequence[str]) -> dict[str, tuple[Account, Progress]]:
        """These accounts, desired and known side; those without a row are absent."""
        rows = await self._tables.read(ACCOUNT)
        found = {one: rows[one, app] for one in person_ids if (one, app) in rows}
        subjects = self._tables.table(SUBJECT)
        return {one: (replace(row.account, subject=subjects.get(one)), row.progress) for one, row in found.items()}

    async def holders(self, app: str, remote_ids: Sequence[str]) -> dict[str, str]:
        """Who has these accounts of the application on record, by their ids."""
        rows = await self._tables.read(ACCOUNT)
        found = ((row.progress.remote_id, key[0]) for key, row in rows.items() if key[1] == app)
        return {remote_id: person_id for remote_id, person_id in found if remote_id in remote_ids}

    async def person(self, person_id: str) -> Person | None:
        """Everything stated of a person; None for one that no event ever named."""
        return (await self._tables.read(PERSON)).get(person_id)

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

        def keep(row: ApplicationHealth | None) -> ApplicationHealth | None:
            waits = row.not_before if row is not None and row.state == "throttled" else None
            if waits and health.state == "open" and health.since and waits > health.since:
                return None  # that one process finds it open ends no wait that it asked another one for
            return replace(health, stop=row.stop if row else None)

        async with self._tables.write() as transaction:
            await transaction.upsert(HEALTH, app, keep)

    async def load_health(self, apps: Sequence[str]) -> dict[str, ApplicationHealth]:
        """What was remembered last of these applications; one of which nothing is known is absent."""
        rows = await self._tables.read(HEALTH)
        return {app: rows[app] for app in apps if app in rows}


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
        return await save_segment(self._transaction, self._tables, outbox, now)


def _decided(row: AccountRow, account: Account, now: datetime) -> AccountRow:
    """The resolver's side anew; which name the account has is the connector's to say."""
    account = replace(account, number=row.progress.number)
    return replace(row, account=account, attention_at=now + SAFETY_NET)


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
    account = replace(row.account, number=progress.number)
    return replace(row, account=account, progress=progress, attention_at=update.attention_at)


class MemoryTimerStore:
    """`ports.TimerStore`. The index is that of open timers by their due instants."""

    def __init__(self, tables: Tables, due: Index) -> None:
        self._tables = tables
        self._due = due

    async def next_due(self) -> datetime | None:
        """The due instant of the next timer that has not fired."""
        await self._tables.weather.statement()
        return self._due.first()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryTimerTransaction"]:
        """One sweep; see `ports.TimerStore`."""
        async with self._tables.write() as transaction:
            yield MemoryTimerTransaction(transaction, self._tables, self._due)


class MemoryTimerTransaction(NamesPeople):
    """`ports.TimerTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables, due: Index) -> None:
        self._transaction = transaction
        self._tables = tables
        self._due = due

    async def take_due(self, *, now: datetime, limit: int) -> list[Timer]:
        """Up to `limit` timers that are due and have not fired, in order of due time, ends before starts."""
        await self._transaction.statement()
        found = self._transaction.find(TIMER, self._due, EARLIEST, now)
        due = [(row.timer.due, rank(row.timer.kind), row.timer.person_id, row.timer.kind) for _, row in found]
        keys = [(person_id, kind, at) for at, _, person_id, kind in sorted(due)]
        taken = await self._transaction.lock_free(TIMER, keys, limit)
        return [_required(self._transaction.get(TIMER, key)).timer for key in taken]

    async def fired(self, timers: Sequence[Timer], outbox: Sequence[Message], *, now: datetime) -> int | None:
        """Mark them as fired and save their events; returns the outbox segment."""
        await self._transaction.statement()
        for timer in timers:
            key = (timer.person_id, timer.kind, timer.due)
            await self._transaction.upsert(TIMER, key, lambda row: row and row._replace(fired_at=now))
        return await save_segment(self._transaction, self._tables, outbox, now)


class MemoryAttentionStore:
    """`ports.AttentionStore`. The index is that of accounts by their `attention_at`."""

    def __init__(self, tables: Tables, attention: Index) -> None:
        self._tables = tables
        self._attention = attention

    async def held(self) -> Mapping[str, int]:
        """By application: what the breaker holds and nobody has decided yet."""
        return await holding.counts(self._tables)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryAttentionTransaction"]:
        """One sweep; see `ports.AttentionStore`."""
        async with self._tables.write() as transaction:
            yield MemoryAttentionTransaction(transaction, self._tables, self._attention)


class MemoryAttentionTransaction:
    """`ports.AttentionTransaction`."""

    def __init__(self, transaction: Transaction, tables: Tables, attention: Index) -> None:
        self._transaction = transaction
        self._tables = tables
        self._attention = attention

    async def take(self, *, now: datetime, limit: int) -> list[Account]:
        """Up to `limit` accounts whose attention is due, oldest first, invisible to other relays until the end."""
        await self._transaction.statement()
        due = [key for key, _ in self._transaction.find(ACCOUNT, self._attention, EARLIEST, now)]
        taken = await self._transaction.lock_free(ACCOUNT, due, limit)
        return [_required(self._transaction.get(ACCOUNT, key)).account for key in taken]

    async def reissued(
        self, accounts: Sequence[Account], outbox: Sequence[Message], *, next_attention: datetime, now: datetime
    ) -> int | None:
        """Push their attention into the future and save the commands; returns the outbox segment."""
        await self._transaction.statement()
        for account in accounts:
            key = (account.person_id, account.app)
            await self._transaction.upsert(ACCOUNT, key, lambda row: row and replace(row, attention_at=next_attention))
        return await save_segment(self._transaction, self._tables, outbox, now)


class MemoryOutbox:
    """`ports.OutboxStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def published(self, segments: Sequence[int]) -> None:
        """Forget these segments."""
        if segments:
            async with self._tables.write() as transaction:
                for number in await transaction.lock(OUTBOX, set(segments)):
                    transaction.delete(OUTBOX, number)

    async def leftover(self, *, older_than: datetime, limit: int) -> list[tuple[int, list[Message]]]:
        """Segments that nobody published for a while, oldest first."""
        rows = await self._tables.read(OUTBOX)
        old = sorted(number for number, row in rows.items() if row.created_at < older_than)
        return [(number, list(rows[number].messages)) for number in old[:limit]]


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
