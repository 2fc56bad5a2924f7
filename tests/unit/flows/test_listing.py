"""Everything an application holds, however it pages and whatever moves meanwhile."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.dialects import dialects
from orchestrator.dialects.standard import STANDARD
from orchestrator.domain.discovery import Capabilities, Found
from orchestrator.domain.outcome import classify
from orchestrator.errors import Rejected, Unavailable
from orchestrator.flows.application import Application
from orchestrator.flows.listing import Listing, users
from orchestrator.ports import ScimRequest, ScimResponse

Change = tuple[str, int]

SNOWFLAKE = dialects()["snowflake"]


@dataclass
class Server:
    """Rows in an order that stays; `changes` happen one before each call after the first."""

    rows: list[Any]
    cap: int = 100
    total: bool = True
    changes: list[Change] = field(default_factory=list)
    calls: list[dict[str, str]] = field(default_factory=list)
    cursor: bool = False

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        query = dict(request.query or {})
        self.calls.append(query)
        if len(self.calls) > 1 and self.changes:
            self._change(*self.changes.pop(0))
        count = min(int(query["count"]), self.cap)
        if self.cursor:
            begin = int(query["cursor"] or 0)
            body: dict[str, Any] = {"Resources": self.rows[begin : begin + count]}
            if begin + count < len(self.rows):
                body["nextCursor"] = str(begin + count)
            return ScimResponse(200, body)
        start = int(query["startIndex"]) - 1
        body = {"Resources": self.rows[start : start + count]}
        if self.total:
            body["totalResults"] = len(self.rows)
        return ScimResponse(200, body)

    def _change(self, what: str, where: int) -> None:
        if what == "delete" and self.rows:
            del self.rows[where % len(self.rows)]
        elif what == "insert":
            self.rows.insert(where % (len(self.rows) + 1), {"id": f"new{len(self.calls)}"})
        elif what == "append":
            self.rows.append({"id": f"new{len(self.calls)}"})


def rows(count: int) -> list[Any]:
    return [{"id": str(number)} for number in range(count)]


async def read(listing: Listing) -> list[str]:
    return [row["id"] async for row in listing]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25, 40])
@pytest.mark.parametrize("cap", [1, 7, 100])
@pytest.mark.parametrize("total", [True, False])
async def test_every_row_comes_once(count: int, cap: int, total: bool) -> None:
    server = Server(rows(count), cap, total)
    listing = users(server, Application(STANDARD), page_size=10)
    assert await read(listing) == [str(number) for number in range(count)]
    assert listing.complete


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(0, 40),
    cap=st.integers(2, 12),
    total=st.booleans(),
    changes=st.lists(
        st.tuples(st.sampled_from(["delete", "insert", "append", "nothing"]), st.integers(0, 60)), max_size=6
    ),
)
async def test_a_list_that_calls_itself_complete_has_everybody_who_stayed(
    count: int, cap: int, total: bool, changes: list[Change]
) -> None:
    server = Server(rows(count), cap, total, list(changes))
    before = {row["id"] for row in server.rows}
    listing = users(server, Application(STANDARD), page_size=10)
    seen = await read(listing)
    assert len(seen) == len(set(seen))
    stayed = before & {row["id"] for row in server.rows}
    assert stayed <= set(seen) or not listing.complete


async def test_joiners_at_the_end_cost_no_second_reading() -> None:
    server = Server(rows(30), changes=[("append", 0)] * 3)
    listing = users(server, Application(STANDARD), page_size=10)
    await read(listing)
    assert listing.complete
    assert len(server.calls) == 4


async def test_a_full_page_that_calls_itself_everything_is_not_believed() -> None:
    server = Server(rows(25))

    async def lying(request: ScimRequest) -> ScimResponse:
        answer = await server(request)
        body = answer.body or {}
        return ScimResponse(200, {**body, "totalResults": len(body["Resources"])})

    listing = users(lying, Application(STANDARD), page_size=10)
    assert len(await read(listing)) == 25


async def test_rows_that_nobody_can_read_are_counted_once_and_hide_nobody() -> None:
    spoiled: list[Any] = [7 if number % 10 == 9 else {"id": str(number)} for number in range(35)]
    listing = users(Server(spoiled), Application(STANDARD), page_size=10)
    assert len(await read(listing)) == 32
    assert listing.skipped == 3
    assert listing.complete


async def test_a_cursor_is_followed() -> None:
    server = Server(rows(25), cursor=True)
    application = Application(STANDARD)
    application.learn(Found(Capabilities(cursor=True)))
    listing = users(server, application, page_size=10)
    assert len(await read(listing)) == 25
    assert [call["cursor"] for call in server.calls] == ["", "10", "20"]


async def test_a_list_whose_cursor_expires_is_read_from_the_start_and_every_row_comes_once() -> None:
    server, forgets = Server(rows(25), cursor=True), 2

    async def forgetful(request: ScimRequest) -> ScimResponse:
        nonlocal forgets
        if (request.query or {}).get("cursor") == "20" and forgets:
            forgets -= 1
            error = classify(400, {"scimType": "expiredCursor"}, {}, datetime.now(UTC))
            assert error is not None
            raise error
        return await server(request)

    listing = users(forgetful, Application(STANDARD, Capabilities(cursor=True)), page_size=10)
    assert len(await read(listing)) == 25
    assert listing.complete
    forgets = 9
    hopeless = users(forgetful, Application(STANDARD, Capabilities(cursor=True)), page_size=10)
    assert len(await read(hopeless)) == 20
    assert not hopeless.complete


async def test_a_circle_of_cursors_ends() -> None:
    async def circle(request: ScimRequest) -> ScimResponse:
        return ScimResponse(200, {"Resources": rows(3), "nextCursor": "again"})

    application = Application(STANDARD, Capabilities(cursor=True))
    with pytest.raises(Unavailable, match="circle"):
        await read(users(circle, application))


async def test_an_application_without_paging_is_asked_once() -> None:
    server = Server(rows(700), cap=1000)

    async def everything(request: ScimRequest) -> ScimResponse:
        server.calls.append({})
        return ScimResponse(200, {"Resources": server.rows, "totalResults": 700})

    listing = users(everything, Application(dialects()["google-cloud-identity"]))
    assert len(await read(listing)) == 700
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ScimResponse(404), Rejected),
        (ScimResponse(200, {"detail": "no"}), Unavailable),
        (ScimResponse(204), Unavailable),
    ],
)
async def test_what_is_no_list_is_said(answer: ScimResponse, error: type[Exception]) -> None:
    async def send(_: ScimRequest) -> ScimResponse:
        return answer

    with pytest.raises(error):
        await read(users(send, Application(STANDARD)))


async def test_only_what_is_wanted_is_asked_for() -> None:
    server = Server(rows(1))
    await read(users(server, Application(STANDARD), attributes=("id", "externalId")))
    await read(users(server, Application(STANDARD), excluded=("groups",)))
    assert server.calls[0]["attributes"] == "id,externalId"
    assert server.calls[1]["excludedAttributes"] == "groups"


async def test_a_made_up_row_in_place_of_all_users_is_nobody() -> None:
    """Snowflake, before https://docs.snowflake.com/en/release-notes/bcr-bundles/2026_03/bcr-2276."""
    sample = {"id": "1", "externalId": "synthesis_user_external_id", "userName": "synthesis_user", "active": False}
    with pytest.raises(Rejected, match=r"Snowflake shows a made-up row in place of its users: .*2026_03"):
        [row async for row in users(Server([sample]), Application(SNOWFLAKE))]
    real = Server([{"id": "2", "userName": "ada"}])
    assert [row["id"] async for row in users(real, Application(SNOWFLAKE))] == ["2"]
