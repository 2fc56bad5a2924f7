"""Whoever reads everything that an application holds has some rows in memory, however many there are."""

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from orchestrator.dialects.standard import STANDARD
from orchestrator.domain.policy import Policy
from orchestrator.flows.account_events import AccountEvents
from orchestrator.flows.adopt import Adoption
from orchestrator.flows.application import Application
from orchestrator.flows.listing import users
from orchestrator.flows.migrate import Migration
from orchestrator.flows.reconcile import BATCH, Reconciliation
from orchestrator.flows.reconcile_run import ReconcileRun
from orchestrator.ports import PlanStore, ReconcileStore, ScimRequest, ScimResponse, SubjectStore
from tests.unit.flows.fakes import NOW

PAGE = 100
ROWS = 2000
MARK = "marked by this test"
"""With a list behind it: a dictionary of plain values is nothing that the collector knows of."""


class Nobody:
    """A store without people."""

    async def by_remote_id(self, app: str, remote_ids: Sequence[str]) -> dict[str, Any]:
        return {}

    async def remote_ids(self, app: str, person_ids: Sequence[str]) -> dict[str, str]:
        return {}

    async def linked(self, app: str) -> AsyncIterator[list[Any]]:
        return
        yield

    async def correlate_emails(self, emails: Sequence[str]) -> dict[str, list[str]]:
        return {}

    async def named(self, person_ids: Sequence[str]) -> list[Any]:
        return []


@dataclass
class Endless:
    """An application that makes its rows as they are asked for, and sees how many of them somebody still has."""

    most: int = 0

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        start = int((request.query or {})["startIndex"])
        if start > ROWS // 2 and not self.most:  # looking takes a while
            self.most = max(self.most, sum(type(one) is dict and MARK in one for one in gc.get_objects()))
        numbers = range(start, min(start + PAGE, ROWS + 1))
        rows = [{"id": f"r{one}", "externalId": f"w{one}", "userName": f"u{one}", MARK: []} for one in numbers]
        return ScimResponse(200, {"totalResults": ROWS, "Resources": rows})


NOBODY = Nobody()
STORE, PERSONS = cast(ReconcileStore, NOBODY), cast(PlanStore, NOBODY)


async def reconcile(server: Endless) -> int:
    found = Reconciliation("crm", STORE, PERSONS)
    run = ReconcileRun("crm", found, STORE, cast(SubjectStore, NOBODY), cast(Any, None), actor="operator:nina")
    async for one in found.find(users(server, Application(STANDARD), page_size=PAGE)):
        run.take(one)
    return run.differing


async def import_(server: Endless) -> int:
    return await read(server, Adoption("crm", STORE, PERSONS, worker_id=("externalId",), with_inactive=True, now=NOW))


async def migrate(server: Endless) -> int:
    return await read(server, Migration("crm", "new", STORE, PERSONS, cast(Policy, None), keep=("userName",), now=NOW))


async def read(server: Endless, reading: AccountEvents) -> int:
    return sum([len(batch) async for batch in reading.find(users(server, Application(STANDARD), page_size=PAGE))])


@pytest.mark.parametrize("command", [reconcile, import_, migrate])
async def test_memory_holds_a_page_and_a_batch(command: Callable[[Endless], Any]) -> None:
    server = Endless()
    assert await command(server) == ROWS
    # A page as it was answered and as it is read, the one before it, and the batch that is judged.
    assert 0 < server.most <= 3 * PAGE + BATCH
