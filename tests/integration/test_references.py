"""A manager is named by the id of the manager's account, whenever that account comes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.demo.servers.plain import Request, Response
from tests.integration.application import Application
from tests.integration.connector import ENTERPRISE, NOW, Connector, Office, is_applied


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with Application().served() as application:
        yield application


@pytest.fixture
async def connector(database: Database, application: Application, clock: SimulatedClock) -> AsyncIterator[Connector]:
    async with Connector(Office(database), application.base_url, clock).running() as connector:
        yield connector


def led_by(person_id: str) -> dict[str, Any]:
    """The attributes of somebody whose manager is this person, as a mapping gives them."""
    return {ENTERPRISE: {"department": "Research", "manager": person_id}}


async def manager_of(application: Application, person_id: str) -> str | None:
    """The externalId of the account that an account names as its manager's."""
    user = await application.user(person_id)
    assert user is not None
    named = user.get(ENTERPRISE, {}).get("manager")
    if named is None:
        return None
    return next(str(one["externalId"]) for one in await application.all("Users") if one["id"] == named["value"])


async def test_a_manager_who_is_there_is_named_at_once(connector: Connector, application: Application) -> None:
    await connector.converge("bea")
    await connector.converge("ada", **led_by("bea"))
    assert await manager_of(application, "ada") == "bea"
    assert application.made() == ["POST /Users", "POST /Users"]
    assert is_applied(await connector.office.progress("ada"), 1)


async def test_a_manager_who_comes_later_is_linked_by_the_next_sweep(
    connector: Connector, application: Application
) -> None:
    await connector.converge("ada", "eve", **led_by("bea"))
    assert await manager_of(application, "ada") is None
    assert is_applied(await connector.office.progress("ada"), 1)
    assert await connector.sweep() == 0, "nobody looks before there is something to see"
    await connector.converge("bea")
    assert await connector.sweep() == 2
    assert await manager_of(application, "ada") == "bea"
    assert await manager_of(application, "eve") == "bea"
    assert await connector.sweep() == 0
    assert application.made()[3:] == ["PATCH /Users", "PATCH /Users"]


async def test_a_manager_with_a_new_account_is_linked_anew(connector: Connector, application: Application) -> None:
    await connector.converge("bea")
    await connector.converge("ada", **led_by("bea"))
    await connector.converge("bea", state="absent")
    await connector.converge("bea")
    await connector.sweep()
    assert await manager_of(application, "ada") == "bea"


async def test_another_manager_takes_the_place_of_the_first(connector: Connector, application: Application) -> None:
    await connector.converge("bea", "dan")
    await connector.converge("ada", **led_by("bea"))
    await connector.converge("ada", **led_by("dan"))
    assert await manager_of(application, "ada") == "dan"
    await connector.converge("ada")
    assert await manager_of(application, "ada") is None


async def test_two_who_lead_each_other_are_both_linked(connector: Connector, application: Application) -> None:
    await connector.take(*await connector.office.wants("ada", **led_by("bea")))
    await connector.take(*await connector.office.wants("bea", **led_by("ada")))
    await connector.converged()
    await connector.sweep()
    assert await manager_of(application, "ada") == "bea"
    assert await manager_of(application, "bea") == "ada"
    assert await connector.sweep() == 0


async def test_a_manager_who_appears_while_the_account_is_called_is_not_missed(
    connector: Connector, application: Application
) -> None:
    """The account was resolved before, and is saved after, the manager's got its id."""
    bea_is_there = asyncio.Event()

    async def behave(request: Request) -> Response | None:
        if request.method == "POST" and b'"externalId":"ada"' in request.body:
            await bea_is_there.wait()
        return None

    application.behave = behave
    connector_task = asyncio.create_task(connector.converge("ada", **led_by("bea")))
    while not any(b'"externalId":"ada"' in call.body for call in application.calls):
        await asyncio.sleep(0.01)
    await connector.take(*await connector.office.wants("bea"))
    while (await connector.office.progress("bea")).remote_id is None:
        await asyncio.sleep(0.01)
    bea_is_there.set()
    await connector_task
    await connector.sweep()
    assert await manager_of(application, "ada") == "bea"


async def test_a_leaver_is_out_whoever_led_them(connector: Connector, application: Application) -> None:
    await connector.converge("ada", **led_by("bea"))
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is False
    await connector.converge("bea")
    assert await connector.sweep() == 0, "a leaver needs no manager"
