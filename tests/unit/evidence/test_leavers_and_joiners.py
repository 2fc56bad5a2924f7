"""How long it took until a leaver was out and a joiner in, out of entries written by hand."""

from datetime import timedelta

import pytest

from orchestrator.evidence.tables import document
from tests.unit.evidence.asking import finished, leaver, only, rows, t
from tests.unit.evidence.story import ANN, BOB, EVE, Story, at


@pytest.mark.parametrize(
    ("effective", "heard", "done", "seconds"),
    [
        (10, 10, 12, 120.0),
        (10, 5, 12, 120.0),  # known beforehand: nobody may act before the instant has come
        (3, 10, 12, 120.0),  # told late: nobody could act before hearing of it
    ],
)
def test_a_leavers_seconds_begin_when_somebody_could_act(
    effective: float, heard: float, done: float, seconds: float
) -> None:
    (row,) = rows(leaver(effective, heard, done), "leavers")
    assert only(row, "person", "app", "effective", "received", "sent", "verified", "seconds") == (
        *("4711", "crm", t(effective), t(heard), t(done - 0.05), t(done)),
        seconds,
    )
    assert only(row, "outcome", "event_id", "revision") == ("done", "hr#9", 2)


@pytest.mark.parametrize(
    ("limit", "done", "within"),
    [(2, 12, "yes"), (1.9, 12, "no"), (60, None, "open"), (4, None, "no")],
)
def test_the_limit_counts_for_open_leavers_too(limit: float, done: float | None, within: str) -> None:
    story = leaver(10, 10, done)
    story.tell(15, "application_paused", app="crm")
    (row,) = rows(story, "leavers", limit=timedelta(minutes=limit))
    assert row["within_limit"] == within
    if done is None:
        assert only(row, "outcome", "verified", "seconds") == ("open", None, 300.0), "until the cutoff"


def test_a_leaver_who_waits_for_a_person_names_the_owner() -> None:
    story = leaver(10, 10, None)
    story.tell(11, "call_intended", ANN, "crm", revision=2)
    story.tell(12, "command_retried", ANN, "crm", revision=2, code="unavailable", attempts=1)
    story.tell(13, "command_parked", ANN, "crm", revision=2, code="not_effective", attempts=2)
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "code", "attempts", "sent") == ("parked", "not_effective", 2, t(11))
    story.tell(14, "operator_acted", ANN, "crm", actor="operator:eve", action="retry_parked", reason="fixed")
    story.applied(16, ANN, "crm", 2, "inactive", sent_at=at(15.95))
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "exception_owner", "exception_reason") == ("done", "eve", "fixed")
    assert only(row, "seconds", "sent") == (360.0, t(11)), "when it was sent first, not when it worked"


def held(story: Story, minutes: float, revision: int = 2) -> None:
    """HR says that somebody left, and the breaker holds it."""
    story.tell(minutes, "event_received", ANN, event_id="hr#9", type="jml.worker.left.v1", stated_at=at(minutes))
    details = {"command": "deactivate", "removes": "deactivate", "effective_at": at(minutes)}
    story.tell(minutes, "command_held", ANN, "crm", revision=revision, event_id="hr#9", **details)


@pytest.mark.parametrize("late", [False, True])
def test_a_leaver_whom_the_breaker_holds_is_one_from_the_start(late: bool) -> None:
    """What operators did may be published after what came of it."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active")
    held(story, 10)
    (row,) = rows(story, "leavers", limit=timedelta(minutes=0))
    assert only(row, "outcome", "due", "verified") == ("held", t(10), None)
    begin = len(story.entries)
    eve = {"actor": "operator:eve", "event_id": "hr#9"}
    story.tell(15, "command_released", ANN, "crm", revision=2, reason="real", **eve)
    story.tell(15, "command_issued", ANN, "crm", revision=2, command="deactivate", state="inactive", **eve)
    acts = story.entries[begin:]
    if late:
        del story.entries[begin:]
    story.applied(17, ANN, "crm", 2, "inactive")
    story.entries += acts if late else []
    (row,) = rows(story, "leavers", limit=timedelta(minutes=5))
    assert only(row, "outcome", "due", "seconds", "within_limit") == ("done", t(10), 420.0, "no")
    assert only(row, "exception_owner", "exception_reason") == ("eve", "real")
    (row,) = rows(story, "parked-and-held")
    assert only(row, "stopped", "leaver", "ended_by", "seconds", "operator") == (
        "held",
        "yes",
        "released",
        300.0,
        "eve",
    )


def test_a_held_leaver_who_is_none_after_all_or_was_rejected() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    held(story, 10)
    rejected = {"command": "deactivate", "actor": "operator:eve", "reason": "bad import"}
    story.tell(11, "command_rejected", ANN, "crm", revision=2, **rejected)
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "exception_owner", "exception_reason") == ("rejected", "eve", "bad import")
    story.issued(12, ANN, "crm", 3, "active", command="patch")
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "within_limit") == ("superseded", "superseded")
    assert len(rows(story, "joiners")) == 1, "nobody came back who never went"


def test_what_is_held_and_takes_nobody_s_access_is_no_leaver() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.tell(5, "command_held", ANN, "crm", revision=2, command="patch", removes="groups", effective_at=at(5))
    story.issued(6, BOB, "crm", 1, "inactive")
    story.tell(7, "command_held", BOB, "crm", revision=2, command="delete", removes="delete", effective_at=at(7))
    story.issued(8, EVE, "crm", 1, "active")
    story.issued(9, EVE, "crm", 3, "active", command="patch")
    story.tell(8.5, "command_held", EVE, "crm", revision=2, command="deactivate", effective_at=at(8.5))  # came late
    story.tell(8.5, "command_held", EVE, "crm", revision=3, command="deactivate", effective_at=at(8.5))
    assert rows(story, "leavers") == []


def test_a_leaver_who_was_held_and_whom_hr_states_again_goes_on_with_the_old_clock() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    held(story, 10)
    story.issued(20, ANN, "crm", 3, "inactive")
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "revision", "due", "seconds") == ("open", 3, t(10), 600.0)
    story.issued(21, ANN, "crm", 4, "absent")
    assert [one["revision"] for one in rows(story, "leavers")] == [3], "of the first that was issued"
    story.applied(30, ANN, "crm", 2, "inactive")
    assert [one["outcome"] for one in rows(story, "leavers")] == ["open"], "an older revision's success is none"
    story.applied(31, ANN, "crm", 3, "inactive")
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "verified") == ("done", t(31))
    story.issued(40, ANN, "crm", 5, "active")
    story.issued(50, ANN, "crm", 6, "inactive")
    assert [one["outcome"] for one in rows(story, "leavers")] == ["done", "open"], "and again, later"
    story.issued(49, ANN, "crm", 6, "active")
    assert [one["outcome"] for one in rows(story, "leavers")] == ["done", "open"], "a revision is issued once"
    story.tell(51, "call_intended", ANN, "crm", revision=5)
    assert [one["sent"] for one in rows(story, "leavers")] == [t(30.9), None], "not by a call for an older one"


def test_a_leaver_who_was_parked_is_tried_again() -> None:
    story = leaver(10, 10, None)
    story.tell(11, "command_parked", ANN, "crm", revision=1, code="rejected", attempts=7)
    assert [only(one, "outcome", "code", "attempts") for one in rows(story, "leavers")] == [("open", "", 0)]
    story.tell(12, "command_parked", ANN, "crm", revision=2, code="rejected", attempts=2)
    story.tell(13, "operator_acted", ANN, "crm", actor="operator:eve", action="retry_parked")
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "attempts", "exception_owner", "exception_reason") == (
        "parked",
        2,
        "eve",
        "retry_parked",
    )
    story.tell(14, "command_retried", ANN, "crm", revision=2, code="unavailable", attempts=3)
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "code", "attempts") == ("open", "unavailable", 3)
    story.applied(16, ANN, "crm", 2, "inactive")
    story.tell(17, "command_parked", ANN, "crm", revision=2, code="too late", attempts=9, actor="connector")
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "code", "verified", "exception_owner") == ("done", "", t(16), "eve")


def test_only_groups_were_taken_away() -> None:
    for change in ({"groups_removed": ["staff"]}, {"groups_added": ["staff"]}):
        story = leaver(10, 10, None)
        story.tell(11, "command_applied", ANN, "crm", revision=2, state="inactive", calls=[], **change)
        assert [one["outcome"] for one in rows(story, "leavers")] == ["done"]


def test_who_comes_back_before_it_was_carried_out_is_no_late_leaver() -> None:
    story = leaver(10, 10, None)
    story.issued(11, ANN, "crm", 3, "active")
    story.applied(999, ANN, "crm", 3, "active")
    (row,) = rows(story, "leavers", limit=timedelta(minutes=2))
    assert only(row, "outcome", "within_limit") == ("superseded", "superseded")
    assert [one["outcome"] for one in rows(story, "joiners")] == ["done", "done"]


def test_a_newer_revision_of_a_leaver_goes_on_with_the_old_clock() -> None:
    story = leaver(10, 10, None)
    story.issued(12, ANN, "crm", 3, "absent")
    story.applied(13, ANN, "crm", 3, "absent")
    (row,) = rows(story, "leavers")
    assert only(row, "seconds", "outcome", "revision") == (180.0, "done", 2)


def test_a_leaver_whose_command_is_read_after_its_outcome_is_no_open_one() -> None:
    """A resolver that died after its commands went out and before its entries did leaves those to the relay."""
    story = leaver(10, 10, 12)
    late = [story.entries.pop(5) for _ in range(3)]
    story.entries += late
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "seconds", "verified", "sent") == ("done", 120.0, t(12), t(11.95))


def test_the_deletion_after_retention_is_no_leaver_and_a_move_is_none() -> None:
    story = leaver(10, 10, 11)
    story.issued(500, ANN, "crm", 3, "absent")
    story.applied(501, ANN, "crm", 3, "absent")
    story.issued(600, BOB, "crm", 1, "active")
    story.issued(601, BOB, "crm", 2, "active", command="patch")
    assert [one["person"] for one in rows(story, "leavers")] == ["4711"]


def test_an_account_that_was_never_there_has_nothing_to_close() -> None:
    story = leaver(10, 10, None)
    story.tell(11, "command_applied", ANN, "crm", revision=2, state="inactive", calls=[])
    (row,) = rows(story, "leavers")
    assert only(row, "outcome", "verified", "within_limit") == ("nothing to do", t(11), "yes")


def test_a_joiners_time_to_access() -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active", effective_at=at(-60))
    story.tell(3, "command_retried", ANN, "crm", revision=1, code="unavailable", attempts=1)
    story.applied(5, ANN, "crm", 1, "active")
    story.issued(6, BOB, "crm", 1, "active")
    ann, bob = rows(story, "joiners")
    assert only(ann, "person", "seconds", "attempts", "within_limit", "outcome") == ("4711", 300.0, 1, "yes", "done")
    assert only(bob, "person", "outcome", "within_limit") == ("4712", "open", "open")


def test_a_period_chooses_rows_and_the_cutoff_chooses_entries() -> None:
    story = leaver(10, 10, 12)
    assert len(rows(story, "leavers", since=at(10), until=at(11))) == 1
    assert rows(story, "leavers", since=at(10.1)) == []
    assert rows(story, "leavers", until=at(10)) == []
    (row,) = rows(story, "leavers", cutoff=at(11))
    assert only(row, "outcome", "seconds") == ("open", 60.0), "what came after the cutoff nobody knew"
    assert only(document(finished(story, "leavers", cutoff=at(11))), "cutoff", "last_entry") == (t(11), t(10))
