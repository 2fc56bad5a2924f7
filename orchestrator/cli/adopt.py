"""`jml import`: persons out of the accounts of an application that was filled before."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.event_lines import message
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import note, print_json, print_line, print_table
from orchestrator.cli.progress import Bars, Watched
from orchestrator.config import Config
from orchestrator.domain.paths import split_path
from orchestrator.errors import UserError
from orchestrator.flows.adopt import Adopted, Adoption, Fate
from orchestrator.flows.audit_writer import Entry
from orchestrator.flows.listing import users
from orchestrator.ports import Publisher
from schemas.audit import AuditKind
from schemas.envelope import Message

app = typer.Typer(rich_markup_mode="markdown")


@dataclass
class _Found:
    """What an import has to tell. `first` are the accounts that are shown, the counts are of all."""

    app: str
    first: list[Adopted] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    complete: bool = True
    unreadable: int = 0
    published: int | None = None


@app.command("import")
def import_(
    application: Annotated[str, typer.Argument(metavar="APP", help="The application, as the configuration calls it.")],
    worker_id: Annotated[
        str, typer.Option("--worker-id", help="The attribute that holds the worker id.", metavar="PATH")
    ] = "externalId",
    publish: Annotated[bool, typer.Option("--publish", help="Make those that are new workers.")] = False,
    with_inactive: Annotated[
        bool, typer.Option("--with-inactive", help="Accounts that nobody can use too, as people who left.")
    ] = False,
    limit: Annotated[int, typer.Option(help="Accounts to show; the totals are of all.", min=0)] = 20,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Make workers of the accounts that an application holds: for the first connection, or when two companies merge.

    Without --publish it only says what would become of each account. *new*: becomes a worker, by an event of the source
    `import/APP` as HR would send it. *linked*: on somebody's record already. *known*: somebody's who is known by worker
    id, user name or e-mail address; the import never overwrites a person. *refused*: cannot become a worker. It may be
    run again at any time: the same account is the same event.

    Example: `jml import crm --worker-id enterprise.employeeNumber`, then the same with `--publish`
    """
    loaded = load(config)
    services.app_names(loaded, application)
    if publish:
        services.real_broker(loaded)
    path = tuple(split_path(worker_id))
    if not all(path):
        raise UserError(f"--worker-id {worker_id!r} is no attribute: write externalId or enterprise.employeeNumber")
    found = run_async(_import(loaded, application, path, limit, publish=publish, with_inactive=with_inactive))
    if as_json:
        print_json(_document(found))
    else:
        _print(found)


async def _import(
    config: Config, name: str, path: tuple[str, ...], limit: int, *, publish: bool, with_inactive: bool
) -> _Found:
    found, now = _Found(name), services.now()
    async with (
        services.reconcile_stores(config) as stores,
        services.application_reader(config, name) as reader,
        services.operator_writer(config) as writer,
    ):
        listing = users(reader.ask, reader.application)
        adoption = Adoption(
            name,
            stores.accounts,
            stores.persons,
            worker_id=path,
            with_inactive=with_inactive,
            now=now,
            correlation=config.correlation(name),
        )

        async def read(publisher: Publisher | None) -> None:
            with Bars() as bars:
                async for batch in adoption.find(Watched(listing, bars)):
                    found.reasons.update(one.reason for one in batch if one.fate is Fate.REFUSED)
                    shown = [one for one in batch if one.fate is not Fate.LINKED]
                    found.first += shown[: limit - len(found.first)]
                    if publisher is not None:
                        events = _events(batch)
                        await publisher.publish(events)
                        found.published = (found.published or 0) + len(events)

        if publish:
            async with services.publisher(config) as publisher:
                await read(publisher)
        else:
            await read(None)
        found.counts = {fate.value: adoption.counts[fate] for fate in Fate}
        found.complete, found.unreadable = listing.complete and not listing.skipped, listing.skipped
        if publish:
            details = {"action": "import", "events": found.published or 0, "counts": found.counts}
            actor = f"operator:{services.operator_name()}"
            acted = Entry(AuditKind.OPERATOR_ACTED, services.now(), actor, app=name, details=details)
            await stores.accounts.record(writer.stamp([acted]), now=services.now())
            writer.saved(1)
    return found


def _events(batch: list[Adopted]) -> list[Message]:
    return [message(one.event, one.change) for one in batch if one.event is not None and one.change is not None]


def _print(found: _Found) -> None:
    print_table(
        f"Accounts of {found.app}",
        ("account", "becomes", "person", "why"),
        [(one.account, one.fate.value, one.person_id, one.reason or None) for one in found.first],
    )
    if (left := sum(found.counts.values()) - found.counts[Fate.LINKED] - len(found.first)) > 0:
        print_line(f"and {left} more; see --limit")
    print_line(", ".join(f"{number} {fate}" for fate, number in found.counts.items()))
    for reason, number in found.reasons.most_common():
        print_line(f"refused: {number} accounts: {reason}")
    if not found.complete:
        note("the list was incomplete (it moved while it was read, or some rows could not be read): run it again")
    if found.published is not None:
        note(f"published {found.published} events; the resolver makes the persons, the connector finds the accounts")
    elif found.counts[Fate.NEW]:
        note(f"nothing was published; with --publish {found.counts[Fate.NEW]} accounts become workers")


def _document(found: _Found) -> dict[str, Any]:
    return {
        "app": found.app,
        "complete": found.complete,
        "unreadable": found.unreadable,
        "counts": found.counts,
        "refused": dict(found.reasons),
        "published": found.published,
        "accounts": [
            {"account": one.account, "fate": one.fate.value, "person_id": one.person_id, "reason": one.reason or None}
            for one in found.first
        ],
    }
