"""Where commands get what they need of the outside: store, broker, audit log, time.

The one place in `cli` that may know `bootstrap` and the adapters, and it imports them only when they are asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from datetime import datetime
from getpass import getuser
from os import environ, getuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.config import AppConfig, Config
from orchestrator.domain.wording import counted
from orchestrator.errors import BrokerUnavailable, StoreUnavailable, UserError
from orchestrator.ports import (
    ErasureStore,
    OperatorStore,
    PlanStore,
    Publisher,
    ReconcileStore,
    SubjectStore,
    TimedRecord,
)
from orchestrator.ports.noticing import ComingStore, NoticeDesk, OverdueStore
from orchestrator.ports.policy import PolicyStore
from orchestrator.ports.sweeping import ReconcileRuns

if TYPE_CHECKING:
    from orchestrator.adapters.audit_verify import Verdict
    from orchestrator.adapters.audit_verify.proving import Checked, Made
    from orchestrator.adapters.lag import PartitionLag
    from orchestrator.adapters.sql.engine import Database
    from orchestrator.adapters.topic_admin import Created, TopicState
    from orchestrator.domain.reconcile_schedule import LastRun
    from orchestrator.domain.signed_note import SigningKey, VerifierKey
    from orchestrator.evidence.entries import Keyring
    from orchestrator.flows.application import Application
    from orchestrator.flows.asking import Reader
    from orchestrator.flows.audit_writer import AuditWriter
    from orchestrator.flows.examine import Examined


def now() -> datetime:
    """The current instant."""
    from orchestrator.adapters.clock import SystemClock

    return SystemClock().now()


def operator_name() -> str:
    """Who acts: $JML_OPERATOR, or the login name."""
    if name := environ.get("JML_OPERATOR"):
        return name
    try:
        return getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid-{getuid()}"


PUBLISH_SECONDS = 5.0
"""So long a command waits for the broker to take what it saved."""


@asynccontextmanager
async def operator_writer(config: Config) -> AsyncIterator["AuditWriter"]:
    """The writer of a command's audit entries. When the command is done they are published; what the broker does not
    take is left to the relay, and that is said."""
    from orchestrator.flows.audit_writer import AuditWriter

    writer = AuditWriter("operator", now())
    try:
        yield writer
    finally:
        if writer.has_saved and not config.kafka.embedded:  # an embedded broker is in another process, with its relay
            await _publish_acted(config, writer)


async def _publish_acted(config: Config, writer: "AuditWriter") -> None:
    from orchestrator.adapters.sql.outbox import SqlOutbox
    from orchestrator.cli.output import note
    from orchestrator.flows.acted import publish_acted

    try:
        async with asyncio.timeout(PUBLISH_SECONDS), database(config) as opened, publisher(config) as kafka:
            await publish_acted(SqlOutbox(opened), kafka, writer, now())
    except (BrokerUnavailable, StoreUnavailable, TimeoutError):
        note("it is done and saved; the audit log has it once the broker answers, by `jml run relay`")


@asynccontextmanager
async def database(config: Config) -> AsyncIterator["Database"]:
    """The configured database, whatever is in it."""
    from orchestrator.adapters.sql.engine import Database

    opened = Database(config.store.url, pool_size=2)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def migrated_database(config: Config) -> AsyncIterator["Database"]:
    """The same. Raises UserError for one that does not exist, or whose tables are not those of this version."""
    async with database(config) as opened:
        await check_database(opened)
        yield opened


@asynccontextmanager
async def operator_store(config: Config) -> AsyncIterator[OperatorStore]:
    """The store as operators see it. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.operating import SqlOperatorStore

    async with migrated_database(config) as opened:
        yield SqlOperatorStore(opened)


async def examine_application(name: str, settings: AppConfig) -> "tuple[Examined, Application]":
    """Ask an application what it is and whether the mapping fits. Raises what its calls raise."""
    from orchestrator.adapters.clock import SystemClock
    from orchestrator.bootstrap import connect
    from orchestrator.flows.calling import Caller
    from orchestrator.flows.examine import examine
    from orchestrator.ports import ApplicationHealth

    async def on_health(_: ApplicationHealth) -> None:
        return

    transport, application = connect(name, settings, SystemClock())
    caller = Caller(transport, SystemClock(), 1, on_health, app=name)
    try:
        return await examine(caller, application, settings.attributes), application
    finally:
        await caller.close()
        await transport.close()


@asynccontextmanager
async def application_reader(config: Config, name: str) -> AsyncIterator["Reader"]:
    """A way to read what an application holds, with a part of its budget. Raises UserError for one that an operator
    has stopped, ConfigError, and ScimError when it cannot be used."""
    from orchestrator.adapters.clock import SystemClock
    from orchestrator.adapters.sql.converging import SqlConvergeStore
    from orchestrator.bootstrap import reading

    async with migrated_database(config) as opened:
        health = (await SqlConvergeStore(opened).load_health([name])).get(name)
    if health is not None and health.stop is not None:
        raise UserError(f"{name} is stopped by {health.stop.by}: no call goes out until `jml apps resume {name}`")
    async with reading(name, config.apps[name], SystemClock()) as reader:
        yield reader


async def reconcile_runs(config: Config) -> "Mapping[str, LastRun]":
    """The last reconciliation of each application that had one."""
    from orchestrator.adapters.sql.reconcile_runs import SqlReconcileRuns

    async with migrated_database(config) as opened:
        return await SqlReconcileRuns(opened).last()


class ReconcileStores(NamedTuple):
    """What a reconciliation, or an operator who links accounts, needs of the store."""

    accounts: ReconcileStore
    persons: PlanStore
    subjects: SubjectStore
    runs: ReconcileRuns


@asynccontextmanager
async def reconcile_stores(config: Config) -> AsyncIterator[ReconcileStores]:
    """The stores of a reconciliation. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.planning import SqlPlanStore
    from orchestrator.adapters.sql.reconcile_runs import SqlReconcileRuns
    from orchestrator.adapters.sql.reconciling import SqlReconcileStore
    from orchestrator.adapters.sql.subjects import SqlSubjectStore

    async with migrated_database(config) as opened:
        stores = (SqlReconcileStore(opened), SqlPlanStore(opened), SqlSubjectStore(opened), SqlReconcileRuns(opened))
        yield ReconcileStores(*stores)


@asynccontextmanager
async def plan_store(config: Config) -> AsyncIterator[PlanStore]:
    """The store as plans read it. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.planning import SqlPlanStore

    async with migrated_database(config) as opened:
        yield SqlPlanStore(opened)


@asynccontextmanager
async def policy_stores(config: Config) -> AsyncIterator[tuple[PolicyStore, PlanStore]]:
    """What a change of the policy needs of the store. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.planning import SqlPlanStore
    from orchestrator.adapters.sql.policy import SqlPolicyStore

    async with migrated_database(config) as opened:
        yield SqlPolicyStore(opened), SqlPlanStore(opened)


def events_since(config: Config, since: datetime) -> AsyncIterator[TimedRecord]:
    """What HR systems and identity providers published since an instant."""
    from orchestrator.adapters.kafka.replaying import read_since
    from schemas.topics import HR_EVENTS, IDP_EVENTS

    return read_since(real_broker(config), (HR_EVENTS, IDP_EVENTS), since)


@asynccontextmanager
async def subject_store(config: Config) -> AsyncIterator[SubjectStore]:
    """Who the audit log speaks of. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.subjects import SqlSubjectStore

    async with migrated_database(config) as opened:
        yield SqlSubjectStore(opened)


@asynccontextmanager
async def erasure_store(config: Config) -> AsyncIterator[ErasureStore]:
    """What erasure needs of the store. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.erasing import SqlErasureStore

    async with migrated_database(config) as opened:
        yield SqlErasureStore(opened)


@asynccontextmanager
async def coming_store(config: Config) -> AsyncIterator[ComingStore]:
    """What is due, and what became of a statement. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.coming import SqlComing

    async with migrated_database(config) as opened:
        yield SqlComing(opened)


@asynccontextmanager
async def overdue_store(config: Config) -> AsyncIterator[OverdueStore]:
    """Ends that could not be enforced. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.overdue import SqlOverdueStore

    async with migrated_database(config) as opened:
        yield SqlOverdueStore(opened)


@asynccontextmanager
async def notice_desk(config: Config) -> AsyncIterator[NoticeDesk]:
    """Deliveries of notices. Raises UserError for a database that is not migrated."""
    from orchestrator.adapters.sql.notices import SqlNoticeStore

    async with migrated_database(config) as opened:
        yield SqlNoticeStore(opened)


async def check_database(opened: "Database") -> None:
    """Raises UserError for a database that does not exist, or whose tables are not those of this version."""
    from orchestrator.adapters.sql.migrate import check_migrated

    if _missing_file(opened):  # SQLite would make an empty one
        raise UserError(f"the database {opened.url.database} does not exist; create it with `jml db migrate`")
    await check_migrated(opened)


def _missing_file(opened: "Database") -> bool:
    return opened.is_sqlite and not Path(opened.url.database or "").exists()


async def migrate_database(opened: "Database") -> list[str]:
    """Bring the tables to this version; returns the migrations that ran."""
    from orchestrator.adapters.sql.migrate import migrate

    return await migrate(opened)


def publisher(config: Config) -> AbstractAsyncContextManager[Publisher]:
    """Publishes to the configured broker."""
    from orchestrator.bootstrap import publisher as open_publisher

    real_broker(config)
    return open_publisher(config)


async def lag(config: Config) -> "list[PartitionLag]":
    """How far every group is behind."""
    from orchestrator.adapters.lag import measure
    from schemas.groups import groups

    return await measure(real_broker(config), groups(tuple(config.apps)), now())


async def list_topics(config: Config) -> "list[TopicState]":
    """Every topic, as it should be and as it is."""
    from orchestrator.adapters import topic_admin
    from schemas.topics import topics

    real_broker(config)
    return await topic_admin.list_topics(config.kafka, topics(tuple(config.apps)))


async def create_topics(config: Config) -> "Created":
    """Make and grow topics until they are as they should be."""
    from orchestrator.adapters import topic_admin
    from schemas.topics import topics

    real_broker(config)
    return await topic_admin.create_topics(config.kafka, topics(tuple(config.apps)))


async def guard_topics(config: Config) -> bool:
    """Keep the audit's topics from being deleted; False where that was done before."""
    from orchestrator.adapters.topic_guard import guard_topics

    return await guard_topics(real_broker(config))


def audit_entries(folder: Path) -> Callable[[int], Iterator[tuple[int, bytes]]]:
    """Reads the audit log from a position on. Raises UserError where there is none."""
    from orchestrator.adapters.audit_log import read_entries

    if not folder.is_dir():
        raise UserError(
            f"there is no audit log in {folder}; the auditor writes it, see [audit] dir in the configuration"
        )
    return lambda start: read_entries(folder, start)


def audit_end(folder: Path) -> int:
    """The position after the last entry."""
    from orchestrator.adapters.audit_log import entries_end

    return entries_end(folder)


def verify_audit(
    folder: Path, keys: "Sequence[VerifierKey]", *, since: bytes | None, witnesses: "Sequence[VerifierKey]"
) -> "Verdict":
    """Verify a log by its files and keys."""
    from orchestrator.adapters.audit_verify import verify

    return verify(folder, keys, since=since, witnesses=witnesses)


async def with_topic(verdict: "Verdict", bootstrap: str, folder: Path, keys: "Sequence[VerifierKey]") -> "Verdict":
    """The verdict with what the topics of entries and of checkpoints have to say. Raises Unreachable."""
    from dataclasses import replace

    from orchestrator.adapters.audit_verify.folder import LogFolder
    from orchestrator.adapters.audit_verify.topic import compare_checkpoints, compare_topic

    log = LogFolder(folder)
    findings, records = await compare_topic(bootstrap, log.entries)
    published, checkpoints = await compare_checkpoints(bootstrap, log.history, verdict.origin, keys)
    both = f"{counted(records, 'record')}, {counted(checkpoints, 'checkpoint')}"
    read = f"the topics were read to their ends: {both} of this log"
    return replace(
        verdict,
        compared=(*verdict.compared, "topic"),
        problems=(*verdict.problems, *findings.problems, *published.problems),
        problems_total=verdict.problems_total + findings.total + published.total,
        notes=(*verdict.notes, *findings.notes, *published.notes, read),
    )


def prove_entry(folder: Path, entry: str) -> "Made":
    """Prove that an entry is in the log."""
    from orchestrator.adapters.audit_verify import prove

    return prove(folder, entry)


def check_entry(data: bytes, keys: "Sequence[VerifierKey]", witnesses: "Sequence[VerifierKey]") -> "Checked":
    """What a proof shows. Raises NoteError."""
    from orchestrator.adapters.audit_verify import check_proof

    return check_proof(data, keys, witnesses)


def configured_verifiers(config: Config) -> "list[VerifierKey]":
    """The verifier keys that the configuration leads to, outside of the log's folder; none where it does not."""
    from orchestrator.adapters.audit_log.keys import configured_verifiers as of_audit

    return of_audit(config.audit)


def write_audit_key(key: "SigningKey", path: Path) -> Path:
    """Write a private key and the verifier key beside it; returns the latter's path."""
    from orchestrator.adapters.audit_log.keys import write_key

    return write_key(key, path)


async def serve_witness(key_file: Path, logs: "Sequence[VerifierKey]", state: Path, host: str, port: int) -> None:
    """Be a witness until SIGTERM."""
    from orchestrator.adapters.audit_log.keys import read_key
    from orchestrator.adapters.audit_witness import Witness, serve
    from orchestrator.adapters.clock import SystemClock
    from orchestrator.domain.signed_note import COSIGNATURE
    from orchestrator.log import configure

    key = read_key(key_file)
    if key.kind != COSIGNATURE:
        raise UserError(f"{key_file} is the key of a log; make one with `jml audit key generate NAME --witness`")
    configure("info")
    await serve(Witness(state, key, logs, SystemClock()), host, port)


class AuditSource(NamedTuple):
    """An audit log to read. `size` and `root` are those of the latest signed checkpoint; None where there is none."""

    read: Callable[[int], Iterator[tuple[int, bytes]]]
    size: int | None
    root: bytes | None


def audit_source(folder: Path) -> AuditSource:
    """The log in a folder, and what its latest checkpoint says. Raises UserError where there is none."""
    from orchestrator.adapters.audit_log import latest_checkpoint, read_entries

    if not folder.is_dir():
        raise UserError(f"there is no audit log in {folder}; name its folder with --log, or as [audit] dir")
    checkpoint = latest_checkpoint(folder)
    size, root = (None, None) if checkpoint is None else (checkpoint.size, checkpoint.root)
    return AuditSource(lambda start: read_entries(folder, start), size, root)


def keyring(config: Config) -> AbstractContextManager["Keyring"]:
    """What leads from the random subjects of the log to people, and opens what is sealed."""
    from orchestrator.cli.keyring import DatabaseKeys

    return DatabaseKeys(config)


def real_broker(config: Config) -> str:
    """The broker's address. The embedded one has none: it lives in the process of `jml up`, and dies with it."""
    if config.kafka.embedded:
        raise UserError(
            "the embedded broker lives inside the process of `jml up`, which prints its address when it starts; "
            "set JML_KAFKA__BOOTSTRAP to that address, or [kafka] bootstrap to a Kafka broker"
        )
    return config.kafka.bootstrap


def app_names(config: Config, chosen: str | None) -> Sequence[str]:
    """The applications that a command speaks of: all, or the chosen one. Raises UserError for an unknown one."""
    if chosen is None:
        return tuple(config.apps)
    if chosen not in config.apps:
        known = ", ".join(sorted(config.apps)) or "none"
        raise UserError(f"there is no application {chosen!r} in the configuration (there are: {known})")
    return (chosen,)
