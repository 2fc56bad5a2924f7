"""Access as of an instant, out of entries written by hand."""

from typing import Any

import pytest

from orchestrator.evidence.access import Holding, Replay
from orchestrator.evidence.reports.access_at import access, access_row, status
from tests.unit.evidence.story import ANN, BOB, Keys, Story, at, seal


def replay(story: Story, minutes: float | None = None) -> Replay:
    made = Replay(None if minutes is None else at(minutes))
    for one in story.read():
        made.take(one)
    return made


def holding(story: Story, minutes: float | None = None, subject: str = ANN) -> Holding:
    return replay(story, minutes).holdings[subject, "crm"]


@pytest.fixture
def life() -> Story:
    """Ann joins, gets another group, leaves; the contract of a whole life."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", "staff", event_id="hr#1")
    story.applied(2, ANN, "crm", 1, "active")
    story.issued(10, ANN, "crm", 2, "active", "staff", "admins", event_id="hr#2", command="patch", transition="mover")
    story.applied(12, ANN, "crm", 2, "active", calls=[], groups_added=["admins"])
    story.issued(20, ANN, "crm", 3, "inactive", event_id="hr#3", effective_at=at(15))
    story.applied(22, ANN, "crm", 3, "inactive")
    return story


@pytest.mark.parametrize(
    ("minutes", "desired", "revision", "actual", "groups", "state"),
    [
        (0, "active", 1, None, None, "pending"),
        (2, "active", 1, "active", ("staff",), "applied"),
        (11, "active", 2, "active", ("staff",), "pending"),
        (12, "active", 2, "active", ("staff", "admins"), "applied"),
        (20, "inactive", 3, "active", ("staff", "admins"), "pending"),
        (22, "inactive", 3, "inactive", (), "applied"),
        (9999, "inactive", 3, "inactive", (), "applied"),
    ],
)
def test_both_sides_of_an_account_as_of_an_instant(
    life: Story,
    minutes: float,
    desired: str,
    revision: int,
    actual: str | None,
    groups: tuple[str, ...] | None,
    state: str,
) -> None:
    found = holding(life, minutes)
    assert found.desired is not None
    assert (found.desired.state, found.desired.revision) == (desired, revision)
    assert (found.actual, found.groups, status(found)) == (actual, groups, state)


def test_why_somebody_has_access_and_since_when(life: Story) -> None:
    found = holding(life, 12)
    assert found.desired is not None
    assert (found.desired.event_id, found.desired.policy, found.desired.transition) == ("hr#2", "p1", "mover")
    assert (found.desired.since, found.desired.recorded_at) == (at(0), at(10)), "a patch changes no state"
    assert found.applied_at == at(12)


def test_what_was_stated_later_and_holds_already_is_told_apart(life: Story) -> None:
    """At minute 17 the database knew of no end; today we know that it was at minute 15."""
    found = holding(life, 17)
    assert found.desired is not None
    assert found.effective is not None
    assert (found.desired.state, found.effective.state) == ("active", "inactive")
    row = access_row(found, Keys())
    assert row[-1] == "inactive since 2026-03-02 08:15:00Z, recorded 2026-03-02 08:20:00Z"
    assert access_row(holding(life, 14), Keys())[-1] == "", "not before it holds"
    assert access_row(holding(life, 21), Keys())[-1] == "", "not once it is known"


def test_access_is_unsure_while_a_call_is_under_way(life: Story) -> None:
    assert access(holding(life, 1.9)) == "unsure"
    assert access(holding(life, 2)) == "yes"
    assert access(holding(life, 21.9)) == "unsure"
    assert access(holding(life, 22)) == "no"


def test_a_failed_call_leaves_it_unsure_and_says_why() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", "staff")
    story.tell(1, "call_intended", ANN, "crm", revision=1)
    story.tell(2, "command_retried", ANN, "crm", revision=1, code="ambiguous", attempts=1, calls=[])
    assert (access(holding(story)), status(holding(story))) == ("unsure", "retrying: ambiguous")
    assert holding(story).actual is None
    calls = [["POST", "/Users", 201], ["PATCH", "/Groups/{id}", 400]]
    story.tell(3, "command_parked", ANN, "crm", revision=1, code="rejected", attempts=2, calls=calls)
    found = holding(story)
    assert (found.actual, found.attempts, status(found)) == ("active", 2, "parked: rejected"), "the account was made"
    story.tell(4, "operator_acted", ANN, "crm", revision=1, actor="operator:eve", action="retry_parked")
    assert holding(story).status == "pending"


def test_a_group_call_alone_makes_no_account() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", "staff")
    story.tell(3, "command_parked", ANN, "crm", revision=1, code="rejected", calls=[["PATCH", "/Groups/{id}", 204]])
    assert holding(story).actual is None


def test_entries_in_another_order_than_they_were_saved_change_nothing(life: Story) -> None:
    """A writer that died leaves its entries to the relay, which publishes them late."""
    before = holding(life)
    late = life.entries.pop(2)  # the first command
    life.entries.append(late)
    after = holding(life)
    assert after.desired == before.desired
    assert (after.actual, after.applied_revision, after.groups) == ("inactive", 3, ())
    applied = life.entries.pop(3)  # its outcome, after the leaver's
    life.entries.append(applied)
    assert (holding(life).actual, holding(life).applied_revision) == ("inactive", 3)


def test_a_command_that_comes_after_its_own_outcome_still_says_which_groups() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", "staff")
    story.applied(2, ANN, "crm", 1, "active")
    story.entries.append(story.entries.pop(2))
    assert (holding(story).actual, holding(story).groups) == ("active", ("staff",))


@pytest.mark.parametrize("order", [(1, 2, 3), (1, 3, 2), (3, 2, 1), (2, 3, 1), (3, 1, 2), (2, 1, 3)])
def test_since_is_the_states_in_whatever_order_its_commands_come(order: tuple[int, ...]) -> None:
    """A patch may be read before the command that began the state which it goes on with."""
    story = Story()
    told = {
        1: {"state": "inactive", "effective_at": at(1)},
        2: {"state": "active", "effective_at": at(2), "command": "reactivate"},
        3: {"state": "active", "effective_at": at(3), "command": "patch"},
    }
    for revision in order:
        more = dict(told[revision])
        story.issued(revision, ANN, "crm", revision, str(more.pop("state")), **more)
    found = holding(story)
    assert found.desired is not None
    assert (found.desired.revision, found.desired.state, found.desired.since) == (3, "active", at(2))


def test_an_outcome_ends_the_count_of_attempts() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.tell(1, "command_retried", ANN, "crm", revision=1, code="unavailable", attempts=3)
    assert holding(story).attempts == 3
    story.applied(2, ANN, "crm", 1, "active")
    assert (holding(story).attempts, holding(story).code) == (0, "")


def test_an_older_outcome_of_the_same_revision_that_comes_late_is_old_news() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(5, ANN, "crm", 1, "active")
    story.tell(3, "command_retried", ANN, "crm", revision=1, code="unavailable", attempts=1)
    assert (holding(story).status, holding(story).unsure) == ("applied", False)


@pytest.mark.parametrize("fences", [True, False])
@pytest.mark.parametrize("act", ["retry", "look", "unlink"])
def test_an_operators_act_that_is_published_after_what_came_of_it_is_old_news(act: str, fences: bool) -> None:
    """Nobody but the relay publishes what operators' commands write, seconds later."""
    story = Story()

    def fence(number: int) -> dict[str, int]:
        return {"fence": number} if fences else {}

    story.issued(0, ANN, "crm", 1, "active")
    story.tell(1, "command_parked", ANN, "crm", revision=1, code="rejected", attempts=1, **fence(2))
    late: dict[str, Any] = {
        "retry": ("operator_acted", {"action": "retry_parked"}),
        "look": ("reconciled", {"finding": "drifted", "action": "marked"}),
        "unlink": ("account_unlinked", {"state": "active"}),
    }
    kind, details = late[act]
    story.tell(2, kind, ANN, "crm", revision=1, actor="operator:eve", **details, **fence(3))
    assert holding(story).status == {"retry": "pending", "look": "pending", "unlink": "parked"}[act]
    assert holding(story).unsure
    story.tell(4, "command_applied", ANN, "crm", revision=1, state="active", **fence(5))
    story.entries.append(story.entries.pop(-2))
    assert (holding(story).status, holding(story).unsure, holding(story).code) == ("applied", False, "")


def test_of_two_entries_the_rows_version_says_which_is_newer_and_no_clock() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.tell(1, "command_parked", ANN, "crm", revision=1, code="rejected", attempts=1, fence=2)
    story.tell(9, "operator_acted", ANN, "crm", revision=1, actor="operator:eve", action="retry_parked", fence=3)
    story.tell(2, "command_applied", ANN, "crm", revision=1, state="active", fence=5)  # the operator's clock is ahead
    assert holding(story).status == "applied"


def test_what_is_held_lies_beside_the_account_until_it_is_issued() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", "staff")
    story.applied(1, ANN, "crm", 1, "active")
    held = {"command": "deactivate", "removes": "deactivate"}
    story.tell(2, "command_held", ANN, "crm", revision=2, effective_at=at(2), **held)
    found = holding(story)
    assert found.desired is not None
    assert (found.desired.state, found.status, status(found), access(found)) == ("active", "applied", "held", "yes")
    story.tell(3, "command_rejected", ANN, "crm", revision=2, actor="operator:eve", **held)
    story.tell(4, "command_held", ANN, "crm", revision=2, rejected_at=at(3), effective_at=at(2), **held)
    assert status(holding(story)) == "rejected"
    story.tell(5, "command_released", ANN, "crm", revision=2, actor="operator:eve", **held)
    story.issued(5, ANN, "crm", 2, "inactive")
    found = holding(story)
    assert found.desired is not None
    assert (found.desired.state, status(found), access(found)) == ("inactive", "pending", "yes")
    assert status(holding(story, 4.5)) == "rejected", "as of then"


def test_what_was_held_before_the_newest_command_holds_nothing_any_more() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active")
    held = {"command": "deactivate", "removes": "deactivate"}
    story.tell(2, "command_held", ANN, "crm", revision=2, **held)
    story.issued(3, ANN, "crm", 3, "active", command="patch")
    assert status(holding(story)) == "pending", "HR took it back"
    story.tell(2, "command_held", ANN, "crm", revision=2, **held)
    assert status(holding(story)) == "pending", "and what comes late changes nothing"
    story.tell(4, "command_held", ANN, "crm", revision=4, **held)
    story.issued(3, ANN, "crm", 3, "active", command="patch")
    assert status(holding(story)) == "held"


def test_a_link_is_looked_at_next_and_an_unlinked_account_waits_for_somebody() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.tell(1, "command_parked", ANN, "crm", revision=1, code="ambiguous_correlation", attempts=1, fence=2)
    story.tell(2, "account_linked", ANN, "crm", revision=1, actor="operator:eve", state="active", fence=3)
    assert (status(holding(story)), holding(story).attempts, access(holding(story))) == ("pending", 0, "unsure")
    story.tell(3, "command_applied", ANN, "crm", revision=1, state="active", fence=4)
    assert (status(holding(story)), access(holding(story))) == ("applied", "yes")
    story.tell(4, "account_unlinked", ANN, "crm", revision=1, actor="operator:eve", state="active", fence=5)
    assert (status(holding(story)), access(holding(story))) == ("parked: unlinked", "unsure")


def test_a_deactivation_that_is_not_confirmed_gives_no_access() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "inactive")
    story.applied(1, ANN, "crm", 1, "inactive")
    calls = [["PATCH", "/Users/{account}", 200], ["GET", "/Users/{account}", 503]]
    story.issued(2, ANN, "crm", 2, "inactive")
    story.tell(3, "command_parked", ANN, "crm", revision=2, code="unavailable", attempts=1, calls=calls)
    assert (holding(story).actual, access(holding(story))) == ("inactive", "unsure")


def test_of_somebody_who_left_before_there_was_an_account_there_is_none() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.issued(1, ANN, "crm", 2, "inactive")
    story.applied(2, ANN, "crm", 2, "inactive", calls=[["GET", "/Users", 200]])
    assert (holding(story).actual, access(holding(story))) == ("absent", "no")
    story.applied(3, ANN, "crm", 2, "inactive", calls=[["GET", "/Users", 200]], sealed=seal(account="r-1"))
    assert holding(story).actual == "inactive", "one was found there, closed already"


def test_people_and_applications_are_kept_apart() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.issued(1, BOB, "crm", 1, "inactive")
    story.issued(2, ANN, "wiki", 1, "absent")
    states = {key: one.desired.state for key, one in replay(story).holdings.items() if one.desired}
    assert states == {(ANN, "crm"): "active", (BOB, "crm"): "inactive", (ANN, "wiki"): "absent"}
    assert [(one.app, one.subject) for one in replay(story).present()] == [
        ("crm", ANN),
        ("crm", BOB),
        ("wiki", ANN),
    ]
    assert replay(story, -1).present() == [], "nothing was known yet"


def test_memory_grows_with_accounts_and_not_with_entries() -> None:
    story = Story()
    for revision in range(1, 200):
        story.issued(revision, ANN, "crm", revision, "active", "staff")
        story.applied(revision + 0.5, ANN, "crm", revision, "active")
    made = replay(story)
    assert len(made.holdings) == 1
    assert len(holding(story).waiting) <= 1
