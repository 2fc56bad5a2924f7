"""Plans and rehearsals: the resolver's own decisions, over lives that are told again."""

from datetime import UTC, date, datetime, timedelta

from orchestrator.domain.person import Person
from orchestrator.domain.planning import Rehearsal, as_it_was, plan
from orchestrator.domain.resolve import Cause
from schemas.changes import ContractChanged, WorkerAttributes, WorkerJoined, WorkerLeft, WorkerMoved
from tests.unit.domain.story import Story, app, policy

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HIRE = WorkerJoined(
    worker_id="w1",
    start_date=date(2026, 1, 1),
    contract_end=date(2026, 3, 31),
    attributes=WorkerAttributes(title="Analyst", department="Sales"),
)


def cause(number: int, stated: datetime) -> Cause:
    return Cause(f"hr#{number}", stated, "c")


def test_a_plan_is_what_the_next_decision_does() -> None:
    story = Story(policy(app()))
    story.tell(HIRE, START)
    other = policy(app(groups='["staff"]'), app("wiki", scope='person.department == "Sales"'))
    found, problems = plan(story.person, story.accounts, other, START + DAY)
    assert problems == ()
    assert [(one.app, one.kind, one.groups_added) for one in found] == [
        ("directory", "patch", ("staff",)),
        ("wiki", "create", ()),
    ]
    assert dict(found[1].attributes) == {"title": (None, "Analyst"), "userName": (None, "w1")}
    assert plan(story.person, story.accounts, story.rules, START + DAY) == ([], ())


def test_a_rehearsal_lets_timers_fire_in_their_order() -> None:
    rules = policy(app(delete_after=timedelta(days=5)), app("kept", scope='person.title == "Analyst"'))
    life = Rehearsal(Person("w1"), rules, START)
    life.tell(HIRE, cause(1, START), START)
    moved = WorkerMoved(worker_id="w1", effective=date(2026, 3, 10), attributes=WorkerAttributes(title="Lead"))
    life.tell(moved, cause(2, START), START + DAY)
    life.wait_until(START + 40 * DAY)
    assert [(one.app, one.kind) for one in life.commands] == [
        ("directory", "create"),
        ("kept", "create"),
        ("directory", "patch"),
        ("kept", "deactivate"),
        ("directory", "deactivate"),
        ("directory", "delete"),
    ]
    assert dict(life.commands[2].attributes) == {"title": ("Analyst", "Lead")}


def test_what_somebody_has_at_the_beginning_is_no_change() -> None:
    story = Story(policy(app()))
    story.tell(HIRE, START)
    life = Rehearsal(story.person, story.rules, START + DAY)
    assert life.commands == []
    extended = ContractChanged(worker_id="w1", contract_end=date(2026, 6, 30))
    life.tell(extended, cause(3, START + DAY), START + DAY)
    life.wait_until(START + 60 * DAY)
    assert life.commands == []


def test_what_was_stated_since_then_is_taken_back() -> None:
    story = Story(policy(app()))
    story.tell(HIRE, START)
    before = story.person
    then = START + 2 * DAY
    story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="Lead")), then)
    story.tell(WorkerLeft(worker_id="w1", last_day=date(2026, 3, 20)), then)
    story.tell(ContractChanged(worker_id="w1", contract_end=date(2026, 4, 30)), then)
    assert as_it_was(story.person, then) == before._replace(decision=None)
    named = ContractChanged(worker_id="w1", engagement_id="2026-01-01", contract_end=date(2026, 5, 31))
    story.tell(named, then)
    [engagement] = as_it_was(story.person, then).engagements.values()
    assert (engagement.start.value, engagement.contract_end.value) == (date(2026, 1, 1), None)


def test_what_is_to_be_told_again_is_not_known_before_even_where_it_is_backdated() -> None:
    story = Story(policy(app()))
    story.tell(HIRE, START)
    before = story.person
    story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="Lead")), START + DAY)
    told = {one.event_id for one in story.person.history.statements} - {
        one.event_id for one in before.history.statements
    }
    assert as_it_was(story.person, START + 2 * DAY, told) == before._replace(decision=None)
    assert as_it_was(story.person, START + 2 * DAY).history == story.person.history
