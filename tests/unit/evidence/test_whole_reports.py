"""Every report in full about one bad morning, as an auditor gets it: by application, person, period, and cutoff."""

import io
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.reports import REPORTS
from orchestrator.evidence.reports.base import Question, Report, make
from orchestrator.evidence.tables import write_report
from tests.unit.evidence.story import ANN, BOB, EVE, Keys, Story, at, seal

SAMPLES = Path(__file__).parents[2] / "samples/reports"


class Morning(Story):
    """Entries with everything that the roles write into them."""

    def decided(
        self, heard: float | None, issued: float, subject: str, app: str, revision: int, state: str, **more: Any
    ) -> None:
        """HR is heard, or a timer fires, and some time later the command goes out."""
        cause = more.pop("cause", f"hr#{subject[2:]}-{app}-{revision}")
        if heard is not None:
            type_ = f"jml.worker.{'joined' if state == 'active' else 'left'}.v1"
            self.tell(heard, "event_received", subject, event_id=cause, type=type_, stated_at=at(heard))
        policy = {"event_id": cause, "correlation_id": f"case-{cause}", "policy": "p1"}
        self.tell(issued, "person_resolved", subject, transition=more.pop("transition", "leaver"), **policy)
        command = {"active": "create", "inactive": "deactivate", "absent": "delete"}[state]
        told = {"command": more.pop("command", command), "state": state, "groups": more.pop("groups", [])}
        self.tell(issued, "command_issued", subject, app, revision=revision, **told, **more, **policy)

    def outcome(self, minutes: float, kind: str, subject: str, app: str, revision: int, **more: Any) -> None:
        """The connector intends and calls."""
        self.tell(minutes - 0.5, "call_intended", subject, app, revision=revision)
        more.setdefault("sent_at", at(minutes - 0.4))
        self.tell(minutes, kind, subject, app, revision=revision, **more)


JOINER: dict[str, Any] = {"transition": "joiner", "groups": ["staff"]}
POST: dict[str, Any] = {"state": "active", "calls": [["POST", "/Users", 201]]}
PATCH: dict[str, Any] = {"state": "inactive", "calls": [["PATCH", "/Users/{account}", 200]]}


def morning() -> Morning:
    told = Morning()
    told.tell(0.5, "application_resumed", app="wiki", actor="connector", by="probe")  # the topic has no order of time
    # Ann waits for an application, and leaves; HR had known for a while.
    told.decided(0, 0.25, ANN, "crm", 1, "active", effective_at=at(-10), **JOINER)
    told.outcome(2, "command_retried", ANN, "crm", 1, code="unavailable", attempts=1, state="active")
    told.outcome(4, "command_applied", ANN, "crm", 1, **POST, groups_added=["staff"])
    told.decided(20, 20.5, ANN, "crm", 2, "inactive", effective_at=at(15))
    told.outcome(22, "command_applied", ANN, "crm", 2, **PATCH, verified_at=at(21.75))
    told.decided(24, 24, ANN, "wiki", 1, "inactive")
    told.tell(25, "command_applied", ANN, "wiki", revision=1, state="inactive", calls=[["GET", "/Users", 200]])
    # Bob's name is taken until an operator looks; when he leaves, the application does not let go of him.
    told.decided(5, 5, BOB, "wiki", 1, "active", **JOINER)
    told.outcome(7, "command_parked", BOB, "wiki", 1, code="uniqueness", reason="taken", attempts=1, state="active")
    acted = {"actor": "operator:ann", "action": "retry_parked", "reason": "renamed"}
    told.tell(30, "operator_acted", BOB, "wiki", revision=1, error_code="uniqueness", **acted)
    told.outcome(31, "account_verified", BOB, "wiki", 1, **POST)
    told.tell(49, "event_received", BOB, event_id="idp#1", type="jml.worker.moved.v1", stated_at=at(49))
    told.decided(None, 50, BOB, "wiki", 2, "inactive", cause="jml/scheduler#1", effective_at=at(50))
    told.outcome(51, "command_retried", BOB, "wiki", 2, code="unavailable", attempts=1, state="inactive")
    told.outcome(52, "command_parked", BOB, "wiki", 2, code="not_effective", attempts=2, leaver=True, state="inactive")
    told.outcome(54, "command_parked", BOB, "wiki", 2, code="forbidden", attempts=3, leaver=True, state="inactive")
    # Somebody thinks better of a third one.
    told.decided(42, 42, BOB, "mail", 1, "active", **JOINER)
    told.decided(43, 43, BOB, "mail", 2, "inactive")
    told.tell(43.5, "call_intended", BOB, "mail", revision=2)
    told.tell(44, "command_applied", BOB, "mail", revision=2, state="inactive", calls=[["GET", "/Users", 200]])
    # And HR tells late that he was to lose a fourth one.
    told.decided(2, 2, BOB, "chat", 1, "active", **JOINER)
    told.outcome(3, "command_applied", BOB, "chat", 1, **POST)
    told.decided(59.5, 59.5, BOB, "chat", 2, "inactive", effective_at=at(44))
    # Eve is held by the breaker in both: one is real, one is not, and stays so when HR says it again.
    told.decided(1, 1, EVE, "crm", 1, "active", **JOINER)
    told.outcome(2, "command_applied", EVE, "crm", 1, **POST)
    told.decided(1, 1, EVE, "wiki", 1, "active", **JOINER)
    told.outcome(3, "command_applied", EVE, "wiki", 1, **POST)
    cause = {"event_id": "hr#9", "correlation_id": "case-hr#9", "policy": "p1"}
    told.tell(40, "event_received", EVE, event_id="hr#9", type="jml.worker.left.v1", stated_at=at(40))
    held: dict[str, Any] = {"command": "deactivate", "removes": "deactivate", "effective_at": at(39)}
    for app in ("crm", "wiki"):
        told.tell(40.5, "command_held", EVE, app, revision=2, **held, **cause)
    operator: dict[str, Any] = {"actor": "operator:ann", "command": "deactivate", "removes": "deactivate"}
    told.tell(45, "command_released", EVE, "crm", revision=2, reason="really left", **operator, **cause)
    issued = {"actor": "operator:ann", "command": "deactivate", "state": "inactive", "groups": []}
    told.tell(45, "command_issued", EVE, "crm", revision=2, effective_at=at(39), **issued, **cause)
    told.outcome(47, "command_applied", EVE, "crm", 2, **PATCH, verified_at=at(46.75))
    told.tell(46, "command_rejected", EVE, "wiki", revision=2, reason="a bad import", **operator, **cause)
    told.tell(55, "command_held", EVE, "wiki", revision=3, rejected_at=at(46), **held, **cause)
    # What operators do besides, and what reconciliation finds.
    told.tell(32, "application_paused", app="crm", actor="operator:ann", by="operator", reason="migration")
    told.tell(33, "application_resumed", app="crm", actor="operator:ann", by="operator")
    told.tell(33, "application_paused", app="wiki", actor="connector", by="probe")
    told.tell(34, "account_linked", BOB, "crm", actor="operator:ann", state="active", reason="same person")
    told.tell(35, "operator_acted", actor="operator:ann", action="apply_policy", version="p2", persons=3)
    told.tell(36, "audit_configured", actor="auditor", key="log+1", dir="/audit", witnesses=[])
    told.tell(56, "subject_erased", EVE, actor="operator:ann", reason="request 7", accounts_left=[])
    drifted = {"account": "r-1", "subject": ANN, "changed": ["title", "active"]}
    found: dict[str, Any] = {"actor": "scheduler"}
    told.tell(37, "reconciled", app="crm", finding="drifted", count=1, accounts=[drifted], action="corrected", **found)
    told.tell(37, "reconciled", BOB, "wiki", finding="missing", count=1, changed=["title"], action="marked", **found)
    told.tell(38, "reconciled", app="wiki", finding="orphan", count=3, accounts=["r-8", {"account": "r-9"}], **found)
    told.tell(38, "reconciled", app="wiki", finding="member_extra", count=2, **found)
    told.tell(38, "reconciled", app="wiki", finding="summary", missing=1, complete=True, **found)
    contracts(told)
    return told


def contracts(told: Morning) -> None:
    changed = "jml.worker.contract_changed.v1"
    for minute, subject, number, type_ in (
        (8, BOB, 1, "jml.worker.joined.v1"),
        (9, EVE, 2, "jml.worker.joined.v1"),
        (10, BOB, 3, changed),
        (11, EVE, 4, changed),
        (12, BOB, 5, changed),
        (13, EVE, 6, "jml.worker.rehired.v1"),
    ):
        cause = f"hr#c{number}"
        stated: dict[str, Any] = {"stated_at": at(minute - 1), "sealed": seal(stated={"reason": f"because {number}"})}
        told.tell(minute, "event_received", subject, event_id=cause, type=type_, **stated)
        for kind, due in {
            1: [("set", 100)],
            2: [("set", 200)],
            3: [("cancelled", 100), ("set", 150)],
            4: [],
            5: [("cancelled", 150), ("set", 120)],
            6: [("cancelled", 200)],
        }[number]:
            told.tell(minute, f"timer_{kind}", subject, event_id=cause, timer="contract_end", due=at(due))
        told.tell(minute, "timer_set", subject, event_id=cause, timer="engagement_start", due=at(1))
    told.tell(57, "timer_fired", BOB, event_id="hr#c5", timer="contract_end", due=at(120), actor="scheduler")
    told.tell(58, "timer_set", ANN, timer="contract_end", due=at(300), actor="resolver")


QUESTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "application": {"app": "crm"},
    "person": {"subject": BOB},
    "period": {"since": at(0.5), "until": at(41)},
    "end": {"since": at(31)},
    "cutoff": {"cutoff": at(46)},
}


def asked(report: Report) -> str:
    """The report to every question."""
    story = morning()
    target = io.StringIO(newline="")
    target.write("".join(f"### {column.name}: {column.title}\r\n" for column in report.columns))
    for name, question in QUESTIONS.items():
        if ("since" in question and not report.has_period) or (name == "application" and not report.has_app):
            continue
        made = make(report, Question(keys=Keys(), values=name == "person", **question), story.read(), 99, bytes(32))
        target.write(f"### {name}\r\n")
        write_report(target, made)
    return target.getvalue()


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_report_is_the_one_of_the_sample(report: Report) -> None:
    assert asked(report) == (SAMPLES / f"{report.name}.csv").read_bytes().decode()
