"""What a process counts, for Prometheus. Labels name applications, outcomes and codes, never people.

Cheap by design: a batch is counted once, a call twice.
"""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("jml_events", "Events that reached a terminal state in the resolver", ["outcome"])
COMMANDS = Counter("jml_commands", "Commands by how the connector ended them", ["app", "outcome"])
CALLS = Counter(
    "jml_calls", "Calls to applications by method and status; 'none' where no answer came", ["app", "method", "status"]
)
CALL_SECONDS = Histogram(
    "jml_call_seconds",
    "How long applications take to answer",
    ["app"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BULK_OPERATIONS = Histogram(
    "jml_bulk_operations",
    "Operations in each Bulk request; each of these requests is one call",
    ["app"],
    buckets=(2, 5, 10, 20, 50, 100),
)
DEPROVISION_SECONDS = Histogram(
    "jml_deprovision_seconds",
    "From the effective instant of an end to the read that shows the account inactive",
    ["app"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86400),
)
PARKED_LEAVERS = Counter(
    "jml_parked_leavers", "Leavers whose account could not be closed: each needs a person", ["app"]
)
NAMES_TAKEN = Counter(
    "jml_names_taken", "Candidates of unique names that somebody else had, so that the next one was tried", ["app"]
)
PAUSED = Gauge("jml_application_paused", "1 while an application as a whole is out of order", ["app"])
HELD = Gauge("jml_held", "Commands that the breaker holds until a person decides, as the relay counts them", ["app"])
PENDING = Gauge("jml_lane_pending", "Commands taken in by a connector and not done", ["app"])
OVERDUE_ENDS = Gauge("jml_overdue_ends", "Accounts that should be closed by now and are not known to be", ["app"])
OVERDUE_SECONDS = Gauge("jml_overdue_oldest_seconds", "For how long the oldest of them is overdue", ["app"])
RECONCILED_AT = Gauge("jml_reconciled_timestamp_seconds", "When the last reconciliation began", ["app"])
RECONCILED_AGE = Gauge("jml_reconciled_age_seconds", "How long ago that was, as the scheduler sees it", ["app"])
RECONCILE_FINDINGS = Gauge("jml_reconcile_findings", "Accounts by what it found of them", ["app", "finding"])
RECONCILE_RUNS = Counter(
    "jml_reconcile_runs",
    "Reconciliations by schedule by how they ended: complete, incomplete, or a code",
    ["app", "outcome"],
)
NOTICES = Counter("jml_notices", "Notices by how an attempt to deliver them ended", ["channel", "outcome"])
TIMERS_FIRED = Counter("jml_timers_fired", "Timers that the scheduler fired")
RELAYED = Counter("jml_relayed", "What the relay had to take care of", ["what"])
AUDIT_ENTRIES = Counter("jml_audit_entries", "Entries appended to the audit log")
AUDIT_SIZE = Gauge("jml_audit_size", "Entries in the audit log, as its writer knows it")
AUDIT_REJECTED = Counter("jml_audit_rejected", "Records of audit.entries that could not become entries")
AUDIT_WITNESS_BEHIND = Gauge(
    "jml_audit_witness_behind", "Entries of the last checkpoint that a witness has not signed yet", ["witness"]
)
"""Consumer lag is measured from outside, by `jml lag`, so that a process that hangs cannot hide its own."""
