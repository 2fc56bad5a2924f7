"""The edges of the orchestrator as Protocols: what flows need from the outside, and nothing more.

Adapters implement them and are known to `bootstrap` alone. Every port has one contract suite for all its adapters.
"""

from orchestrator.domain.health import ApplicationHealth, OperatorStop
from orchestrator.ports.applications import ScimRequest, ScimResponse, ScimTransport
from orchestrator.ports.auditing import AuditIndex, AuditLog, CheckpointedLog, Witness
from orchestrator.ports.basics import Clock, Publisher
from orchestrator.ports.converging import ConvergeStore, ConvergeTransaction, ProgressUpdate
from orchestrator.ports.operating import (
    ErasureCase,
    ErasureStore,
    ErasureTransaction,
    HoldTransaction,
    OperatorStore,
    RetryTransaction,
)
from orchestrator.ports.planning import LookTransaction, PlanStore, ReconcileStore, TimedRecord
from orchestrator.ports.resolving import (
    InboxRow,
    OutboxStore,
    Passed,
    Place,
    Quarantined,
    ResolveChanges,
    ResolveStore,
    ResolveTransaction,
    SubjectStore,
    Timer,
)
from orchestrator.ports.sweeping import (
    AttentionStore,
    AttentionTransaction,
    ReconcileRuns,
    TimerStore,
    TimerTransaction,
)
from orchestrator.ports.views import (
    AccountView,
    ParkedAccount,
    PersonView,
    QuarantineSummary,
    StoreStatus,
    TimelineEntry,
)

__all__ = [
    "AccountView",
    "ApplicationHealth",
    "AttentionStore",
    "AttentionTransaction",
    "AuditIndex",
    "AuditLog",
    "CheckpointedLog",
    "Clock",
    "ConvergeStore",
    "ConvergeTransaction",
    "ErasureCase",
    "ErasureStore",
    "ErasureTransaction",
    "HoldTransaction",
    "InboxRow",
    "LookTransaction",
    "OperatorStop",
    "OperatorStore",
    "OutboxStore",
    "ParkedAccount",
    "Passed",
    "PersonView",
    "Place",
    "PlanStore",
    "ProgressUpdate",
    "Publisher",
    "QuarantineSummary",
    "Quarantined",
    "ReconcileRuns",
    "ReconcileStore",
    "ResolveChanges",
    "ResolveStore",
    "ResolveTransaction",
    "RetryTransaction",
    "ScimRequest",
    "ScimResponse",
    "ScimTransport",
    "StoreStatus",
    "SubjectStore",
    "TimedRecord",
    "TimelineEntry",
    "Timer",
    "TimerStore",
    "TimerTransaction",
    "Witness",
]
