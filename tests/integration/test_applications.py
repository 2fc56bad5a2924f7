"""One contract over every kind of application: real servers of three makers, and a simulated one for each dialect.

Whatever the application speaks, a joiner has an account, a mover's account follows, a leaver is out, somebody who
returns is back. What it holds at the end is read from it by a client that is not the connector's.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from orchestrator.demo.servers.habits import VENDORS, Habits
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.demo.servers.vendor import Vendor
from orchestrator.dialects import dialects
from orchestrator.domain.correlation import Correlation, by_attributes
from orchestrator.domain.intent import OPEN_INTENT
from orchestrator.flows.listing import users
from orchestrator.ports import ScimRequest
from tests.integration.application import TOKEN, TOKEN_ENV, Application, Held, Wire, server_process
from tests.integration.connector import ENTERPRISE, NOW, Connector, Office, is_applied
from tests.services.scimmy import node_is_there, scimmy

pytestmark = pytest.mark.usefixtures("quick_probes")

REAL = ("plain", "scim2", "django", "scimmy")
SIMULATED = tuple(sorted(VENDORS))
DJANGO = frozenset({"userName", "externalId", "name", "displayName", "emails", "title", "active", ENTERPRISE})
OTHERS = {"django": Habits("django", "", kept=DJANGO)}
PROFILE = [{"value": "00e000000000001", "display": "Standard User"}]


@dataclass
class Target:
    """One application under test, and the connector that speaks its dialect."""

    name: str
    held: Held
    connector: Connector
    habits: Habits = field(default_factory=lambda: Habits("", ""))
    application: Application | None = None
    wire: Wire = field(default_factory=lambda: Wire("http://nowhere"))
    group: str = field(default_factory=lambda: f"staff {uuid4().hex[:8]}")

    @property
    def wanted(self) -> dict[str, Any]:
        """What has to be mapped for this application beside the usual."""
        return {"entitlements": PROFILE} if self.name == "salesforce" else {}

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that can be used there."""
        return () if self.habits.groups == "no" else (self.group,)

    def keeps(self, attribute: str) -> bool:
        """Whether the application keeps what it is told of an attribute."""
        kept = not self.habits.kept or attribute in self.habits.kept
        return kept and attribute not in self.habits.dropped

    async def members(self) -> set[str]:
        """Who is in the group."""
        return (await self.held.members(self.group)) - {"nobody"} if self.groups else set()

    async def is_out(self, person_id: str) -> bool:
        """Whether nobody can use the account."""
        return await self.held.active(person_id) is not True


@pytest.fixture(scope="session")
def scim2_url() -> Iterator[str]:
    with server_process("scim2") as base_url:
        yield base_url


@pytest.fixture(scope="session")
def django_url() -> Iterator[str]:
    with server_process("django") as base_url:
        yield base_url


@pytest.fixture(scope="session")
def scimmy_url() -> Iterator[str]:
    if not node_is_there():
        pytest.skip("needs Node and npm, which `.ci/run` installs")
    with scimmy(TOKEN_ENV, TOKEN) as base_url:
        yield base_url


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy: migrating takes longer than a test does."""
    path = tmp_path_factory.mktemp("migrated") / "jml.db"

    async def make() -> None:
        database = Database(f"sqlite+aiosqlite:///{path}")
        await migrate(database)
        await database.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def database(tmp_path: Path, migrated: Path) -> AsyncIterator[Database]:
    """One kind is enough here: what the stores do is tried elsewhere, on both."""
    database = Database(f"sqlite+aiosqlite:///{shutil.copy(migrated, tmp_path / 'jml.db')}")
    yield database
    await database.close()


@asynccontextmanager
async def opened(
    name: str,
    database: Database,
    request: pytest.FixtureRequest,
    *,
    concurrency: int = 4,
    cut: bool = False,
    correlation: Correlation | None = None,
) -> AsyncIterator[Target]:
    """A target by its name, its connector running."""
    async with AsyncExitStack() as stack:
        application, habits = None, VENDORS.get(name)
        if habits is not None:
            make = partial(_vendor, habits)
            application = await stack.enter_async_context(Application(make).served())
        elif name == "plain":
            application = await stack.enter_async_context(Application().served())
        base_url = application.base_url if application else request.getfixturevalue(f"{name}_url")
        held: Held = application or Held(base_url)
        wire = Wire(base_url)
        if cut:
            await stack.enter_async_context(wire.served())
        connector = Connector(
            Office(database),
            wire.base_url or base_url,
            SimulatedClock(NOW),
            concurrency=concurrency,
            timeout=5.0,
            dialect=name if habits else "standard",
            discover=True,
            correlation=correlation,
        )
        await stack.enter_async_context(connector.running())
        target = Target(name, held, connector, habits or OTHERS.get(name, Habits("", "")), application, wire=wire)
        if target.habits.groups == "fixed" and application is not None:
            application.plain.directory.groups.save({"displayName": target.group, "members": {}}, "")
        yield target


def _vendor(habits: Habits, behave: Any) -> Vendor:
    return Vendor(habits, behave=behave)


@pytest.fixture(params=[*REAL, *SIMULATED])
async def target(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Target]:
    async with opened(request.param, database, request) as target:
        yield target


def test_every_dialect_is_tried_on_a_simulated_application() -> None:
    assert set(SIMULATED) == set(dialects())


async def test_a_working_life(target: Target) -> None:
    """Joiner, mover, leaver, return, and the end of the account."""
    held, connector, person = target.held, target.connector, f"life-{target.name}"
    await connector.converge(person, groups=target.groups, title="Clerk", **target.wanted)
    joined = await held.user(person)
    assert joined is not None, (await connector.office.progress(person)).error
    assert joined["active"] is True
    assert joined["userName"].lower() == f"{person}@example.com".lower()
    assert await target.members() == ({person} if target.groups else set())
    if target.keeps("title"):
        assert joined["title"] == "Clerk"
    if target.keeps(ENTERPRISE):
        assert joined[ENTERPRISE]["department"] == "Research"

    phones = ("phoneNumbers",) if target.keeps("phoneNumbers") else ()
    first, second = ({name: [{"value": one, "type": "work"}] for name in phones} for one in ("1", "2"))
    await connector.converge(
        person, groups=target.groups, title="Manager", displayName="Ada B", **first, **target.wanted
    )
    assert is_applied(await connector.office.progress(person), 2), "nothing is sent that it refuses"
    moved = await held.user(person)
    assert moved is not None
    assert moved["id"] == joined["id"]
    if target.keeps("title"):
        assert (moved["title"], moved["displayName"]) == ("Manager", "Ada B")
        assert all([one["value"] for one in moved[name]] == ["1"] for name in phones)
        await connector.converge(
            person, groups=target.groups, displayName="Ada B", title=None, **second, **target.wanted
        )
        moved = await held.user(person)
        assert moved is not None
        assert all([one["value"] for one in moved[name]] == ["2"] for name in phones)
        assert [one["value"] for one in moved["emails"]] == [f"{person}@example.com"]
        assert not moved.get("title")

    await connector.converge(person, state="inactive")
    assert await target.is_out(person)
    assert await target.members() == set()
    revision = connector.office.accounts[person].revision
    assert is_applied(await connector.office.progress(person), revision)
    [applied] = await connector.recorded("command_applied", person_id=person, revision=revision)
    assert "verified_at" in applied["details"]
    if target.habits.inactive_is_gone:
        assert await held.user(person) is None

    await connector.converge(person, groups=target.groups, title="Clerk", **target.wanted)
    back = await held.user(person)
    assert back is not None
    assert back["active"] is True
    assert (back["id"] == joined["id"]) is (not target.habits.inactive_is_gone or target.habits.ids == "externalId")
    assert await target.members() == ({person} if target.groups else set())

    await connector.known_everywhere()
    await connector.converge(person, state="absent")
    assert await target.is_out(person)
    if not target.habits.delete_disables:
        assert await held.user(person) is None
    assert is_applied(await connector.office.progress(person), connector.office.accounts[person].revision)


async def test_an_account_that_is_there_already_is_adopted_and_never_doubled(target: Target) -> None:
    person = f"there-{target.name}"
    wanted = {"emails": [{"value": f"{person}@example.com", "type": "work"}], **target.wanted}
    ours = {"externalId": person, "userName": f"{person}@example.com", "displayName": "Old", **wanted}
    there = await target.held.put_in(schemas=["urn:ietf:params:scim:schemas:core:2.0:User"], **ours)
    await target.connector.converge(person, **target.wanted)
    user = await target.held.user(person)
    assert user is not None
    assert user["id"] == there
    if target.keeps("title"):
        assert user["displayName"] == "Ada King"


async def test_an_account_that_somebody_deleted_is_made_again(target: Target) -> None:
    person = f"lost-{target.name}"
    await target.connector.converge(person, groups=target.groups, **target.wanted)
    await target.connector.known_everywhere()
    await target.held.take_out(person)
    await target.connector.converge(person, groups=target.groups, title="Manager", **target.wanted)
    if target.name == "gitlab":  # it takes nothing of this change, so nobody looked; a reconciliation would
        await target.connector.converge(person, state="inactive")
        await target.connector.converge(person, groups=target.groups, **target.wanted)
    user = await target.held.user(person)
    assert user is not None
    assert user["active"] is True
    assert await target.members() == ({person} if target.groups else set())


async def test_a_leaver_whose_account_is_gone_is_out(target: Target) -> None:
    person = f"gone-{target.name}"
    await target.connector.converge(person, **target.wanted)
    await target.held.take_out(person)
    await target.connector.converge(person, state="inactive")
    assert await target.is_out(person)
    assert is_applied(await target.connector.office.progress(person), 2, but_for_a_look=True)


@pytest.mark.parametrize("name", [*REAL, "slack-1.1", "okta", "gitlab", "pagerduty", "databricks"])
async def test_an_answer_that_is_lost_is_settled_by_a_look(
    name: str, database: Database, request: pytest.FixtureRequest
) -> None:
    """The connection is cut when the application has done what it was asked."""
    async with opened(name, database, request, cut=True) as target:
        connector, person = target.connector, f"cut-{name}"
        target.wire.cut("POST", after=0)
        await connector.converge(person, **target.wanted)
        assert await target.held.active(person) is True
        assert is_applied(await connector.office.progress(person), 1, but_for_a_look=True)
        await connector.wait(OPEN_INTENT.total_seconds() + 1)
        assert is_applied(await connector.office.progress(person), 1), "there is no second account"
        target.wire.cut("PATCH", after=0)
        await connector.converge(person, state="inactive")
        assert await target.is_out(person)
        revision = connector.office.accounts[person].revision
        assert (await connector.office.progress(person)).applied_revision == revision


@pytest.mark.parametrize(
    "name", [*REAL, "standard", "google-cloud-identity", "databricks", "slack", "aws-identity-center"]
)
async def test_a_list_that_shifts_while_it_is_read_loses_nobody(
    name: str, database: Database, request: pytest.FixtureRequest
) -> None:
    """Somebody deletes accounts between two pages; all who stay are seen."""
    async with opened(name, database, request, concurrency=8) as target:
        connector, prefix = target.connector, f"drift-{name}-"
        people = [f"{prefix}{number:03}" for number in range(60)]
        await connector.converge(*people, **target.wanted)
        await connector.lanes.application_is_known()
        calls = 0

        async def send(call: ScimRequest) -> Any:
            nonlocal calls
            calls += 1
            if calls in (2, 3):
                await target.held.take_out(people[calls])
            return await connector.lanes.ask(call)

        listing = users(send, connector.lanes.application, attributes=("userName", "externalId"), page_size=10)
        seen = [str(row.get("externalId") or row["userName"]) async for row in listing]
        assert len(seen) == len(set(seen))
        assert {one for one in people if one not in people[2:4]} <= set(seen)
        assert listing.complete


@pytest.mark.parametrize("name", [*REAL, "okta", "gitlab", "pagerduty"])
async def test_namesakes_have_names_of_their_own_and_keep_them(
    name: str, database: Database, request: pytest.FixtureRequest
) -> None:
    """Three people whose mapping makes one user name; then a change, a leave and a return."""
    correlation = by_attributes(*dialects()[name if name in VENDORS else "standard"].lookup, unique=(("userName",),))
    async with opened(name, database, request, correlation=correlation) as target:
        connector, tag = target.connector, uuid4().hex[:8]
        people = [f"jane-{number}-{tag}" for number in range(3)]
        jane: dict[str, Any] = {"userName": f"jane{tag}@example.com", **target.wanted}
        await connector.converge(*people, **jane)
        made = {one: (await target.held.user(one) or {}).get("userName", "").lower() for one in people}
        assert set(made.values()) == {f"jane{tag}{number}@example.com" for number in ("", 2, 3)}
        await connector.converge(*people, **{**jane, "title": "Fellow"})
        await connector.converge(*people, state="inactive")
        await connector.converge(*people, **jane)
        assert {one: (await target.held.user(one) or {})["userName"].lower() for one in people} == made
        for person_id in people:
            assert is_applied(await connector.office.progress(person_id), 4)


async def test_a_server_that_shows_the_same_rows_for_ever_is_seen_through(database: Database) -> None:
    async with Application().served() as application:
        connector = Connector(Office(database), application.base_url, SimulatedClock(NOW), concurrency=8)
        async with connector.running():
            await connector.converge(*(f"trap-{number:03}" for number in range(45)))

            async def begin_anew(request: Request) -> Response | None:
                return application.plain.handle(request._replace(query={**request.query, "startIndex": "1"}))

            application.behave = begin_anew
            listing = users(connector.lanes.ask, connector.lanes.application, page_size=10)
            assert len([row async for row in listing]) == 10
            assert not listing.complete, "whoever concludes from absences must not"


async def test_what_a_vendor_refuses_is_refused(database: Database, request: pytest.FixtureRequest) -> None:
    """The simulated applications have teeth: a connector of another dialect is bitten."""
    async with Application(partial(_vendor, VENDORS["aws-identity-center"])).served() as application:
        connector = Connector(Office(database), application.base_url, SimulatedClock(NOW))
        async with connector.running():
            two = [{"value": f"{n}@example.com", "type": kind} for n, kind in enumerate(("work", "home"))]
            await connector.converge("ada", emails=two)
            assert (await connector.office.progress("ada")).error_code == "rejected"
    async with opened("aws-identity-center", database, request) as target:
        await target.connector.converge("bea", emails=two)
        user = await target.held.user("bea")
        assert user is not None
        assert [one["value"] for one in user["emails"]] == ["0@example.com"]


async def test_an_answer_of_the_wrong_kind_costs_a_row_and_no_page(database: Database) -> None:
    async with Application().served() as application:
        connector = Connector(Office(database), application.base_url, SimulatedClock(NOW))
        async with connector.running():
            await connector.converge("ada", "bea")

            async def spoil(request: Request) -> Response | None:
                answer = application.plain.handle(request)
                return answer._replace(body=answer.body.replace(b'"Resources":[', b'"Resources":[7,{"userName":"x"},'))

            application.behave = spoil
            listing = users(connector.lanes.ask, connector.lanes.application)
            assert {row["externalId"] async for row in listing} == {"ada", "bea"}
            assert listing.skipped == 2


async def test_a_burst_beyond_a_vendors_rate_is_refused() -> None:
    vendor = Vendor(VENDORS["slack"], enforce=True)
    body = b'{"userName": "%d"}'
    statuses = [vendor.handle(Request("POST", "/Users", {}, (), body % number, "")).status for number in range(25)]
    assert statuses == [201] * 20 + [429] * 5
    await asyncio.sleep(0.5)
    assert vendor.handle(Request("POST", "/Users", {}, (), body % 99, "")).status == 201
