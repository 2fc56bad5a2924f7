"""Reconciliation by schedule against a real application: once among several processes, put right, and on record."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from prometheus_client import REGISTRY

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.planning import SqlPlanStore
from orchestrator.adapters.sql.reconcile_runs import SqlReconcileRuns
from orchestrator.adapters.sql.reconciling import SqlReconcileStore
from orchestrator.adapters.sql.subjects import SqlSubjectStore
from orchestrator.bootstrap import reading
from orchestrator.config import AppConfig
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.flows import reconcile_schedule
from orchestrator.flows.audit_writer import AuditWriter
from orchestrator.flows.reconcile_schedule import ReconcileSchedule
from orchestrator.ports import OperatorStop
from tests.integration.application import TOKEN, Application
from tests.integration.connector import Connector, Office
from tests.integration.test_reconcile import change
from tests.subjects import told

DAY = timedelta(days=1)


def schedule(
    office: Office, application: Application, clock: SimulatedClock, *, fix: bool = False
) -> ReconcileSchedule:
    """As a scheduler has it."""
    settings = AppConfig.model_validate(
        {
            "base_url": application.base_url,
            "auth": {"token_env": "CRM_TOKEN"},
            "allow_private": True,
            "attributes": {"userName": "person.id"},
        }
    )
    database = office.database
    return ReconcileSchedule(
        "crm",
        SqlReconcileRuns(database),
        SqlReconcileStore(database),
        SqlPlanStore(database),
        SqlSubjectStore(database),
        SqlConvergeStore(database),
        partial(reading, "crm", settings, clock),
        AuditWriter("scheduler", clock.now()),
        clock,
        every=DAY,
        fix=fix,
    )


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TOKEN", TOKEN)


def shown(name: str, **labels: str) -> Any:
    return REGISTRY.get_sample_value(name, {"app": "crm", **labels})


async def test_one_of_several_processes_reconciles_once_a_day_and_puts_right(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    await connector.converge("well", "changed")
    await change(application, "changed", title="Impostor")
    clock.advance_to(clock.now() + timedelta(seconds=1))
    began = clock.now()
    processes = [schedule(office, application, clock, fix=True) for _ in range(3)]
    assert sorted(await asyncio.gather(*(one.sweep() for one in processes))) == [False, False, True]
    await connector.wait(30)
    user = await application.user("changed")
    assert user is not None
    assert user["title"] == "Engineer"
    entries = [one for one in await told(office.database, connector.audit) if one["kind"] == "reconciled"]
    assert {one["actor"] for one in entries} == {"scheduler"}
    assert [one["details"].get("run") for one in entries if one["details"]["finding"] == "summary"] == ["crm/1"]

    assert not any([await one.sweep() for one in processes]), "it is not due before tomorrow"
    assert shown("jml_reconciled_timestamp_seconds") == began.timestamp()
    assert shown("jml_reconcile_findings", finding="drifted") == 1
    clock.advance_to(began + DAY)
    assert await processes[1].sweep()
    assert [await one.sweep() for one in processes] == [False] * 3
    assert (shown("jml_reconcile_findings", finding="drifted"), shown("jml_reconciled_age_seconds")) == (0, 0)
    runs = SqlReconcileRuns(office.database)
    last = (await runs.last())["crm"]
    assert (last.run, last.outcome, last.counts["linked"]) == (2, "complete", 2)

    by_hand = began + DAY + DAY / 2
    clock.advance_to(began + 2 * DAY)
    assert await runs.note("crm", "complete", {"orphan": 4}, began_at=by_hand, ended_at=by_hand)
    assert not await processes[0].sweep(), "a run by hand counts as one"
    assert (shown("jml_reconcile_findings", finding="orphan"), shown("jml_reconciled_age_seconds")) == (4, 12 * 3600)


async def test_an_application_that_cannot_be_used_is_tried_again_and_a_stopped_one_is_left_alone(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    await connector.converge("well")
    application.faults("GET", *[Response(401)] * 9)
    one = schedule(office, application, clock)
    assert await one.sweep()
    runs = SqlReconcileRuns(office.database)
    failed = (await runs.last())["crm"]
    assert failed.outcome not in (None, "complete", "incomplete")
    assert not await one.sweep()
    application.behave = None
    clock.advance_to(clock.now() + timedelta(minutes=15))
    operators = SqlOperatorStore(office.database)
    await operators.stop_application("crm", OperatorStop("nina", "maintenance", clock.now()), [], now=clock.now())
    assert not await one.sweep()
    await operators.stop_application("crm", None, [], now=clock.now())
    assert await one.sweep()
    assert (await runs.last())["crm"].outcome == "complete"


async def test_who_loses_the_lease_stops_and_says_nothing(
    connector: Connector,
    application: Application,
    office: Office,
    clock: SimulatedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await connector.converge("well")
    monkeypatch.setattr(reconcile_schedule, "RENEWALS", 2400)  # every twentieth of a second
    runs, begun = SqlReconcileRuns(office.database), asyncio.Event()

    async def hangs(request: Request) -> Response | None:
        begun.set()
        return await application.silence(request) if request.path == "/Users" else None

    application.behave = hangs
    sweeping = asyncio.create_task(schedule(office, application, clock).sweep())
    await begun.wait()
    late = clock.now() + 2 * reconcile_schedule.LEASE
    while not await runs.claim("crm", 2, now=late, until=late):
        await asyncio.sleep(0.01)
    done, _ = await asyncio.wait({sweeping}, timeout=10)
    assert done == {sweeping}, "it gives up before the application answers"
    assert sweeping.result() is False
    assert (await runs.last())["crm"].outcome is None
