"""The other reports, out of entries written by hand, and the forms in which all of them leave."""

import csv
import io
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.evidence.page import page
from orchestrator.evidence.reports import ACCESS_OF, REPORTS
from orchestrator.evidence.reports.base import Column, Question, Report, make
from orchestrator.evidence.reports.findings import DRIFT, ORPHANS
from orchestrator.evidence.tables import document, safe_cell, write_report
from tests.unit.evidence.asking import finished, leaver, only, rows, t
from tests.unit.evidence.story import ANN, BOB, EVE, Keys, Story, at, seal


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


def test_what_came_late_of_an_older_revision_ends_no_hold() -> None:
    """The joiner was let in after the breaker held the leaver."""
    story = Story()
    story.issued(0, ANN, "crm", 1, "active")
    story.tell(2, "command_held", ANN, "crm", revision=2, code="mass_deactivation", actor="resolver", leaver=True)
    story.applied(3, ANN, "crm", 1, "active")
    story.tell(9, "command_rejected", ANN, "crm", revision=2, actor="operator:eve", reason="no")
    (row,) = rows(story, "parked-and-held")
    assert only(row, "ended_by", "seconds", "operator", "reason") == ("rejected", 420.0, "eve", "no")


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
        ({"since": at(-60), "until": at(0)}, ("ends at 2026-03-02T08:00", "before the audit log", "cannot tell")),
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
