"""The audit stream: one entry for every step of a person's life, gapless per writer.

**Who.** People are named by `subject`, a random id that one table of the database links to a worker id until the person
is erased. It takes the place of worker ids and e-mail addresses that sources put into `event_id` and `correlation_id`,
where they stand alone. Operators are named, as `actor`: that they can be is the point.

**What.** `details` hold codes, counts, instants, names of attributes, and groups, which are entitlements. `sealed` is
what is personal, one JSON object under the subject's key (`orchestrator.domain.sealing`). By kind:

- event_received: type, stated_at, effective (when stated), reason_given; app and group of an entitlement. Sealed:
  person_id, stated (the event's data).
- person_resolved: outcome, transition, status, changed, problems. Sealed: before, after (the attributes that changed),
  problems.
- command_issued: command, state, previous_state, groups, effective_at, since (of the state that a patch goes on with).
  Sealed: before, after (the mapped attributes that differ).
- call_intended: state, read_back.
- command_applied, account_verified: state, calls, groups_added, groups_removed, attempts, effective_at, received_at,
  sent_at, verified_at. A call is method, path and status; "bulk" stands before the status where it was one operation of
  a Bulk request. Sealed: account (its id in the application), before, after (what was changed).
- command_retried, command_parked: the same and code; next_attempt of the one, reason, leaver and candidates (how many
  accounts could be the person's) of the other. Sealed: candidates (their ids).
- account_linked, account_unlinked: state, reason. Sealed: account, before.
- reconciled: finding, count, action, and either changed (names of attributes) of the subject, or accounts: ids, or
  objects with subject and changed. The finding `summary` is a whole run: counts, complete, marked, calls, unreadable.
- command_superseded: by (the revision that was applied instead).
- timer_set, timer_cancelled, timer_fired: timer, due, rule.
- operator_acted: action, reason and counts; of `apply_policy` version, persons, touched, commands, over_seconds.
- subject_erased: reason, accounts_left.

What moves an account's row on (intents, outcomes, account_linked, account_unlinked, a retry of what was parked, a
reconciled that marks) has `fence` too: the version that the row got with it, so that the order of an account's entries
depends on no clock and on no order of publishing.

A call is `[method, path, status]`, its path without the account's id. `effective_at` is when the state began to hold
for the person, `received_at` when the command was issued, `sent_at` when the first change went out, `verified_at` when
a read showed the account closed. More than 256 KiB are not sealed: `left_out_bytes` says how much it was.

**The rule of intents.** Whoever calls an application says so before. An outcome (command_applied, account_verified,
command_retried, command_parked) with `calls`, `groups_added` or `groups_removed` has a call_intended of the same
subject, app and revision before it, from the same writer: by (epoch, sequence), because after a crash entries may reach
the log out of a writer's order. An outcome without any of the three found the account right, and nobody was called.
"""

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class AuditKind(StrEnum):
    """What an entry records. Past tense: an entry is a fact, except `call_intended`, which is written before."""

    EVENT_RECEIVED = "event_received"
    EVENT_DUPLICATED = "event_duplicated"
    EVENT_QUARANTINED = "event_quarantined"
    PERSON_RESOLVED = "person_resolved"
    COMMAND_ISSUED = "command_issued"
    CALL_INTENDED = "call_intended"
    COMMAND_APPLIED = "command_applied"
    ACCOUNT_VERIFIED = "account_verified"
    COMMAND_SUPERSEDED = "command_superseded"
    COMMAND_RETRIED = "command_retried"
    COMMAND_PARKED = "command_parked"
    COMMAND_HELD = "command_held"
    COMMAND_RELEASED = "command_released"
    COMMAND_REJECTED = "command_rejected"
    TIMER_SET = "timer_set"
    TIMER_FIRED = "timer_fired"
    TIMER_CANCELLED = "timer_cancelled"
    APPLICATION_PAUSED = "application_paused"
    APPLICATION_RESUMED = "application_resumed"
    OPERATOR_ACTED = "operator_acted"
    NOTICE_ISSUED = "notice_issued"
    ACCOUNT_LINKED = "account_linked"
    ACCOUNT_UNLINKED = "account_unlinked"
    RECONCILED = "reconciled"
    AUDIT_CONFIGURED = "audit_configured"
    ENTRY_REJECTED = "entry_rejected"
    SUBJECT_ERASED = "subject_erased"


class AuditEntry(BaseModel):
    """One lifecycle event. `(writer, epoch, sequence)` counts without gaps from 1, so a missing entry shows.

    `details` hold codes, counts, groups, names of attributes and instants; values of personal attributes are `sealed`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str] = "jml.audit.entry.v1"

    id: str = Field(description="writer/epoch/sequence")
    writer: str
    epoch: int
    sequence: int = Field(ge=1)
    at: AwareDatetime
    kind: AuditKind
    actor: str = Field(description="Who caused it: the source of an event, scheduler, operator:NAME; else a role")
    subject: str | None = Field(default=None, description="The person's random id in the log")
    app: str | None = None
    revision: int | None = None
    event_id: str | None = Field(default=None, description="The causing event, source#id, without the person in it")
    correlation_id: str | None = None
    policy: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    sealed: str | None = Field(default=None, description="Personal values: base64url of nonce and AES-GCM ciphertext")
