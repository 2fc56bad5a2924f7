"""Every dialect keeps the contract, and reads what its vendor's pages show."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.bootstrap import connect
from orchestrator.config import AppConfig
from orchestrator.demo.servers.habits import VENDORS, Habits, Rate
from orchestrator.dialects import STANDARD, dialects
from orchestrator.dialects.base import Dialect
from orchestrator.domain.outcome import classify
from orchestrator.domain.paths import ENTERPRISE
from orchestrator.domain.scim_read import STRICT
from orchestrator.errors import Rejected
from orchestrator.flows.application import Application
from orchestrator.ports import ScimResponse

SAMPLES = Path(__file__).parents[1] / "samples/dialects"
NOW = datetime(2026, 3, 2, tzinfo=UTC)
ADA = {
    "userName": "ada@example.com",
    "externalId": "ada",
    "name": {"givenName": "Ada", "familyName": "King"},
    "displayName": "Ada King",
    "emails": [{"value": "home@example.com", "type": "home"}, {"value": "a@b", "type": "work", "primary": True}],
    "entitlements": [{"value": "00e"}],
    ENTERPRISE: {"department": "Research"},
}
every = pytest.mark.parametrize("dialect", dialects().values(), ids=lambda one: one.name)


@every
def test_a_dialect_says_where_it_is_from(dialect: Dialect) -> None:
    assert dialect.title
    assert all(source.startswith("https://") for source in dialect.sources)
    assert dialect.sources


@every
def test_limits_can_be_obeyed(dialect: Dialect) -> None:
    for limit in dialect.limits:
        assert limit.calls > 0
        assert limit.seconds > 0
        assert limit.burst is None or 0 < limit.burst <= limit.calls
    assert len({limit.kind for limit in dialect.limits}) == len(dialect.limits)


_KINDS = {
    "POST /Users": ("user_create",),
    "PATCH /Users": ("user_write",),
    "GET /Users": ("read",),
    "PATCH /Groups": ("group_write",),
    "* /Users": ("user_create", "user_write", "read"),
    "* /Groups": ("group_write",),
}


@pytest.mark.parametrize(
    ("habits", "rate"),
    [(one, rate) for one in VENDORS.values() for rate in one.rates],
    ids=lambda value: getattr(value, "name", None) or getattr(value, "call", ""),
)
def test_no_dialect_presses_harder_than_its_vendor_allows(habits: Habits, rate: Rate) -> None:
    limits = {limit.kind: limit for limit in dialects()[habits.name].limits}
    for kind in _KINDS[rate.call]:
        limit = limits[kind]
        assert limit.calls / limit.seconds <= rate.calls / rate.seconds
        assert (limit.burst or limit.calls) <= rate.burst


@pytest.mark.parametrize("name", ["slack", "slack-1.1"])
def test_all_writes_together_stay_within_what_slack_allows(name: str) -> None:
    """Users and groups have limits of their own, and all writes one of 600 a minute."""
    limits = {limit.kind: limit for limit in dialects()[name].limits}
    writes = [limits[kind] for kind in ("user_create", "user_write", "group_write")]
    assert sum(limit.calls / limit.seconds for limit in writes) <= 600 / 60


@pytest.mark.parametrize("habits", [one for one in VENDORS.values() if one.bulk is None], ids=lambda one: one.name)
def test_bulk_is_refused_where_a_vendor_has_none(habits: Habits) -> None:
    dialect = dialects()[habits.name]
    given = {"base_url": "https://a.example", "attributes": {"userName": "person.user_name"}, "bulk": True}
    if dialect.capabilities.bulk is False:
        with pytest.raises(ValueError, match="has no Bulk"):
            AppConfig.model_validate({**given, "dialect": habits.name})
    assert Application(dialect).capabilities.bulk is False, "nor without the dialect's word"


@pytest.mark.parametrize("habits", [one for one in VENDORS.values() if one.required], ids=lambda one: one.name)
def test_what_a_vendor_requires_is_missed_before_it_is_asked(habits: Habits) -> None:
    application = Application(dialects()[habits.name])
    for name in habits.required:
        with pytest.raises(Rejected, match=f"creates no account without .*{name}"):
            application.create({"userName": "ada", **dict.fromkeys(habits.required - {name}, "x")})


@pytest.mark.parametrize("habits", VENDORS.values(), ids=lambda one: one.name)
def test_groups_are_made_where_a_vendor_lets_them_be_made(habits: Habits) -> None:
    assert Application(dialects()[habits.name]).creates_groups is (habits.groups == "yes")


@pytest.mark.parametrize("habits", VENDORS.values(), ids=lambda one: one.name)
def test_no_more_is_asked_for_than_a_vendor_shows_or_takes(habits: Habits) -> None:
    application = Application(dialects()[habits.name])
    assert application.page_size <= habits.max_count
    assert application.chunk(500) <= (habits.most_member_changes or 500)
    assert application.dialect.shows_members is habits.group_shows_members
    assert (application.dialect.deactivated == "gone") is habits.inactive_is_gone
    assert (application.dialect.deleted == "inactive") is habits.delete_disables


@pytest.mark.parametrize(
    "habits", [one for one in VENDORS.values() if one.one_value or one.dropped], ids=lambda one: one.name
)
def test_what_a_vendor_cannot_hold_is_not_sent(habits: Habits) -> None:
    """It would be refused, or be drift for ever."""
    two = [{"value": "1", "type": "home"}, {"value": "2", "type": "work", "primary": True}]
    body = Application(dialects()[habits.name]).create({**ADA, **dict.fromkeys(habits.one_value, two)}).body or {}
    assert {len(body[name]) for name in habits.one_value & body.keys()} <= {1}
    assert not habits.dropped & body.keys()


@every
def test_a_shape_does_not_change_what_it_made(dialect: Dialect) -> None:
    application = Application(dialect)
    once = application.shaped(ADA)
    assert application.shaped(once) == once
    assert application.change("17", ADA, ADA, active=None) is None


@every
def test_what_is_shown_of_a_created_account_is_what_was_wanted(dialect: Dialect) -> None:
    application = Application(dialect)
    created = application.create(ADA).body or {}
    shown = application.user(ScimResponse(201, {**created, "id": "17"}))
    assert shown is not None
    assert application.shows(shown, ADA) == ADA


def test_each_dialect_of_a_vendor_has_a_sample_and_a_simulated_application() -> None:
    assert {file.stem for file in SAMPLES.glob("*.json")} == set(dialects()) - {STANDARD, "standard-1.1"}
    assert set(VENDORS) == set(dialects())


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*.json")), ids=lambda file: file.stem)
def test_what_a_vendor_shows_is_read(file: Path) -> None:
    sample: dict[str, Any] = json.loads(file.read_text())
    application = Application(dialects()[file.stem])
    user = application.user(ScimResponse(200, sample["user"]))
    assert user is not None
    assert user["id"] == str(sample["user"]["id"])
    assert application.is_active(user) is True
    page = application.page(ScimResponse(200, sample["list"]))
    assert page is not None
    assert [row["id"] for row in page.rows] == [user["id"]]
    assert isinstance(user.get("emails", []), list)
    manager = user.get(ENTERPRISE, {}).get("manager")
    assert manager is None or isinstance(manager["value"], str)
    status, body = sample["error"]["status"], sample["error"]["body"]
    error = classify(status, body, {}, NOW)
    assert (error is None) is (status in (404, 409))
    assert error is None or len(str(error)) < 200
    assert "user_must_have" not in str(error), "what an application says in its own words may name people"


def test_an_unknown_dialect_is_refused_with_those_that_are_known() -> None:
    given = {"base_url": "https://a.example", "attributes": {"userName": "person.user_name"}, "dialect": "sap"}
    with pytest.raises(ValueError, match=r"there is no dialect 'sap'; the dialects are atlassian, .*zoom"):
        AppConfig.model_validate(given)


def test_what_an_application_requires_is_missed_before_it_is_asked() -> None:
    with pytest.raises(Rejected, match="Salesforce creates no account without entitlements: map it"):
        Application(dialects()["salesforce"]).create({"userName": "ada"})


def test_one_value_is_the_primary_one() -> None:
    shaped = Application(dialects()["aws-identity-center"]).shaped(ADA)
    assert [one["value"] for one in shaped["emails"]] == ["a@b"]


def test_gitlab_is_asked_to_switch_and_for_nothing_else() -> None:
    application = Application(dialects()["gitlab"])
    renamed = {**ADA, "name": {"givenName": "Ada", "familyName": "Lovelace"}, "userName": "ada.l@example.com"}
    assert application.can_patch(ADA, renamed)
    assert application.change("17", ADA, renamed, active=None) is None
    switch = application.change("17", ADA, renamed, active=False)
    assert switch is not None
    assert [one["path"] for one in (switch.body or {})["Operations"]] == ["active"]
    assert application.shows(ADA, renamed) == renamed, "what cannot change there is no drift"


def test_a_name_for_gitlab_is_in_one_piece() -> None:
    shaped = Application(dialects()["gitlab"]).shaped(ADA)
    assert shaped["name"] == {"formatted": "Ada King"}
    assert "displayName" not in shaped


def test_an_operator_knows_better_than_a_dialect() -> None:
    settings = AppConfig.model_validate(
        {
            "base_url": "https://a.example",
            "attributes": {"userName": "person.user_name"},
            "dialect": "okta",
            "capabilities": {"patch": False, "max_results": 20},
            "behaves": {"deactivate": "delete", "deleted": "inactive", "lookup": ["externalId"], "tolerance": "strict"},
        }
    )
    _, application = connect("crm", settings, SystemClock())
    assert application.capabilities.patch is False
    assert application.page_size == 20
    dialect = application.dialect
    assert (dialect.deactivate, dialect.deleted, dialect.lookup) == ("delete", "inactive", ("externalId",))
    assert dialect.tolerance is STRICT
    assert dialect.patchable == frozenset({"active"}), "what nobody spoke of stays"


@pytest.mark.parametrize("given", [{"deactivate": "hope"}, {"page_size": 0}, {"vendor": "x"}, {"accept": "a\nb"}])
def test_behaviour_that_nobody_knows_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="behaves"):
        AppConfig.model_validate(
            {"base_url": "https://a.example", "attributes": {"userName": "person.user_name"}, "behaves": given}
        )
