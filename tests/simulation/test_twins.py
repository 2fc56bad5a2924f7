"""A create that was left open may make a second account where names are not unique: it is looked for in any case."""

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.testing.scim import Habits, Plan
from orchestrator.testing.tables import Calm
from tests.simulation.desk import DOWN, UNANSWERED, WELL, Desk, at_the_desk

NOT_UNIQUE = Habits(unique=False)


async def joined_twice(desk: Desk) -> None:
    """The create that was not answered in time arrives later, once more."""
    desk.when("POST /Users", Plan("again", late=20.0))
    await desk.want("active")


async def noticed(desk: Desk) -> None:
    """A person has to say which one stays."""
    for _ in range(5):
        await asyncio.sleep(100)
        await desk.converge()
    assert len(desk.accounts) == 2
    assert desk.progress.error_code == "ambiguous_correlation"


def test_it_is_noticed() -> None:
    async def story(desk: Desk) -> None:
        await joined_twice(desk)
        await noticed(desk)

    at_the_desk(story, NOT_UNIQUE)


def test_it_is_noticed_where_the_search_for_it_was_not_answered() -> None:
    async def story(desk: Desk) -> None:
        await joined_twice(desk)
        await asyncio.sleep(100)
        desk.when("GET /Users", WELL, UNANSWERED)
        await desk.converge()
        await noticed(desk)

    at_the_desk(story, NOT_UNIQUE)


def test_it_is_noticed_where_the_read_before_the_search_failed() -> None:
    async def story(desk: Desk) -> None:
        await joined_twice(desk)
        await asyncio.sleep(100)
        desk.when("GET /Users", DOWN)
        await desk.converge()
        await noticed(desk)

    at_the_desk(story, NOT_UNIQUE)


def test_it_is_noticed_where_the_process_died_while_it_looked() -> None:
    async def story(desk: Desk) -> None:
        await joined_twice(desk)
        await asyncio.sleep(100)
        dying = desk.loop.process("dying")
        desk.when("GET /Users", Plan(answered=5.0))
        desk.loop.spawn(dying, desk.converge(desk.connector("dying")))
        await asyncio.sleep(1)
        desk.loop.kill(dying)
        await noticed(desk)

    at_the_desk(story, NOT_UNIQUE)


class Meanwhile(Calm):
    """At one statement of the store something else happens first."""

    def __init__(self, at: int, what: Callable[[], Awaitable[None]]) -> None:
        self._left, self._what = at, what

    async def statement(self) -> None:
        """See `Calm`."""
        self._left -= 1
        if self._left == 0:
            await self._what()


def test_it_is_noticed_where_something_newer_was_wanted_meanwhile() -> None:
    async def story(desk: Desk) -> None:
        await joined_twice(desk)
        await asyncio.sleep(1)
        await desk.decide("active", title="new")
        desk.store.tables.weather = Meanwhile(2, lambda: desk.decide("inactive"))
        await desk.converge()
        await noticed(desk)

    at_the_desk(story, NOT_UNIQUE)


def test_who_had_the_account_once_lets_its_present_owner_finish() -> None:
    """It took its own lease of long ago for the owner's, and made a second account in the middle of the first one's."""

    async def story(desk: Desk) -> None:
        await desk.want("active")
        await desk.want("absent")
        await asyncio.sleep(1000)
        desk.when("POST /Users", Plan(arrives=5.0))
        await desk.decide("active")
        owner = asyncio.create_task(desk.converge(desk.connector("owner")))
        await asyncio.sleep(1)
        await desk.converge()
        await owner
        await asyncio.sleep(20)
        assert len(desk.accounts) == 1

    at_the_desk(story, NOT_UNIQUE)
