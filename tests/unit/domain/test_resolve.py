"""The resolver's decisions, told as stories of one person."""

from datetime import UTC, date, datetime, timedelta

import pytest

from orchestrator.domain.account import Account, command_kind, lane
from orchestrator.domain.lifecycle import Status, Transition
from orchestrator.domain.policy import ApplicationPolicy
from orchestrator.domain.resolve import MAX_SKEW, manager_cycle
from schemas.changes import (
    ContractChanged,
    IdpAccountDisabled,
    IdpAccountEnabled,
    LeaveOfAbsenceEnded,
    LeaveOfAbsenceStarted,
    TimerFired,
    WorkerAttributes,
    WorkerJoined,
    WorkerLeft,
    WorkerMoved,
    WorkerRehired,
)
from schemas.commands import CommandKind, DesiredState
from tests.unit.domain.story import Story, app, policy

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hired(story: Story, now: datetime, start: str = "2026-01-01", end: str | None = None, **attributes: str) -> None:
    story.tell(
        WorkerJoined(
            worker_id="w1",
            start_date=date.fromisoformat(start),
            contract_end=date.fromisoformat(end) if end else None,
            attributes=WorkerAttributes.model_validate(attributes),
        ),
        now,
    )


def left(last_day: str | None) -> WorkerLeft:
    return WorkerLeft(worker_id="w1", last_day=date.fromisoformat(last_day) if last_day else None)


def contract_end(last_day: str | None) -> ContractChanged:
    return ContractChanged(worker_id="w1", contract_end=date.fromisoformat(last_day) if last_day else None)


@pytest.fixture
def story() -> Story:
    """Somebody nobody knows yet, and one application that deletes 90 days after access was lost."""
    return Story(policy(app(delete_after=timedelta(days=90))))


def test_a_joiner_is_prepared_for_and_starts_on_the_day(story: Story) -> None:
    hired(story, day("2025-12-01"), "2026-01-01", title="Engineer")
    assert (story.state(), story.raised) == ("none", [])
    assert story.due()["engagement_start"] == day("2026-01-01")
    story.wait_until(day("2026-01-01") - SECOND)
    assert story.state() == "none"
    story.wait_until(day("2026-01-01"))
    assert story.access() == {"directory": ({"userName": "w1", "title": "Engineer"}, ())}
    assert [(one.kind, one.effective_at, one.account.revision) for one in story.raised] == [
        ("create", day("2026-01-01"), 1)
    ]
    assert story.timers == {}


def test_a_contract_ends_at_the_boundary_and_not_a_moment_before(story: Story) -> None:
    hired(story, day("2026-01-05"), end="2026-06-30")
    assert story.due() == {"contract_end": day("2026-07-01")}
    story.wait_until(day("2026-07-01") - SECOND)
    assert story.state() == "active"
    story.wait_until(day("2026-07-01"))
    assert story.state() == "inactive"
    assert story.raised[-1].kind == "deactivate"
    assert story.raised[-1].effective_at == story.accounts["directory"].since == day("2026-07-01")
    assert story.due() == {"retention_end": day("2026-07-01") + 90 * DAY}


@pytest.mark.parametrize("new_end", ["2026-09-30", "2026-03-31", None])
def test_an_extension_or_shortening_replaces_the_timer(story: Story, new_end: str | None) -> None:
    hired(story, day("2026-01-05"), end="2026-06-30")
    told = story.tell(contract_end(new_end), day("2026-02-01"))
    assert [one.due for one in told.timers_cancelled] == [day("2026-07-01")]
    expected = [] if new_end is None else [day(new_end) + DAY]
    assert [one.due for one in told.timers_set] == expected == list(story.due().values())
    assert told.raised == ()
    story.wait_until(day("2026-12-01"))
    assert story.state() == ("active" if new_end is None else "inactive" if new_end > "2026-04" else "absent")


def test_a_contract_shortened_into_the_past_ends_at_once(story: Story) -> None:
    hired(story, day("2026-01-05"), end="2026-06-30")
    told = story.tell(contract_end("2026-01-31"), day("2026-02-10"))
    assert [(one.kind, one.effective_at) for one in told.raised] == [("deactivate", day("2026-02-01"))]


def test_a_leaver_is_out_and_is_deleted_when_retention_ends(story: Story) -> None:
    hired(story, day("2026-01-05"))
    assert story.tell(left("2026-03-31"), day("2026-03-01")).transition is Transition.NONE
    story.wait_until(day("2026-04-01"))
    assert story.state() == "inactive"
    story.wait_until(day("2026-04-01") + 90 * DAY - SECOND)
    assert story.state() == "inactive"
    story.wait_until(day("2026-04-01") + 90 * DAY)
    assert story.state() == "absent"
    assert story.kinds() == ["create", "deactivate", "delete"]
    assert story.timers == {}


def test_a_rescinded_leave_before_the_last_day_changes_nothing(story: Story) -> None:
    hired(story, day("2026-01-05"))
    story.tell(left("2026-03-31"), day("2026-03-01"))
    told = story.tell(left(None), day("2026-03-15"))
    assert [one.kind for one in told.timers_cancelled] == ["termination"]
    story.wait_until(day("2027-01-01"))
    assert story.kinds() == ["create"]


def test_a_rescinded_leave_after_the_last_day_brings_back(story: Story) -> None:
    hired(story, day("2026-01-05"))
    story.tell(left("2026-03-31"), day("2026-03-01"))
    story.wait_until(day("2026-04-02"))
    told = story.tell(left(None), day("2026-04-02"))
    assert story.kinds() == ["create", "deactivate", "reactivate"]
    assert told.transition is Transition.RETURNER
    assert story.timers == {}


def test_a_rehire_is_created_or_reactivated(story: Story) -> None:
    hired(story, day("2026-01-05"))
    story.tell(left("2026-03-31"), day("2026-04-01"))
    story.tell(WorkerRehired(worker_id="w1", start_date=date(2026, 5, 4)), day("2026-04-20"))
    story.wait_until(day("2026-05-04"))
    assert story.kinds() == ["create", "deactivate", "reactivate"]
    assert story.raised[-1].effective_at == day("2026-05-04")
    story.tell(left("2026-05-31"), day("2026-05-20"))
    story.wait_until(day("2027-01-01"))
    assert story.state() == "absent"
    story.tell(WorkerRehired(worker_id="w1", start_date=date(2027, 2, 1)), day("2027-01-02"))
    story.wait_until(day("2027-02-01"))
    assert story.kinds()[3:] == ["deactivate", "delete", "create"]


def test_a_conversion_is_a_change_and_no_interruption() -> None:
    story = Story(policy(app(), app("vpn", scope='person.kind == "contractor"')))
    joined = WorkerJoined(
        worker_id="w1", kind="contractor", start_date=date(2026, 1, 1), contract_end=date(2026, 6, 30)
    )
    story.tell(joined, day("2026-01-01"))
    assert set(story.access()) == {"directory", "vpn"}
    story.tell(ContractChanged(worker_id="w1", kind="employee", contract_end=None), day("2026-05-01"))
    story.wait_until(day("2026-12-01"))
    assert set(story.access()) == {"directory"}
    assert [(one.account.app, one.kind) for one in story.raised[2:]] == [("vpn", "deactivate")]


def test_a_leave_of_absence_is_what_each_application_makes_of_it() -> None:
    story = Story(policy(app("kept"), app("blocked", leave_of_absence="deactivate", delete_after=timedelta(days=30))))
    hired(story, day("2026-01-05"))
    story.tell(LeaveOfAbsenceStarted(worker_id="w1", effective=date(2026, 2, 1)), day("2026-01-10"))
    story.tell(LeaveOfAbsenceEnded(worker_id="w1", effective=date(2027, 2, 1)), day("2026-01-10"))
    story.wait_until(day("2026-02-01"))
    assert (story.state("kept"), story.state("blocked")) == ("active", "inactive")
    story.wait_until(day("2027-02-01") - SECOND)
    assert story.state("blocked") == "inactive", "who is expected back keeps the account"
    story.wait_until(day("2027-02-01"))
    assert story.state("blocked") == "active"
    back = story.raised[-1]
    assert (back.kind, back.effective_at, back.account.since) == ("reactivate", day("2027-02-01"), day("2027-02-01"))


def test_retention_does_not_run_while_somebody_is_expected_back() -> None:
    """A year of parental leave, then a notice: the account is kept for the whole of the retention."""
    story = Story(policy(app(leave_of_absence="deactivate", delete_after=timedelta(days=90))))
    hired(story, day("2026-01-05"))
    story.tell(LeaveOfAbsenceStarted(worker_id="w1"), day("2026-02-01"))
    story.tell(left("2027-01-31"), day("2026-12-01"))
    story.wait_until(day("2027-02-01"))
    assert story.state() == "inactive"
    assert story.due() == {"retention_end": day("2027-02-01") + 90 * DAY}
    story.wait_until(day("2027-02-01") + 90 * DAY)
    assert story.state() == "absent"


def test_an_identity_providers_block_is_followed_and_lifted(story: Story) -> None:
    hired(story, day("2026-01-05"))
    told = story.tell(IdpAccountDisabled(worker_id="w1"), day("2026-02-01"))
    assert (told.status, told.transition, story.state()) == (Status.SUSPENDED, Transition.ABSENT, "inactive")
    story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="Lead")), day("2026-02-02"))
    story.wait_until(day("2026-12-01"))
    assert story.state() == "inactive"
    story.tell(IdpAccountEnabled(worker_id="w1"), day("2026-12-01"))
    assert story.access() == {"directory": ({"userName": "w1", "title": "Lead"}, ())}
    assert story.raised[-1].effective_at == day("2026-12-01")


def test_a_block_that_is_older_than_its_lifting_arrives_late(story: Story) -> None:
    hired(story, day("2026-01-05"))
    story.tell(IdpAccountEnabled(worker_id="w1"), day("2026-02-02"))
    told = story.tell(IdpAccountDisabled(worker_id="w1"), day("2026-02-03"), stated=day("2026-02-01"))
    assert (told.raised, story.state()) == ((), "active")


def test_a_scheduled_move_waits_for_its_day() -> None:
    story = Story(policy(app(), app("lab", scope='person.department == "R&D"')))
    hired(story, day("2026-01-05"), department="Sales")
    move = WorkerMoved(worker_id="w1", effective=date(2026, 3, 1), attributes=WorkerAttributes(department="R&D"))
    story.tell(move, day("2026-02-01"))
    assert story.due() == {"scheduled_change": day("2026-03-01")}
    assert set(story.access()) == {"directory"}
    story.wait_until(day("2026-03-01"))
    assert set(story.access()) == {"directory", "lab"}
    assert story.raised[-1].effective_at <= day("2026-03-01")


def test_a_patch_counts_from_when_it_was_stated(story: Story) -> None:
    hired(story, day("2026-01-05"))
    move = WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="Lead"))
    told = story.tell(move, day("2026-02-01"), stated=day("2026-01-31"))
    assert [(one.kind, one.effective_at) for one in told.raised] == [("patch", day("2026-01-31"))]
    assert story.accounts["directory"].since == day("2026-01-01")


def test_somebody_who_moves_out_of_scope_is_deleted_when_retention_ends() -> None:
    """The person goes on working; only a timer asks about this account again."""
    story = Story(policy(app(), app("lab", scope='person.department == "R&D"', delete_after=timedelta(days=30))))
    hired(story, day("2026-01-05"), department="R&D")
    story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(department="Sales")), day("2026-02-01"))
    assert story.state("lab") == "inactive"
    assert story.accounts["lab"].since == day("2026-02-01")
    story.wait_until(day("2026-02-01") + 30 * DAY - SECOND)
    assert story.state("lab") == "inactive"
    story.wait_until(day("2026-02-01") + 30 * DAY)
    assert story.state("lab") == "absent"
    assert story.state() == "active"


def test_a_leave_told_after_its_retention_still_leaves_time_to_notice(story: Story) -> None:
    hired(story, day("2026-01-05"))
    story.tell(left("2026-02-28"), day("2026-12-01"))
    assert story.state() == "inactive"
    assert story.due() == {"retention_end": day("2026-12-01") + 90 * DAY}
    story.wait_until(day("2027-12-01"))
    assert story.kinds() == ["create", "deactivate", "delete"]


def test_no_retention_deletes_at_once() -> None:
    story = Story(policy(app(delete_after=timedelta(0))))
    hired(story, day("2026-01-05"))
    story.tell(LeaveOfAbsenceStarted(worker_id="w1"), day("2026-01-06"))
    story.tell(IdpAccountDisabled(worker_id="w1"), day("2026-01-07"))
    assert story.kinds() == ["create", "deactivate"], "who is expected back is not deleted"
    story.tell(IdpAccountEnabled(worker_id="w1"), day("2026-01-08"))
    story.tell(LeaveOfAbsenceEnded(worker_id="w1"), day("2026-01-09"))
    story.tell(left("2026-02-28"), day("2026-02-01"))
    story.wait_until(day("2026-03-01"))
    assert story.kinds()[2:] == ["reactivate", "delete"]


def test_a_retention_beyond_the_calendar_is_for_ever() -> None:
    story = Story(policy(app(delete_after=timedelta(days=3_000_000))))
    hired(story, day("2026-01-05"))
    story.tell(left("2026-01-31"), day("2026-02-01"))
    assert (story.state(), story.timers) == ("inactive", {})


def test_an_application_that_is_no_longer_connected_is_left_alone(story: Story) -> None:
    hired(story, day("2026-01-05"))
    story.rules = policy(app("other"))
    told = story.tell(left("2026-01-31"), day("2026-02-10"))
    assert (told.raised, story.state()) == ((), "active")


def test_a_new_policy_is_applied_at_the_next_event() -> None:
    story = Story(policy(app()))
    hired(story, day("2026-01-05"))
    story.rules = policy(app(groups='["all"]'))
    told = story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(phone="")), day("2026-01-06"))
    assert [one.account.groups for one in told.raised] == [("all",)]
    assert told.raised[0].account.policy == story.rules.digest


def test_a_failing_expression_leaves_only_that_application_untouched() -> None:
    def groups(text: str) -> ApplicationPolicy:
        return app("wiki", groups=text)

    story = Story(policy(app(), groups("[person.custom.team]")))
    joined = WorkerJoined(
        worker_id="w1", start_date=date(2026, 1, 1), attributes=WorkerAttributes(custom={"team": "blue"})
    )
    story.tell(joined, day("2026-01-05"))
    story.rules = policy(app(groups='["all"]'), groups("[person.custom.squad]"))
    told = story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="Lead")), day("2026-01-06"))
    assert told.problems == ("apps.wiki.groups: the person has no 'squad': test it with has() first",)
    assert [one.account.app for one in told.raised] == ["directory"]
    assert story.access()["wiki"][1] == ("blue",)
    story.tell(left("2026-01-31"), day("2026-02-02"))
    assert story.access() == {}, "a leaver is out whatever the expressions say"


def test_an_attribute_stated_to_be_empty_is_news_to_an_expression() -> None:
    story = Story(policy(app(attributes={"userName": "person.id", "nickName": "person.custom.badge"})))
    hired(story, day("2026-01-05"))
    assert story.access() == {}, "the expression fails while nobody has said anything about a badge"
    stated = WorkerAttributes(custom={"badge": None})
    told = story.tell(WorkerMoved(worker_id="w1", attributes=stated), day("2026-01-06"))
    assert (told.changed, story.access()) == ((), {"directory": ({"userName": "w1"}, ())})


def test_a_timer_that_fires_a_moment_early_is_decided_for_its_instant(story: Story) -> None:
    """The scheduler's clock may be ahead of ours; and what was decided is not undone by our slower clock."""
    hired(story, day("2026-01-05"), end="2026-06-30")
    due = day("2026-07-01")
    fired = TimerFired(worker_id="w1", kind="contract_end", due=due)
    del story.timers["contract_end", due]
    told = story.tell(fired, due - MAX_SKEW)
    assert (told.person.decision and told.person.decision.at, story.state()) == (due, "inactive")
    told = story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="x")), due - MAX_SKEW + SECOND)
    assert (told.person.decision and told.person.decision.at, told.raised) == (due, ())


def test_a_timer_that_fires_far_too_early_is_set_again(story: Story) -> None:
    """Nobody loses access because some clock was wrong, and nobody keeps it for that reason either."""
    hired(story, day("2026-01-05"), end="2026-06-30")
    due = day("2026-07-01")
    del story.timers["contract_end", due]
    told = story.tell(TimerFired(worker_id="w1", kind="contract_end", due=due), due - MAX_SKEW - SECOND)
    assert story.state() == "active"
    assert [(one.kind, one.due) for one in told.timers_set] == [("contract_end", due)]


def test_our_own_clock_that_was_far_ahead_is_not_followed_for_ever(story: Story) -> None:
    hired(story, day("2026-01-05"), end="2026-06-30")
    story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="x")), day("2026-09-01"))
    assert story.state() == "inactive"
    told = story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="y")), day("2026-03-01"))
    assert told.person.decision is not None
    assert told.person.decision.at == day("2026-03-01")
    assert story.state() == "active"


def test_what_newer_statements_leave_nothing_of_is_superseded(story: Story) -> None:
    hired(story, day("2026-01-05"), end="2026-06-30")
    old = WorkerJoined(worker_id="w1", start_date=date(2026, 1, 1), contract_end=date(2026, 3, 31))
    told = story.tell(old, day("2026-01-06"), stated=day("2026-01-04"))
    assert told.superseded_by == ("hr#0001",)
    assert story.due() == {"contract_end": day("2026-07-01")}
    assert not story.tell(contract_end("2026-08-31"), day("2026-01-07")).superseded_by


def test_overdue_timers_are_not_cancelled_for_they_are_about_to_fire(story: Story) -> None:
    hired(story, day("2026-01-05"), end="2026-06-30")
    told = story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="x")), day("2026-07-02"))
    assert told.timers_cancelled == ()
    assert story.state() == "inactive"
    story.wait_until(day("2026-07-03"))
    assert story.kinds() == ["create", "deactivate"]


@pytest.mark.parametrize(
    ("managers", "cycle"),
    [
        ({}, False),
        ({"a": None}, False),
        ({"a": "a"}, True),
        ({"a": "b", "b": "a"}, True),
        ({"a": "b", "b": "c", "c": "a"}, True),
        ({"a": "b", "b": "c", "c": "b"}, False),
        ({"a": "b", "b": "c"}, False),
        ({"a": "b", **{f"m{n}": f"m{n + 1}" for n in range(5000)}, "b": "m0"}, False),
    ],
)
def test_a_cycle_of_managers(managers: dict[str, str | None], cycle: bool) -> None:
    assert manager_cycle("a", managers) is cycle


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, "active", "create"),
        ("absent", "active", "create"),
        ("inactive", "active", "reactivate"),
        ("active", "active", "patch"),
        ("active", "inactive", "deactivate"),
        ("inactive", "absent", "delete"),
    ],
)
def test_commands_that_take_access_away_go_ahead(
    before: DesiredState | None, after: DesiredState, kind: CommandKind
) -> None:
    def account(state: DesiredState) -> Account:
        return Account("w1", "wiki", 1, state, {}, (), day("2026-01-01"), "e", "c", "p")

    assert command_kind(account(before) if before else None, after) == kind
    assert lane(kind) == ("provision" if after == "active" else "deprovision")


def test_a_write_once_attribute_keeps_what_the_account_was_made_with() -> None:
    attributes = {"userName": "slug(person.family_name)", "name.familyName": "person.family_name"}
    story = Story(policy(app(attributes=attributes, write_once=("userName",))))
    hired(story, day("2026-01-01"), family_name="Lee")
    married = WorkerAttributes(family_name="Park")
    story.tell(WorkerMoved(worker_id="w1", attributes=married), day("2026-02-01"))
    assert story.access()["directory"][0] == {"userName": "lee", "name": {"familyName": "Park"}}
    assert story.kinds() == ["create", "patch"]


def test_a_write_once_attribute_within_another_leaves_the_rest_free() -> None:
    attributes = {"userName": "person.id", "name.givenName": "person.given_name", "name.familyName": "person.title"}
    story = Story(policy(app(attributes=attributes, write_once=("name.givenName",))))
    hired(story, day("2026-01-01"), given_name="Ann", title="A")
    told = WorkerAttributes(given_name="Bea", title="B")
    story.tell(WorkerMoved(worker_id="w1", attributes=told), day("2026-02-01"))
    assert story.access()["directory"][0]["name"] == {"givenName": "Ann", "familyName": "B"}  # type: ignore[index]


def test_an_account_made_anew_is_written_anew() -> None:
    story = Story(policy(app(attributes={"userName": "person.title"}, write_once=("userName",), delete_after=DAY)))
    hired(story, day("2026-01-01"), title="first")
    story.tell(left("2026-01-31"), day("2026-01-15"))
    story.wait_until(day("2026-02-10"))
    assert story.state() == "absent"
    again = WorkerRehired(worker_id="w1", start_date=date(2026, 3, 1), attributes=WorkerAttributes(title="second"))
    story.tell(again, day("2026-03-01"))
    assert story.access()["directory"][0] == {"userName": "second"}


@pytest.mark.parametrize(("remove", "groups"), [(True, ()), (False, ("staff",))])
def test_an_application_decides_whether_a_leaver_stays_in_the_groups(remove: bool, groups: tuple[str, ...]) -> None:
    story = Story(policy(app(groups='["staff"]', remove_groups=remove)))
    hired(story, day("2026-01-01"))
    story.tell(left("2026-01-31"), day("2026-01-15"))
    story.wait_until(day("2026-02-10"))
    account = story.accounts["directory"]
    assert (account.state, account.groups) == ("inactive", groups)


def moving(**settings: object) -> list[ApplicationPolicy]:
    attributes = {"userName": "person.family_name + '@new'", "name.familyName": "person.family_name"}
    identity = {"identity_from": "old", "identity": ("userName",)}
    return [
        app("old", attributes={"userName": "person.family_name"}, **settings),
        app("new", attributes=attributes, **identity),
    ]


def test_a_new_application_takes_over_the_identity_of_the_one_it_replaces() -> None:
    story = Story(policy(moving()[0]))
    hired(story, day("2026-01-01"), family_name="Lee")
    married = WorkerAttributes(family_name="Park")
    story.rules = policy(*moving(write_once=("userName",)))
    story.tell(WorkerMoved(worker_id="w1", attributes=married), day("2026-02-01"))
    assert story.access()["new"][0] == {"userName": "Lee", "name": {"familyName": "Park"}}
    story.rules = policy(*moving(scope="false"))
    story.tell(WorkerMoved(worker_id="w1", attributes=WorkerAttributes(title="Dr")), day("2026-03-01"))
    assert story.access() == {"new": ({"userName": "Lee", "name": {"familyName": "Park"}}, ())}, "the old one may go"


def test_who_has_no_account_to_take_over_gets_the_new_identity() -> None:
    story = Story(policy(*moving(scope="false")))
    hired(story, day("2026-01-01"), family_name="Lee")
    assert story.access()["new"][0]["userName"] == "Lee@new"  # type: ignore[index]
