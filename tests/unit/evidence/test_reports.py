"""The reports, out of entries written by hand, and the forms in which they leave."""

import csv
import io
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.evidence.page import page
from orchestrator.evidence.reports import ACCESS_OF, REPORTS
from orchestrator.evidence.reports.base import Column, Finished, Question, Report, make
from orchestrator.evidence.reports.findings import DRIFT, ORPHANS
from orchestrator.evidence.tables import document, safe_cell, write_report
from schemas.envelope import timestamp
from tests.unit.evidence.story import ANN, BOB, EVE, Keys, Story, at, seal

ROOT_HASH = bytes(range(32))


def finished(story: Story, name: str, **question: Any) -> Finished:
    question.setdefault("keys", Keys())
    return make(REPORTS[name], Question(**question), story.read(), len(story.entries), ROOT_HASH)


def rows(story: Story, name: str, **question: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(finished(story, name, **question))["data"]
    return found


def only(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def t(minutes: float) -> str:
    return timestamp(at(minutes))


# --- leavers and joiners ----------------------------------------------------------------------------------------------


def leaver(effective: float, heard: float, done: float | None) -> Story:
    """Ann has access and leaves."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.applied(1, ANN, "crm", 1, "active")
    story.issued(heard, ANN, "crm", 2, "inactive", event_id="hr#9", effective_at=at(effective))
    if done is not None:
        story.applied(done, ANN, "crm", 2, "inactive", sent_at=at(done - 0.05))
    return story


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


# --- the others -------------------------------------------------------------------------------------------------------


def test_access_at_a_date_lists_who_is_in_or_should_be_or_may_be() -> None:
    story = leaver(10, 10, 12)
    story.issued(13, BOB, "crm", 1, "active", "staff")
    assert [only(one, "person", "access") for one in rows(story, "access", cutoff=at(9))] == [("4711", "yes")]
    assert [only(one, "person", "access") for one in rows(story, "access", cutoff=at(11.95))] == [("4711", "unsure")]
    assert [only(one, "person", "access", "groups") for one in rows(story, "access")] == [("4712", "no", "staff")]
    question = Question(subject=ANN, keys=Keys())
    assert [row[2] for row in make(ACCESS_OF, question, story.read()).rows] == ["no"], "closed accounts too"


def test_every_extension_of_a_contract_with_its_reason() -> None:
    story = Story()
    changed = "jml.worker.contract_changed.v1"

    def event(minute: float, number: int, type_: str = changed, reason: str = "") -> None:
        sealed = seal(stated={"reason": reason})
        cause = f"hr#{number}"
        story.tell(minute, "event_received", ANN, event_id=cause, sealed=sealed, type=type_, stated_at=at(minute))

    def timer(minute: float, kind: str, number: int, due: float, name: str = "contract_end") -> None:
        story.tell(minute, f"timer_{kind}", ANN, event_id=f"hr#{number}", timer=name, due=at(due))

    event(0, 1, "jml.worker.joined.v1")
    timer(0, "set", 1, 1000)
    timer(0, "set", 1, 5, name="engagement_start")
    event(10, 2, reason="project goes on")
    timer(10, "set", 2, 2000)
    timer(10, "cancelled", 2, 1000)
    event(20, 3, reason="budget")
    timer(20, "set", 3, 1500)
    timer(20, "cancelled", 3, 2000)
    event(25, 4, "jml.worker.moved.v1")
    event(30, 5)
    timer(30, "cancelled", 5, 1500)
    event(40, 6, reason="again")
    timer(40, "set", 6, 50)
    timer(50, "fired", 6, 50)
    shown = [
        only(one, "change", "end_before", "end_after", "reason") for one in rows(story, "contractors", values=True)
    ]
    assert shown == [
        ("fixed term", None, t(1000), ""),
        ("extended", t(1000), t(2000), "project goes on"),
        ("shortened", t(2000), t(1500), "budget"),
        ("made permanent", t(1500), None, ""),
        ("fixed term", None, t(50), "again"),
        ("ended", t(50), None, ""),
    ]
    assert {one["reason"] for one in rows(story, "contractors")} == {"sealed", ""}
    assert "budget" not in "".join(page(finished(story, "contractors")))


def test_orphans_and_drift_come_from_reconciliation() -> None:
    story = Story()
    story.tell(0, "reconciled", app="crm", finding="orphan", count=2, accounts=["r-8", {"account": "r-9"}])
    drifted = {"account": "r-1", "subject": ANN, "changed": ["title", "active"]}
    story.tell(1, "reconciled", app="crm", finding="drifted", count=1, accounts=[drifted], action="corrected")
    story.tell(2, "reconciled", app="wiki", finding="missing", count=3)
    story.tell(3, "reconciled", BOB, "wiki", finding="duplicate")
    found = [only(one, "app", "finding", "account", "count") for one in rows(story, "orphans")]
    assert found == [("crm", "orphan", "r-8", 2), ("crm", "orphan", "r-9", 2)]
    found = [only(one, "finding", "person", "attributes", "count", "action") for one in rows(story, "drift")]
    assert found == [
        ("drifted", "4711", "title, active", 1, "corrected"),
        ("missing", "", "", 3, ""),
        ("duplicate", "4712", "", 1, ""),
    ]
    assert [one["finding"] for one in rows(story, "drift", app="wiki")] == ["missing", "duplicate"]


def test_a_report_of_findings_names_every_finding_that_it_lists() -> None:
    for name, kinds in (("orphans", ORPHANS), ("drift", DRIFT)):
        assert all(kind in REPORTS[name].query for kind in kinds)


def test_overrides_are_what_operators_decided_and_not_what_came_of_it() -> None:
    story = leaver(10, 10, None)
    ann = {"actor": "operator:ann"}
    story.tell(11, "command_released", ANN, "crm", revision=2, reason="real", **ann)
    story.tell(12, "operator_acted", ANN, "crm", revision=2, action="retry_parked", error_code="rejected", **ann)
    story.tell(13, "account_unlinked", ANN, "crm", reason="wrong person", **ann)
    story.tell(14, "subject_erased", EVE, reason="asked", **ann)
    story.tell(15, "event_received", BOB, type="jml.worker.left.v1", stated_at=at(15), **ann)
    story.tell(16, "command_applied", BOB, "crm", revision=1, state="inactive", **ann)
    story.tell(17, "application_paused", app="crm", actor="connector")
    witness = {"url": "https://w", "key": "w+2"}
    story.tell(18, "audit_configured", actor="auditor", key="log+1", dir="/audit", witnesses=[witness])
    story.tell(19, "audit_configured", actor="auditor", key="log+1", dir="/audit", witnesses=[])
    found = [only(one, "operator", "act", "person", "reason", "code") for one in rows(story, "overrides")]
    assert found == [
        ("ann", "release", "4711", "real", ""),
        ("ann", "retry_parked", "4711", "", "rejected"),
        ("ann", "unlink", "4711", "wrong person", ""),
        ("ann", "erase", "4713", "asked", ""),
        ("ann", "state an event", "4712", "", ""),
        ("auditor", "configure audit", "", "key log+1 in /audit, witnesses: w+2", ""),
        ("auditor", "configure audit", "", "key log+1 in /audit, witnesses: none", ""),
    ]


def test_what_was_parked_or_held_until_when_and_why_not_any_more() -> None:
    story = leaver(10, 10, None)
    story.tell(11, "command_held", ANN, "crm", revision=2, code="mass_deactivation", actor="resolver")
    story.tell(13, "command_released", ANN, "crm", revision=2, actor="operator:eve", reason="real")
    story.tell(14, "command_parked", ANN, "crm", revision=2, code="rejected")
    story.tell(16, "operator_acted", ANN, "crm", revision=2, actor="operator:eve", action="retry_parked")
    story.issued(17, BOB, "wiki", 1, "active")
    story.tell(18, "command_parked", BOB, "wiki", revision=1, code="uniqueness")
    story.tell(20, "event_duplicated", BOB)
    names = ("stopped", "leaver", "code", "ended_by", "seconds", "operator")
    assert [only(one, *names) for one in rows(story, "parked-and-held")] == [
        ("held", "yes", "mass_deactivation", "released", 120.0, "eve"),
        ("parked", "yes", "rejected", "retried by an operator", 120.0, "eve"),
        ("parked", "no", "uniqueness", "open", 120.0, ""),
    ]


@pytest.mark.parametrize(
    ("kind", "details", "ended_by"),
    [
        ("command_applied", {"state": "active"}, "applied"),
        ("account_verified", {"state": "active"}, "applied"),
        ("command_retried", {"code": "unavailable"}, "tried again"),
        ("command_released", {"actor": "operator:eve"}, "released"),
        ("command_rejected", {"actor": "operator:eve"}, "rejected"),
        ("command_issued", {"command": "patch", "state": "active"}, "newer revision"),
        ("command_parked", {"code": "rejected"}, "stopped again"),
        ("operator_acted", {"actor": "operator:eve", "action": "retry_parked"}, "retried by an operator"),
        ("operator_acted", {"actor": "operator:eve", "action": "resend"}, "open"),
        ("call_intended", {"action": "retry_parked"}, "open"),
    ],
)
def test_how_what_was_parked_ended(kind: str, details: dict[str, Any], ended_by: str) -> None:
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.tell(5, "command_parked", ANN, "crm", revision=1, code="rejected", leaver=True)
    story.tell(4, "command_retried", ANN, "crm", revision=1, code="unavailable", actor="operator:eve")  # it came late
    story.tell(6, kind, ANN, "crm", revision=1, **details)
    row = rows(story, "parked-and-held")[0]
    assert only(row, "ended_by", "leaver", "ended_at") == (ended_by, "yes", t(6) if ended_by != "open" else None)


# --- what a report says of itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_says_what_it_asked_of_what(report: Report) -> None:
    story = leaver(10, 10, 12)
    question = {"cutoff": at(60), "app": "crm"}
    said = document(finished(story, report.name, **question))
    assert only(said, "report", "query", "cutoff", "checkpoint_size") == (report.name, report.query, t(60), 10)
    assert said["checkpoint_root"] == "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert said["rows"] == len(said["data"])
    assert said["controls"]
    standards = {one.standard for one in report.controls}
    assert standards <= {"ISO/IEC 27001:2022", "SOC 2", "HIPAA", "GDPR"}
    names = [one.name for one in report.columns]
    assert len(names) == len(set(names))


def test_the_summary_counts_what_decides() -> None:
    story = leaver(10, 10, 12)
    story.issued(20, ANN, "crm", 3, "active")
    story.issued(30, ANN, "crm", 4, "inactive")
    said = document(finished(story, "leavers", limit=timedelta(minutes=2)))
    assert said["summary"] == "within the limit: open 1, yes 1"
    assert "summary" not in document(finished(story, "orphans"))
    assert all(one.decides in {column.name for column in one.columns} for one in REPORTS.values())


def test_every_control_of_the_list_is_supported_by_some_report() -> None:
    clauses = {one.clause for report in REPORTS.values() for one in report.controls}
    assert clauses == {
        *(f"A.5.{number}" for number in (15, 16, 17, 18)),
        "A.8.2",
        *("CC6.1", "CC6.2", "CC6.3"),
        "164.308(a)(3)(ii)(C)",
        *("Art. 5", "Art. 17", "Art. 30"),
    }


def test_without_a_checkpoint_it_says_so() -> None:
    made = make(REPORTS["leavers"], Question(), leaver(10, 10, 12).read())
    assert (made.size, made.root) == (10, None)
    assert "no signed checkpoint" in "".join(page(made))
    assert "signed checkpoint" not in "".join(page(finished(leaver(10, 10, 12), "leavers")))


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"subject": "nobody"}, ("'nobody'", "worker id")),
        ({"app": "none"}, ("'none'", "there are: crm")),
        ({"cutoff": at(-1)}, ("before the audit log", "begins at 2026-03-02T08:00")),
    ],
)
def test_a_question_about_nothing_is_told_so(question: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refused:
        finished(leaver(10, 10, 12), "leavers", **question)
    assert all(word in str(refused.value) for word in words)


def test_a_report_is_the_same_bytes_again() -> None:
    story = leaver(10, 10, 12)
    assert list(page(finished(story, "leavers"))) == list(page(finished(story, "leavers")))


# --- hostile names ----------------------------------------------------------------------------------------------------

HOSTILE = ("</td><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "=HYPERLINK(1)", "+1", "-1", "@x", "\tx")


class Tags(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag begins."""
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._in_cell = tag == "td"
        if self._in_cell:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        """A tag ends."""
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        """Text."""
        if self._in_cell:
            self.cells[-1] += data


def hostile_story() -> Story:
    story = Story()
    for name in HOSTILE:
        more = {"actor": f"operator:{name}", "action": name, "reason": name, "event_id": name}
        story.tell(1, "operator_acted", name, name, **more)
    return story


def test_no_name_becomes_markup() -> None:
    made = "".join(page(finished(hostile_story(), "overrides")))
    tags = Tags()
    tags.feed(made)
    assert not {"script", "img", "a", "iframe", "form", "link"} & set(tags.tags)
    assert not any(name.startswith("on") or name in ("src", "href") for name in tags.attributes)
    assert set(tags.cells) >= set(HOSTILE), "and every name is there as it is"


def test_a_page_needs_nothing_from_anywhere() -> None:
    made = "".join(page(finished(hostile_story(), "overrides")))
    assert "http" not in made.replace("http-equiv", "")
    assert "default-src 'none'" in made


def test_no_name_becomes_a_formula() -> None:
    written = io.StringIO()
    write_report(written, finished(hostile_story(), "overrides"))
    lines = written.getvalue().splitlines(keepends=True)
    data = [line for line in lines if not line.startswith(("# ", '"# '))]
    cells = [cell for row in csv.reader(io.StringIO("".join(data))) for cell in row]
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))]
    assert {f"'{name}" for name in HOSTILE[2:]} <= set(cells)


@pytest.mark.parametrize("text", ["=1", " =1", "\n@x", "\ufeff=1", "\r=1", "\t=1", "-2+3"])
def test_blanks_do_not_hide_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_harmless_cells_stay_as_they_are() -> None:
    assert [safe_cell(one) for one in ("a=b", "", 5, -5, None)] == ["a=b", "", 5, -5, None]


def test_columns_are_named_for_programs() -> None:
    columns: list[Column] = [one for report in REPORTS.values() for one in report.columns]
    assert all(one.name.isidentifier() and one.name.islower() for one in columns)
