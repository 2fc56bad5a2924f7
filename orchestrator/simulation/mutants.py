"""Faults of our own, to prove the checker: each takes one safeguard out of the production flows, for one run.

They are patches on classes, made in the simulation alone; nothing in production knows of them.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from orchestrator.domain import resolve as decisions
from orchestrator.domain.outcome import classify
from orchestrator.errors import Ambiguous
from orchestrator.flows import (
    account_call,
    account_queues,
    account_steps,
    audit,
    calling,
    converge,
    group_commit,
    resolve,
)
from orchestrator.ports import ProgressUpdate, ScimRequest, ScimResponse
from orchestrator.simulation import roles
from orchestrator.simulation.loop import current_process
from orchestrator.testing import broker, rows, store

Patches = Callable[[], Sequence[AbstractContextManager[Any]]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One safeguard less."""

    name: str
    about: str
    patches: Patches

    @contextmanager
    def switched_on(self) -> Iterator[None]:
        """While the block lasts."""
        with ExitStack() as stack:
            for one in self.patches():
                stack.enter_context(one)
            yield


def _answering(owner: Any, name: str, answer: Any) -> Patches:
    """A question that gets the same answer always."""
    return lambda: [patch.object(owner, name, return_value=answer)]


def _commit_first() -> Sequence[AbstractContextManager[Any]]:
    fetch = broker.MemorySubscription._fetch

    async def fetch_and_commit(self: broker.MemorySubscription) -> tuple[broker.MemoryRecord, ...]:
        batch = await fetch(self)
        self.group.keep({place: at for place, at in self.positions.items() if at})
        return batch

    return [patch.object(broker.MemorySubscription, "_fetch", fetch_and_commit)]


def _trusting(method: str, believe: Callable[[account_call.Call], None]) -> Patches:
    """After a call by this method no read follows: its answer is believed."""
    get = account_steps.Steps._get

    async def look_away(self: account_steps.Steps, call: account_call.Call) -> None:
        believed = method == "DELETE" or call.account.state == "inactive"
        if believed and call.remote.calls and call.remote.calls[-1][0] == method:
            believe(call)
        else:
            await get(self, call)

    return lambda: [patch.object(account_steps.Steps, "_get", look_away)]


def _is_closed(call: account_call.Call) -> None:
    call.remote.active = False


def _is_gone(call: account_call.Call) -> None:
    call.remote.gone()


def _repeat_post() -> Sequence[AbstractContextManager[Any]]:
    send = account_call.Call.send

    async def send_again(self: account_call.Call, request: ScimRequest) -> ScimResponse:
        try:
            return await send(self, request)
        except Ambiguous:
            if request.method != "POST":
                raise
            return await send(self, request)

    return [patch.object(account_call.Call, "send", send_again)]


def everybody_wins(saves: Sequence[group_commit.Save], versions: dict[str, int]) -> list[group_commit.Save]:
    """Instead of `group_commit._winners`."""
    return [save for save in saves if save.update.person_id in versions]


def _drop_the_fence() -> Sequence[AbstractContextManager[Any]]:
    on = store._on

    def save_anyway(update: Any, row: Any) -> Any:
        if row is not None:
            update = ProgressUpdate(
                update.person_id,
                replace(update.progress, version=row.progress.version),
                update.attention_at,
            )
        return on(update, row)

    return [patch.object(group_commit, "_winners", everybody_wins), patch.object(store, "_on", save_anyway)]


def _ignore_intents() -> Sequence[AbstractContextManager[Any]]:
    run = converge.Converge._run

    async def run_on(self: converge.Converge, account: Any, progress: Any, *, read_back: bool, **more: Any) -> bool:
        return await run(self, account, replace(progress, intent=None), read_back=False, **more)

    return [patch.object(converge.Converge, "_run", run_on)]


def _drain_nothing() -> Sequence[AbstractContextManager[Any]]:
    async def walk_out(self: account_queues.AccountQueues, partitions: Sequence[Any]) -> None:
        for partition in partitions:
            partition.alive = False

    return [patch.object(account_queues.AccountQueues, "_drain", walk_out)]


async def take_all_for_fresh(self: Any, batch: Any, transaction: Any, incoming: Any) -> Any:
    """Instead of `ResolveFlow._fresh`."""
    return list(incoming)


def _skip_the_inbox() -> Sequence[AbstractContextManager[Any]]:
    save = store.MemoryResolveTransaction.save

    async def without_inbox(self: store.MemoryResolveTransaction, changes: Any, *, now: Any) -> int | None:
        changes.inbox = []
        return await save(self, changes, now=now)

    return [
        patch.object(resolve.ResolveFlow, "_fresh", take_all_for_fresh),
        patch.object(store.MemoryResolveTransaction, "save", without_inbox),
    ]


def _without_outbox() -> Sequence[AbstractContextManager[Any]]:
    """No row is written: what a process has not published when it dies never will be. An operator's command has nobody
    else to publish for it, so it keeps its row."""
    save = rows.save_segment

    async def number_only(transaction: Any, tables: Any, messages: Any, now: Any) -> int | None:
        if current_process().name == "room":
            return await save(transaction, tables, messages, now)
        return tables.next_number(rows.OUTBOX) if messages else None

    return [patch.object(store, "save_segment", number_only)]


def _blame_the_account() -> Sequence[AbstractContextManager[Any]]:
    def personally(status: int, *more: Any, **named: Any) -> Any:
        return classify(400 if status in (401, 403) else status, *more, **named)

    return [patch.object(calling, "classify", personally)]


def _forget_what_finds_no_room() -> Sequence[AbstractContextManager[Any]]:
    append = roles.MemoryAuditLog.append

    async def append_what_fits(self: roles.MemoryAuditLog, records: Any) -> Any:
        before = len(self.entries)
        with contextlib.suppress(OSError):
            return await append(self, records)
        return list(enumerate(self.entries[before:], before))

    return [patch.object(roles.MemoryAuditLog, "append", append_what_fits)]


def _trust_own_clock() -> Sequence[AbstractContextManager[Any]]:
    nothing = timedelta(0)
    return [patch.object(decisions, "MAX_SKEW", nothing), patch.object(resolve, "_came_too_early", return_value=False)]


def _quote() -> Sequence[AbstractContextManager[Any]]:
    def quoting(status: int, body: Any, *more: Any, **named: Any) -> Any:
        error = classify(status, body, *more, **named)
        if error is not None and body:
            error.args = (body.get("detail"),)
        return error

    return [patch.object(calling, "classify", quoting)]


_ALL = (
    Mutant("commit-first", "offsets are committed before the work", _commit_first),
    Mutant("skip-read-back", "a deactivation counts when the answer says so", _trusting("PATCH", _is_closed)),
    Mutant("repeat-post", "a POST without an answer is sent again", _repeat_post),
    Mutant("no-fence", "whoever saves last wins", _drop_the_fence),
    Mutant("ignore-intent", "an open intent is not looked after", _ignore_intents),
    Mutant("no-drain", "on a rebalance what is under way goes on beside the new owner", _drain_nothing),
    Mutant("no-inbox", "events are taken as often as they come", _skip_the_inbox),
    Mutant("no-outbox", "messages are published after the commit and kept nowhere", _without_outbox),
    Mutant(
        "ignore-retry-after",
        "calls go out although the application asked to wait",
        _answering(calling.Gate, "hold_until", False),
    ),
    Mutant("one-lane", "leavers stand in line behind joiners", _answering(resolve, "lane", "provision")),
)

MUTANTS = {mutant.name: mutant for mutant in _ALL}
"""Those that `jml chaos mutants` shows on real processes as well."""

_FURTHER = (
    Mutant("skip-deletion-read-back", "a deletion counts when the answer says so", _trusting("DELETE", _is_gone)),
    Mutant("blame-the-account", "401 and 403 park accounts, one by one", _blame_the_account),
    Mutant(
        "storm-the-door",
        "calls go on while the application refuses our credentials",
        _answering(calling.Gate, "pause", False),
    ),
    Mutant("forget-entries", "entries that find no room on the disk are let go", _forget_what_finds_no_room),
    Mutant(
        "no-catch-up", "what the index lacks of the log is not looked for", _answering(audit.AuditFlow, "catch_up", 0)
    ),
    Mutant(
        "quarantine-again",
        "an unreadable record is told as often as it comes",
        _answering(store.MemoryResolveTransaction, "quarantined", {}),
    ),
    Mutant("trust-own-clock", "a timer that a clock ahead of ours fired is decided by ours", _trust_own_clock),
    Mutant("quote-answers", "errors quote what the application answered", _quote),
)
FURTHER = {mutant.name: mutant for mutant in _FURTHER}

SHOWN_BY = {"one-lane": "backlog", "no-drain": "handover"}
"""Those that a world of chance does not show: the end is right without a second lane, and leases keep two owners apart
as long as calls are shorter. The worlds in which they break a promise are in the modules of these names."""
