"""The tables. Migrations create them; a test holds the two together."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from schemas.changes import MAX_TEXT

metadata = sa.MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_name)s"},
)


class Instant(TypeDecorator[datetime]):
    """An aware instant. SQLite has no such type: there it is RFC 3339 text in UTC, which sorts as time does."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TIMESTAMPTZ where there is one."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(27))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database, always in UTC."""
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC)


class FreeText(TypeDecorator[str]):
    """Text from outside that nobody has cleaned. PostgreSQL has no NUL character: a visible stand-in is stored."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The same on both databases, so that a test on one speaks for the other."""
        return clean(value)


def clean(text: str | None) -> str | None:
    """Text as `FreeText` stores it."""
    return None if text is None else text.replace("\x00", "\ufffd")


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

PersonId = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")
"""Sorted by code point, as Python and SQLite do: rows locked here and rows sorted there are in one order."""

person = sa.Table(
    "person",
    metadata,
    sa.Column("id", PersonId, primary_key=True),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("manager_id", PersonId),
    sa.Column("email", sa.String(2 * MAX_TEXT), index=True),  # lower case can be longer: İ becomes two characters
    sa.Column("updated_at", Instant, nullable=False),
    # The version of the policy that decided last; null until the first decision since it is kept.
    sa.Column("policy", FreeText),
)

account = sa.Table(
    "account",
    metadata,
    sa.Column("person_id", PersonId, primary_key=True),
    sa.Column("app", sa.String(64), primary_key=True),
    # The resolver's side: what should be.
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("desired", sa.Text, nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("event_id", FreeText, nullable=False),
    sa.Column("correlation_id", FreeText, nullable=False),
    sa.Column("policy", sa.String(16), nullable=False),
    sa.Column("issued_at", Instant),
    # The connector's side: what is.
    sa.Column("version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("applied_revision", sa.Integer, nullable=False, server_default="0"),
    sa.Column("remote_id", FreeText),
    sa.Column("active", sa.Boolean),
    sa.Column("observed", sa.Text),
    sa.Column("intent", FreeText),
    sa.Column("status", sa.String(10), nullable=False, server_default="pending"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error_code", sa.String(40)),
    sa.Column("error", FreeText),
    sa.Column("refers_to", PersonId),
    # Which of the names that the policy makes the account has: 1 is the plain one, 2 the one with a 2 in it.
    sa.Column("name_number", sa.Integer, nullable=False, server_default="1"),
    # Both sides: when the relay should have a look. Null when nothing is open.
    sa.Column("attention_at", Instant),
    # When the revision was decided, by the machine's time: an end that HR states late is overdue only from then on.
    # The end (its `since`) of which people were told that it is overdue.
    sa.Column("overdue_told", Instant),
)
sa.Index("ix_account_attention_at", account.c.attention_at, postgresql_where=account.c.attention_at.is_not(None))
sa.Index("ix_account_remote_id", account.c.remote_id, account.c.app)
sa.Index(
    "ix_account_refers_to",
    account.c.app,
    account.c.refers_to,
    postgresql_where=account.c.refers_to.is_not(None),
    sqlite_where=account.c.refers_to.is_not(None),
)
sa.Index("ix_account_parked", account.c.app, postgresql_where=account.c.status == "parked")
OPEN_END = sa.text("state IN ('inactive', 'absent') AND (status <> 'applied' OR applied_revision < revision)")
"""Access that should be over and is not known to be. Word for word the condition of the index: with parameters in its
place neither database would use it."""
sa.Index("ix_account_open_end", account.c.app, account.c.since, postgresql_where=OPEN_END, sqlite_where=OPEN_END)

held = sa.Table(
    "held",
    metadata,
    sa.Column("person_id", PersonId, primary_key=True),
    sa.Column("app", sa.String(64), primary_key=True),
    # What the account would become; its own row is as it was issued last.
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("desired", sa.Text, nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("event_id", FreeText, nullable=False),
    sa.Column("correlation_id", FreeText, nullable=False),
    sa.Column("policy", sa.String(16), nullable=False),
    # Why it waits.
    sa.Column("command", sa.String(16), nullable=False),
    sa.Column("removal", sa.String(16), nullable=False),
    sa.Column("source", sa.String(200), nullable=False),
    sa.Column("effective_at", Instant, nullable=False),
    sa.Column("held_at", Instant, nullable=False),
    sa.Column("rejected_at", Instant),
)

breaker = sa.Table(
    "breaker",
    metadata,
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("population", sa.Integer, nullable=False),
    sa.Column("counted_at", Instant, nullable=False),
    sa.Column("tripped_at", Instant),
)

breaker_count = sa.Table(
    "breaker_count",
    metadata,
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("source", sa.String(200), primary_key=True),
    sa.Column("bucket", Instant, primary_key=True),
    sa.Column("passed", sa.Integer, nullable=False),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("received_at", Instant, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("messages", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    # Else SQLite gives the number of a deleted segment to the next one, and whoever deletes it twice loses messages.
    sqlite_autoincrement=True,
)

timer = sa.Table(
    "timer",
    metadata,
    sa.Column("person_id", PersonId, primary_key=True),
    sa.Column("kind", sa.String(40), primary_key=True),
    sa.Column("due", Instant, primary_key=True),
    sa.Column("event_id", FreeText, nullable=False),
    sa.Column("rule", FreeText, nullable=False),
    sa.Column("fired_at", Instant),
)
sa.Index(
    "ix_timer_open",
    timer.c.due,
    postgresql_where=timer.c.fired_at.is_(None),
    sqlite_where=timer.c.fired_at.is_(None),
)

quarantined = sa.Table(
    "quarantined",
    metadata,
    sa.Column("topic", sa.String(249), primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("code", sa.String(40), nullable=False),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("key", sa.LargeBinary),
    sa.Column("value", sa.LargeBinary),
    sa.Column("event_id", FreeText),
    sa.Column("received_at", Instant, nullable=False),
)

application = sa.Table(
    "application",
    metadata,
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("since", Instant),
    sa.Column("not_before", Instant),
    sa.Column("next_probe", Instant),
    # The operators' side: it stands whatever the connectors find out.
    sa.Column("stopped_by", FreeText),
    sa.Column("stop_reason", FreeText),
    sa.Column("stopped_at", Instant),
)

reconciliation = sa.Table(
    "reconciliation",
    metadata,
    sa.Column("app", sa.String(64), primary_key=True),
    # The last run; while a process is at one by schedule the lease says until when nobody else begins.
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("began_at", Instant, nullable=False),
    sa.Column("lease_until", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("outcome", sa.String(40)),
    sa.Column("counts", sa.Text),
)

notice_delivery = sa.Table(
    "notice_delivery",
    metadata,
    sa.Column("notice_id", sa.String(64), primary_key=True),
    sa.Column("receiver", sa.String(400), primary_key=True),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("person_id", PersonId, nullable=False),
    sa.Column("notice", sa.Text, nullable=False),
    sa.Column("issued_at", Instant, nullable=False),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # Null when nothing is left to do.
    sa.Column("next_attempt_at", Instant),
    sa.Column("delivered_at", Instant),
    sa.Column("error_code", sa.String(40)),
    sa.Column("error", FreeText),
)
_WAITS = sa.text("next_attempt_at IS NOT NULL")
sa.Index(
    "ix_notice_delivery_due",
    notice_delivery.c.channel,
    notice_delivery.c.next_attempt_at,
    postgresql_where=_WAITS,
    sqlite_where=_WAITS,
)

entitlement_group = sa.Table(
    "entitlement_group",
    metadata,
    sa.Column("app", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(400), primary_key=True),
    sa.Column("remote_id", FreeText),
    sa.Column("claimed_until", Instant),
)

audit_index = sa.Table(
    "audit_index",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("subject", sa.String(32)),
    sa.Column("app", sa.String(64)),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("entry", sa.Text, nullable=False),
)
sa.Index("ix_audit_index_subject", audit_index.c.subject, audit_index.c.position)

subject = sa.Table(
    "subject",
    metadata,
    sa.Column("subject", sa.String(32), primary_key=True),
    # The only link between a person and the audit log, and the key of what is sealed there. Null once erased.
    sa.Column("person_id", PersonId),
    sa.Column("key", sa.LargeBinary),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("erased_at", Instant),
)
sa.Index("ix_subject_person_id", subject.c.person_id, unique=True)
