"""The reports, by name. Each says what it asks, of what, and which controls it is evidence for."""

from dataclasses import replace
from functools import partial

from orchestrator.evidence.reports import access_at, contractors, findings, interventions
from orchestrator.evidence.reports.base import Column, Report
from orchestrator.evidence.reports.controls import (
    ACCESS_CONTROL,
    ACCESS_RIGHTS,
    AUTHENTICATION_INFORMATION,
    ERASURE,
    IDENTITY_MANAGEMENT,
    LOGICAL_ACCESS,
    PRINCIPLES,
    PRIVILEGED_ACCESS,
    PROCESSING_RECORDS,
    REGISTRATION,
    ROLES,
    TERMINATION,
)
from orchestrator.evidence.reports.timing import Journeys


def _timing(last: str, seconds: str) -> tuple[Column, ...]:
    return (
        Column("due", "Due"),
        Column("person", "Person"),
        Column("app", "Application"),
        Column("effective", "Effective"),
        Column("received", "Received"),
        Column("sent", "Sent"),
        Column("verified", last),
        Column("seconds", seconds),
        Column("within_limit", "Within the limit"),
        Column("outcome", "Outcome"),
        Column("attempts", "Failed attempts"),
        Column("code", "Code"),
        Column("exception_owner", "Exception owner"),
        Column("exception_reason", "Exception reason"),
        Column("revision", "Revision"),
        Column("event_id", "Event"),
    )


REPORTS = {
    report.name: report
    for report in (
        Report(
            "leavers",
            "Leavers: from the end of access to the verified deactivation",
            "Every account whose desired state turned from active to inactive or absent (command_issued) in the "
            "period. Seconds count from the later of effective and received, to when a read of the account showed it "
            "inactive or gone (verified); for one that is open, to the cutoff.",
            _timing("Verified inactive", "Seconds"),
            (ACCESS_RIGHTS, IDENTITY_MANAGEMENT, AUTHENTICATION_INFORMATION, REGISTRATION, ROLES, TERMINATION),
            partial(Journeys, leaving=True),
            decides="within_limit",
        ),
        Report(
            "joiners",
            "Joiners: from the start of access to the working account",
            "Every account whose desired state turned to active (command_issued) in the period. Seconds count from "
            "the later of effective and received, to when the application had confirmed account and groups; for one "
            "that is open, to the cutoff.",
            _timing("Confirmed", "Seconds to access"),
            (ACCESS_CONTROL, IDENTITY_MANAGEMENT, ACCESS_RIGHTS, REGISTRATION),
            partial(Journeys, leaving=False),
            decides="within_limit",
        ),
        Report(
            "access",
            "Access as of a date",
            "Every account that was active in an application, should have been, or could have been (unsure), as of "
            "the cutoff: command_issued gives the desired state, command_applied and account_verified the confirmed "
            "one.",
            access_at.COLUMNS,
            (ACCESS_CONTROL, ACCESS_RIGHTS, PRIVILEGED_ACCESS, LOGICAL_ACCESS, ROLES, PROCESSING_RECORDS),
            partial(access_at.AccessAt, open_only=True),
            has_period=False,
            decides="access",
            reads_on=True,
        ),
        Report(
            "orphans",
            "Orphans: accounts in applications that belong to nobody we know",
            "Every account that reconciliation found in an application without a person behind it (reconciled, "
            "finding orphan) in the period.",
            findings.COLUMNS,
            (IDENTITY_MANAGEMENT, ACCESS_RIGHTS, LOGICAL_ACCESS, REGISTRATION),
            partial(findings.Findings, kinds=findings.ORPHANS),
            decides="app",
        ),
        Report(
            "contractors",
            "Contractors: every end of a contract, and every change of it",
            "Every event in the period that set, moved or removed the end of a fixed-term contract (timer_set and "
            "timer_cancelled of contract_end), every contract that was changed, and every end that came (timer_fired).",
            contractors.COLUMNS,
            (IDENTITY_MANAGEMENT, ACCESS_RIGHTS, REGISTRATION, TERMINATION),
            contractors.Contractors,
            has_app=False,
            decides="change",
        ),
        Report(
            "drift",
            "Drift: accounts that were not as they should be",
            "Every account that reconciliation found changed, missing or there twice (reconciled, finding drifted, "
            "missing or duplicate), and every group whose members were others than they should be (member_missing, "
            "member_extra, member_foreign) in the period.",
            findings.COLUMNS,
            (ACCESS_RIGHTS, PRIVILEGED_ACCESS, LOGICAL_ACCESS, ROLES),
            partial(findings.Findings, kinds=findings.DRIFT),
            decides="finding",
        ),
        Report(
            "overrides",
            "Overrides: what operators did",
            "Every operator_acted in the period, and every other decision of an operator: event stated, held, "
            "released, rejected, linked, unlinked, paused, resumed, erased; and every change of how the audit log "
            "itself is kept (audit_configured).",
            interventions.OVERRIDE_COLUMNS,
            (ACCESS_CONTROL, PRIVILEGED_ACCESS, LOGICAL_ACCESS, PRINCIPLES, ERASURE),
            interventions.Overrides,
            decides="act",
        ),
        Report(
            "parked-and-held",
            "Parked and held: what waited for a decision, and how it ended",
            "Every account that was parked (command_parked) or held (command_held) in the period, until it was "
            "applied, tried again, released, rejected, or overtaken by a newer revision; for one that is open, until "
            "the cutoff.",
            interventions.STOP_COLUMNS,
            (ACCESS_RIGHTS, REGISTRATION, ROLES, TERMINATION),
            interventions.Stops,
            decides="ended_by",
        ),
    )
}

ACCESS_OF = replace(
    REPORTS["access"],
    query="Every account of the person or the application as of the cutoff, also those that were closed.",
    begin=access_at.AccessAt,
)
"""What `jml access` answers."""
