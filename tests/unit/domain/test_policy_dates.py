"""The days of an engagement in expressions: as known now, and decided anew when they move."""

from datetime import UTC, date, datetime

from orchestrator.domain.policy import BeforeStart
from schemas.changes import ContractChanged, WorkerJoined, WorkerLeft
from tests.unit.domain.story import Story, app, policy

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
RULES = policy(
    app(
        attributes={
            "userName": "person.id",
            "title": "person.start_date",
            "nickName": "add_days(person.end_date, 30)",
        }
    )
)


def joined(**stated: object) -> WorkerJoined:
    return WorkerJoined(worker_id="w1", start_date=date(2026, 3, 1), kind="contractor", **stated)


def resource(story: Story) -> dict[str, object]:
    return {name: value for name, value in story.accounts["directory"].resource.items() if name != "userName"}


def test_the_first_and_the_last_day_are_there_and_an_open_end_is_empty() -> None:
    story = Story(RULES)
    story.tell(joined(contract_end=date(2026, 6, 30), attributes={"time_zone": "Australia/Melbourne"}), NOW)
    assert resource(story) == {"title": "2026-03-01", "nickName": "2026-07-30"}
    open_end = Story(RULES)
    open_end.tell(joined(), NOW)
    assert resource(open_end) == {"title": "2026-03-01"}


def test_a_contract_that_is_extended_changes_what_depends_on_its_end() -> None:
    story = Story(RULES)
    story.tell(joined(contract_end=date(2026, 6, 30)), NOW)
    told = story.tell(ContractChanged(worker_id="w1", contract_end=date(2026, 9, 30)), NOW)
    assert [one.kind for one in told.raised] == ["patch"]
    assert resource(story)["nickName"] == "2026-10-30"
    told = story.tell(WorkerLeft(worker_id="w1", last_day=date(2026, 5, 31)), NOW)
    assert resource(story)["nickName"] == "2026-06-30"


def test_who_is_still_to_come_has_the_days_of_the_first_engagement() -> None:
    rules = policy(app(attributes={"userName": "person.start_date + person.id"}, before_start=BeforeStart(30)))
    story = Story(rules)
    story.tell(joined(), datetime(2026, 2, 20, tzinfo=UTC))
    assert story.accounts["directory"].state == "staged"
    assert story.accounts["directory"].resource["userName"] == "2026-03-01w1"


def test_scope_can_depend_on_the_days() -> None:
    rules = policy(app(scope="person.end_date == '' || days_between(person.start_date, person.end_date) >= 30"))
    story = Story(rules)
    story.tell(joined(contract_end=date(2026, 3, 20)), NOW)
    assert "directory" not in story.accounts
    story.tell(ContractChanged(worker_id="w1", contract_end=date(2026, 4, 20)), NOW)
    assert story.accounts["directory"].state == "active"


def test_without_an_expression_that_reads_them_the_days_cost_nothing() -> None:
    assert not policy(app()).reads_dates
    assert policy(app(groups="[person.end_date]")).reads_dates
