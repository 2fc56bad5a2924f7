"""Safeguards that a role may be started without, to prove the checker.

They are patches, made by the launcher of chaos runs in its own process; nothing in production knows of them. Where the
flows alone are changed they are those of the simulation; four change what is only there on real brokers and databases.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from orchestrator.adapters.kafka import consuming
from orchestrator.adapters.sql import converging, resolving
from orchestrator.flows import group_commit, outbox, resolve
from orchestrator.simulation.mutants import MUTANTS as SIMULATED
from orchestrator.simulation.mutants import Mutant, everybody_wins, take_all_for_fresh

UNPUBLISHED_SECONDS = 4.0
"""Between a commit and its messages: as long as somebody needs to kill the process meanwhile."""


def _commit_first() -> Sequence[AbstractContextManager[Any]]:
    subscribe = consuming.Consumers.subscribe

    def subscribe_rashly(self: consuming.Consumers, topics: Any, group: str, handle: Any, **settings: Any) -> Any:
        async def commit_and_handle(records: consuming.Records) -> None:
            await subscription.commit(consuming.next_offsets(records))
            await handle(records)

        subscription = subscribe(self, topics, group, commit_and_handle, **settings)
        return subscription

    return [patch.object(consuming.Consumers, "subscribe", subscribe_rashly)]


def _drop_the_fence() -> Sequence[AbstractContextManager[Any]]:
    save = converging.SqlConvergeTransaction.save

    async def save_anyway(
        self: converging.SqlConvergeTransaction, app: str, updates: Any, messages: Any, *, now: Any
    ) -> int | None:
        versions = await self.lock(app, [update.person_id for update in updates])
        last = {
            update.person_id: replace(update, progress=replace(update.progress, version=versions[update.person_id][0]))
            for update in updates
        }
        return await save(self, app, list(last.values()), messages, now=now)

    return [
        patch.object(group_commit, "_winners", everybody_wins),
        patch.object(converging.SqlConvergeTransaction, "save", save_anyway),
    ]


def _skip_the_inbox() -> Sequence[AbstractContextManager[Any]]:
    save = resolving.SqlResolveTransaction.save

    async def without_known(self: resolving.SqlResolveTransaction, changes: Any, *, now: Any) -> int | None:
        """The inbox is written still, because others count its rows, and asked by nobody."""
        known = await self.seen([row.key for row in changes.inbox])
        changes.inbox = list({row.key: row for row in changes.inbox if row.key not in known}.values())
        return await save(self, changes, now=now)

    return [
        patch.object(resolve.ResolveFlow, "_fresh", take_all_for_fresh),
        patch.object(resolving.SqlResolveTransaction, "save", without_known),
    ]


def _without_outbox() -> Sequence[AbstractContextManager[Any]]:
    submit = outbox.OutboxPublisher.submit

    async def forget_and_submit(self: outbox.OutboxPublisher, segment: int | None, messages: Any) -> None:
        if segment is not None:
            await self._store.published([segment])
            await asyncio.sleep(UNPUBLISHED_SECONDS)
        await submit(self, segment, messages)

    return [patch.object(outbox.OutboxPublisher, "submit", forget_and_submit)]


_OURS: dict[str, Callable[[], Sequence[AbstractContextManager[Any]]]] = {
    "commit-first": _commit_first,
    "no-fence": _drop_the_fence,
    "no-inbox": _skip_the_inbox,
    "no-outbox": _without_outbox,
}

MUTANTS = {name: Mutant(name, mutant.about, _OURS.get(name, mutant.patches)) for name, mutant in SIMULATED.items()}
