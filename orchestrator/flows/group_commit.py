"""Natural batching: what arrives while the store is busy goes into the next transaction, together.

`Loader` reads accounts, `Saver` writes what the connector learned of them, each with one statement or transaction for
everybody who waits. Neither adds latency of its own: a lone caller is served at once.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, TypeVar

import structlog

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.person import Person
from orchestrator.domain.retry import Backoff
from orchestrator.errors import StoreUnavailable
from orchestrator.flows.audit_writer import AuditWriter, Entry
from orchestrator.flows.outbox import OutboxPublisher
from orchestrator.flows.patience import patiently
from orchestrator.ports import Clock, ConvergeStore, ProgressUpdate
from schemas.envelope import Message

log = structlog.get_logger()

T = TypeVar("T")

_BACKOFF = Backoff(base=0.1, most=10)
MAX_ROWS = 500
BUSY_ROWS = 8
ENOUGH_ROWS = 24
LINGER_SECONDS = 0.02
"""A transaction costs as much as dozens of rows: when many accounts are saved at once, the next one waits a moment for
company, until there is enough of it. A few accounts are saved at once, and for one that loses access nobody waits."""
SAFETY_NET = timedelta(minutes=15)
"""A command that did not arrive by then is issued again by the relay. Far longer than any healthy backlog."""


class Loader:
    """Reads accounts of one application."""

    def __init__(self, store: ConvergeStore, app: str) -> None:
        self._store = store
        self._app = app
        self._waiting: dict[str, list[asyncio.Future[tuple[Account, Progress] | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._chance = random.Random()

    async def load(self, person_id: str) -> tuple[Account, Progress] | None:
        """The account as it is now; None when there is no row. Waits while the store is down."""
        future: asyncio.Future[tuple[Account, Progress] | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(person_id, []).append(future)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"load {self._app}")
        return await future

    async def _run(self) -> None:
        attempt = 0
        wanted: dict[str, list[asyncio.Future[tuple[Account, Progress] | None]]] = {}
        try:
            while self._waiting:
                await asyncio.sleep(0)  # let those who are about to ask do so
                # Taken out before reading: whoever asks meanwhile wants what is true after asking.
                wanted = {person_id: self._waiting.pop(person_id) for person_id in list(self._waiting)[:MAX_ROWS]}
                try:
                    rows = await self._store.load(self._app, list(wanted))
                except StoreUnavailable as error:
                    for person_id, futures in wanted.items():
                        self._waiting.setdefault(person_id, []).extend(futures)
                    attempt += 1
                    log.warning("connector_waits_for_store", app=self._app, reason=error.code, attempt=attempt)
                    await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))
                    continue
                attempt = 0
                for person_id, futures in wanted.items():
                    for future in futures:
                        if not future.done():
                            future.set_result(rows.get(person_id))
        except Exception as error:  # noqa: BLE001 - handed to those who wait, so that their process ends by it
            waiting, self._waiting = self._waiting, {}
            _fail((future for futures in (*wanted.values(), *waiting.values()) for future in futures), error)
        finally:
            self._task = None

    async def holders(self, remote_ids: Sequence[str]) -> Mapping[str, str]:
        """Who has these accounts of the application on record, by their ids. Waits while the store is down."""
        return await self._patiently(lambda: self._store.holders(self._app, remote_ids))

    async def person(self, person_id: str) -> Person | None:
        """Everything stated of a person. Waits while the store is down."""
        return await self._patiently(lambda: self._store.person(person_id))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await patiently(ask, app=self._app, backoff=_BACKOFF, chance=self._chance)

    async def close(self) -> None:
        """Stop; whoever waits is cancelled with its own task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class Saved(IntEnum):
    """How a save ended; false where it did not happen."""

    NOT = 0
    """Somebody else saved this account meanwhile."""
    DONE = 1
    BEHIND = 2
    """It is saved, and by now something else is wanted of the account."""


@dataclass(slots=True)
class Save:
    """One account's update, with the revision that it is about and the audit entries that record it."""

    update: ProgressUpdate
    revision: int
    entries: Sequence[Entry]
    behind: bool = False
    saved: "asyncio.Future[Saved]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Note:
    """Entries that belong to no account."""

    entries: Sequence[Entry]
    saved: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Saver:
    """Writes accounts of one application behind the fence of their versions."""

    def __init__(
        self, store: ConvergeStore, app: str, outbox: OutboxPublisher, writer: AuditWriter, clock: Clock
    ) -> None:
        self._store = store
        self._app = app
        self._outbox = outbox
        self._writer = writer
        self._clock = clock
        self._waiting: list[Save] = []
        self._loose: list[_Note] = []
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._chance = random.Random()

    async def save(
        self, update: ProgressUpdate, entries: Sequence[Entry], *, revision: int, urgent: bool = False
    ) -> Saved:
        """Save durably, unless somebody else saved this account meanwhile. Waits while the store is down.

        `revision` is the one that was worked for, whatever came of it. One that is `urgent` waits for no company.
        """
        save = Save(update, revision, entries)
        self._waiting.append(save)
        if urgent or len(self._waiting) >= ENOUGH_ROWS:
            self._hurry.set()
        self._begin()
        return await save.saved

    async def note(self, *entries: Entry) -> None:
        """Record entries that belong to no account, with the next transaction. Waits while the store is down."""
        note = _Note(entries)
        self._loose.append(note)
        self._begin()
        await note.saved

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"save {self._app}")

    async def _run(self) -> None:
        attempt = 0
        saves: list[Save] = []
        loose: list[_Note] = []
        try:
            while self._waiting or self._loose:
                await asyncio.sleep(0)  # let those who are about to save do so
                self._hurry.clear()
                saves, self._waiting = self._waiting[:MAX_ROWS], self._waiting[MAX_ROWS:]
                loose, self._loose = self._loose, []
                try:
                    won, segment, messages = await self._transact(saves, loose)
                except StoreUnavailable as error:
                    self._writer.lost()
                    self._waiting, self._loose = saves + self._waiting, loose + self._loose
                    attempt += 1
                    log.warning("connector_waits_for_store", app=self._app, reason=error.code, attempt=attempt)
                    await asyncio.sleep(_BACKOFF.delay(attempt, self._chance))
                    continue
                attempt = 0
                for note in loose:
                    if not note.saved.done():
                        note.saved.set_result(None)
                winners = {id(save) for save in won}
                for save in saves:
                    if not save.saved.done():
                        saved = Saved.BEHIND if save.behind else Saved.DONE
                        save.saved.set_result(saved if id(save) in winners else Saved.NOT)
                await self._outbox.submit(segment, messages)
                if len(saves) >= BUSY_ROWS:
                    await self._company()
        except Exception as error:  # noqa: BLE001 - handed to those who wait, so that their process ends by it
            log.error("connector_cannot_save", app=self._app, error=type(error).__name__)
            self._writer.lost()
            waiting, self._waiting, self._loose = self._waiting, [], loose + self._loose
            _fail((save.saved for save in (*saves, *waiting)), error)
            _fail((note.saved for note in self._loose), error)
        finally:
            self._task = None

    async def _company(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._hurry.wait()

    async def _transact(
        self, saves: Sequence[Save], loose: Sequence[_Note]
    ) -> tuple[list[Save], int | None, list[Message]]:
        now = self._clock.now()
        async with self._store.transaction() as transaction:
            referred = {one for save in saves if (one := save.update.progress.refers_to) is not None}
            concerned = {save.update.person_id for save in saves} | referred
            rows = await transaction.lock(self._app, sorted(concerned)) if saves else {}
            won = _winners(saves, {person_id: version for person_id, (version, _) in rows.items()})
            entries = [
                *(entry for note in loose for entry in note.entries),
                *(entry for save in won for entry in save.entries),
            ]
            messages = self._writer.stamp(entries)
            updates = [_with_attention(save, rows[save.update.person_id][1], now) for save in won]
            for save in won:
                save.behind = rows[save.update.person_id][1] > save.revision
            if referred:
                known = await transaction.remote_ids(self._app, sorted(referred))
                updates = [_with_reference(update, known, now) for update in updates]
            segment = await transaction.save(self._app, updates, messages, now=now)
            if appeared := sorted(update.person_id for update in updates if update.appeared):
                await transaction.look_again(self._app, appeared, now=now)
        self._writer.saved(len(entries))
        return won, segment, messages

    async def drain(self, seconds: float = 5.0) -> None:
        """Return when everything handed in is saved. What a store or broker that is down holds up for longer is given
        up: the intents say what happened, and the relay publishes."""
        if self._task is None:
            return
        _, late = await asyncio.wait([self._task], timeout=seconds)
        for task in late:
            log.warning("connector_stops_unsaved", app=self._app, accounts=len(self._waiting))
            task.cancel()
            await asyncio.wait([task])


def _winners(saves: Sequence[Save], versions: dict[str, int]) -> list[Save]:
    """Those whose account nobody has saved since they loaded it: of two that started from one version the first."""
    won = []
    for save in saves:
        if versions.get(save.update.person_id) == save.update.progress.version:
            versions[save.update.person_id] += 1
            won.append(save)
    return won


def _fail(futures: Iterable["asyncio.Future[Any]"], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _with_attention(save: Save, revision: int, now: datetime) -> ProgressUpdate:
    """An account whose desired state moved on while we worked still needs attention, should its command get lost.

    One that is parked at its present revision needs none: it waits for a person.
    """
    if save.update.attention_at is None and revision > save.revision:
        return replace(save.update, attention_at=now + SAFETY_NET)
    return save.update


def _with_reference(update: ProgressUpdate, known: Mapping[str, str | None], now: datetime) -> ProgressUpdate:
    """An account is looked at once more when the one it refers to got another id while we worked."""
    referred, done = update.progress.refers_to, update.progress.status is AccountStatus.APPLIED
    if done and update.attention_at is None and referred is not None and known.get(referred) != update.linked:
        return replace(update, attention_at=now)
    return update
