"""Nobody knows what happened: calls that timed out, processes that died, races that were lost.

The witness is the application: its state is read back from it, and its own list of calls says what it was asked.
"""

import asyncio
from datetime import timedelta

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.domain.account import AccountStatus
from orchestrator.domain.intent import LEASE_SECONDS, OPEN_INTENT, RECHECK
from tests.integration.application import JSON, Application
from tests.integration.connector import Connector, Office, is_applied, resource

pytestmark = pytest.mark.usefixtures("quick_probes")


async def test_a_create_that_took_effect_and_timed_out_is_found_and_not_repeated(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", application.silence_after)
    await connector.converge("ada", groups=["staff"])
    assert application.made().count("POST /Users") == 1
    assert await application.active("ada") is True
    assert await application.members("staff") == {"ada"}
    assert is_applied(await office.progress("ada"), 1, but_for_a_look=True)
    application.calls.clear()
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert application.made() == ["GET /Users", "PATCH /Groups", "GET /Users"], "at last, whether there is a second one"
    assert is_applied(await office.progress("ada"), 1)


async def test_a_staged_account_whose_create_timed_out_is_found_and_stays_closed(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", application.silence_after)
    await connector.converge("ada", state="staged")
    assert application.made().count("POST /Users") == 1
    assert await application.active("ada") is False
    assert is_applied(await office.progress("ada"), 1, but_for_a_look=True)


async def test_an_application_that_opens_what_is_to_be_staged_is_told_to_close_it(
    connector: Connector, application: Application
) -> None:
    async def open_it(request: Request) -> Response | None:
        if request.method == "POST" and b'"active":false' in request.body:
            return application.plain.handle(request._replace(body=request.body.replace(b"false", b"true")))
        return None

    application.behave = open_it
    await connector.converge("ada", state="staged")
    assert await application.active("ada") is False


async def test_a_create_that_timed_out_without_effect_is_looked_for_and_tried_again(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", application.silence)
    await connector.converge("ada")
    assert application.made() == ["POST /Users", "GET /Users", "GET /Users"]
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code) == (AccountStatus.RETRYING, "ambiguous")
    application.calls.clear()
    await connector.wait(10)
    assert application.made()[:3] == ["GET /Users", "GET /Users", "POST /Users"]
    assert await application.active("ada") is True


async def test_a_change_that_took_effect_and_timed_out_is_not_sent_again(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada")
    application.calls.clear()
    application.faults("PATCH", application.silence_after)
    await connector.converge("ada", title="Senior Engineer")
    assert application.made() == ["PATCH /Users", "GET /Users"]
    assert is_applied(await office.progress("ada"), 2, but_for_a_look=True)


async def test_a_change_that_timed_out_without_effect_is_sent_again(
    connector: Connector, application: Application
) -> None:
    await connector.converge("ada")
    application.calls.clear()
    application.faults("PATCH", application.silence)
    await connector.converge("ada", state="inactive")
    assert application.made() == ["PATCH /Users", "GET /Users", "PATCH /Users", "GET /Users"]
    assert await application.active("ada") is False


async def test_a_create_that_took_effect_and_failed_is_not_forgotten_by_the_leaver(
    connector: Connector, application: Application
) -> None:
    """An application may have done what it answers with 500 to: who leaves before the retry must not stay in."""
    application.faults("POST", application.failure_after)
    await connector.converge("ada")
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is False
    assert application.made().count("POST /Users") == 1


async def test_a_deactivation_that_took_effect_and_failed_does_not_lock_out_who_returns(
    connector: Connector, application: Application
) -> None:
    await connector.converge("ada")
    application.faults("PATCH", application.failure_after)
    await connector.converge("ada", state="inactive")
    await connector.converge("ada", state="active")
    assert await application.active("ada") is True


async def test_a_404_is_no_success_that_was_denied(connector: Connector, application: Application) -> None:
    await connector.converge("ada")
    application.faults("PATCH", Response(200, b"{}"), Response(200, b"{}"), Response(404, b"{}"))
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is False


async def test_an_open_intent_of_a_dead_process_is_read_back_first(
    connector: Connector, application: Application, office: Office
) -> None:
    """It had created the account and could not say so any more."""
    commands = await office.wants("ada")
    await office.leaves_open("ada")
    theirs = await application.put_in(**resource("ada"))
    await connector.take(*commands)
    await connector.converged()
    assert application.made() == ["GET /Users"]
    user = await application.user("ada")
    assert user is not None
    assert user["id"] == theirs
    progress = await office.progress("ada")
    assert progress.applied_revision == 1
    assert progress.intent is not None
    assert progress.intent.startswith(RECHECK), "its call may still arrive"
    application.calls.clear()
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert application.made() == ["GET /Users"] * 2, "the account, and whether there is a second one"
    assert is_applied(await office.progress("ada"), 1)
    assert await connector.recorded("account_verified", person_id="ada")


async def test_a_late_create_of_a_dead_process_never_outlives_a_deactivation(
    connector: Connector, application: Application, office: Office
) -> None:
    """Its call stood in some queue: the leaver was out already when the account came into being."""
    await office.wants("ada")
    await office.leaves_open("ada")
    await connector.converge("ada", state="inactive")
    assert await application.user("ada") is None
    assert (await office.progress("ada")).applied_revision == 2
    await application.put_in(**resource("ada"))
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert await application.active("ada") is False
    assert is_applied(await office.progress("ada"), 2)


async def test_a_further_command_does_not_shorten_the_wait_for_a_late_call(
    connector: Connector, application: Application, office: Office
) -> None:
    commands = await office.wants("ada")
    await office.leaves_open("ada")
    application.faults("POST", Response(400, b"{}", JSON))
    await connector.take(*commands)
    await connector.converged()
    await connector.converge("ada", state="inactive")
    await application.put_in(**resource("ada"))
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert await application.active("ada") is False


async def test_an_open_intent_stays_open_until_a_read_succeeds(
    connector: Connector, application: Application, office: Office
) -> None:
    """A leaver whose create was in flight: without the look nobody knows that there is an account to close."""
    await office.wants("ada")
    await office.leaves_open("ada")
    await application.put_in(**resource("ada"))
    application.faults("GET", Response(503))
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is True
    assert (await office.progress("ada")).status is AccountStatus.RETRYING
    await connector.wait(10)
    assert await application.active("ada") is False


async def test_a_recheck_that_fails_is_made_up_for(
    connector: Connector, application: Application, office: Office
) -> None:
    await office.wants("ada")
    await office.leaves_open("ada")
    await connector.converge("ada", state="inactive")
    await application.put_in(**resource("ada"))
    application.faults("GET", Response(503))
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert await application.active("ada") is True
    await connector.wait(10)
    assert await application.active("ada") is False
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert is_applied(await office.progress("ada"), 2)
    assert await office.attention_at("ada") is None


async def test_a_change_without_an_answer_may_arrive_though_the_account_shows_it_already(
    connector: Connector, application: Application, office: Office
) -> None:
    """Somebody else had made it, so that the look after the call says nothing about the call."""
    await connector.converge("ada", title="Engineer")

    async def made_by_others_and_never_answered(request: Request) -> Response:
        application.plain.handle(request)
        return await application.silence(request)

    application.faults("PATCH", made_by_others_and_never_answered)
    await connector.converge("ada", title="Senior Engineer")
    late = next(call for call in application.calls if call.method == "PATCH")
    await connector.converge("ada", title="Principal Engineer")
    application.plain.handle(late)
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    user = await application.user("ada")
    assert user is not None
    assert user["title"] == "Principal Engineer"
    assert await office.attention_at("ada") is None


async def test_a_lost_race_is_read_back_and_converged_at_once(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    """A create is under way when another process, which has got the account meanwhile, finds nothing and is done."""
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        arrived.set()
        await answer.wait()
        return application.plain.handle(request)

    application.faults("POST", slow)
    async with Connector(office, application.base_url, clock, timeout=15).running() as slower:
        await slower.take(*await office.wants("ada"))
        await arrived.wait()
        await connector.take(*await office.wants("ada", state="inactive"))
        clock.advance_to(clock.now() + timedelta(seconds=LEASE_SECONDS + 1))  # until then the other one may call
        await connector.converged()
        assert await application.user("ada") is None
        answer.set()
        await slower.converged()
    assert await application.active("ada") is False
    assert (await office.progress("ada")).applied_revision == 2


async def test_groups_of_a_dead_process_are_left(
    connector: Connector, application: Application, office: Office
) -> None:
    """It had put the account into a group and could not say so; the next revision does not know that group."""
    await connector.converge("ada")
    application.faults("PATCH", application.silence_after, application.silence_after, path="/Groups")
    await connector.converge("ada", groups=["secret"])
    assert await application.members("secret") == {"ada"}
    application.behave = None
    await connector.converge("ada", state="inactive")
    assert await application.members("secret") == set()
    assert await application.active("ada") is False


async def test_a_leaver_stays_in_the_groups_that_the_policy_leaves(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada", groups=["alumni", "staff"])
    await connector.converge("ada", state="inactive", groups=["alumni"])
    assert await application.active("ada") is False
    assert (await application.members("alumni"), await application.members("staff")) == ({"ada"}, set())


async def test_a_group_that_failed_beside_one_that_did_not_is_made_up_for(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada", "bea", groups=["a", "b"])

    async def second_fails(request: Request) -> Response | None:
        if request.method != "PATCH" or request.path != f"/Groups/{group_b}":
            return None
        return Response(503)

    group_b = next(one["id"] for one in await application.all("Groups") if one["displayName"] == "b")
    application.behave = second_fails
    await connector.converge("ada", groups=[])
    application.behave = None
    await connector.converge("ada", groups=["a"])
    await connector.wait(10)
    assert await application.members("a") == {"ada", "bea"}
    assert await application.members("b") == {"bea"}
