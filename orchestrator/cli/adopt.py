"""`jml import`: persons out of the accounts of an application that was filled before."""

from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.account_events import Told, accounts_document, print_told, tell
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import note, print_json
from orchestrator.config import Config
from orchestrator.domain.paths import split_path
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.adopt import Adoption, Fate
from orchestrator.flows.audit_writer import Entry
from orchestrator.flows.listing import users
from schemas.audit import AuditKind

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)


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
        print_json(_document(application, found))
    else:
        _print(application, found)


async def _import(
    config: Config, name: str, path: tuple[str, ...], limit: int, *, publish: bool, with_inactive: bool
) -> Told:
    now = services.now()
    async with (
        services.reconcile_stores(config) as stores,
        services.application_reader(config, name) as reader,
        services.operator_writer(config) as writer,
    ):
        adoption = Adoption(
            name,
            stores.accounts,
            stores.persons,
            worker_id=path,
            with_inactive=with_inactive,
            now=now,
            correlation=config.correlation(name),
        )
        listing = users(reader.ask, reader.application)
        found = await tell(config, adoption, listing, limit, quiet=Fate.LINKED, publish=publish)
        if publish:
            details = {"action": "import", "events": found.published or 0, "counts": found.counts}
            actor = f"operator:{services.operator_name()}"
            acted = Entry(AuditKind.OPERATOR_ACTED, services.now(), actor, app=name, details=details)
            await stores.accounts.record(writer.stamp([acted]), now=services.now())
            writer.saved(1)
    return found


def _print(app: str, found: Told) -> None:
    print_told(f"Accounts of {app}", "becomes", found)
    if found.published is not None:
        note(
            f"published {counted(found.published, 'event')}; the resolver makes the persons, "
            "the connector finds the accounts"
        )
    elif found.counts[Fate.NEW]:
        become = counted(found.counts[Fate.NEW], "account becomes a worker", "accounts become workers")
        note(f"nothing was published; with --publish {become}")


def _document(app: str, found: Told) -> dict[str, Any]:
    return {
        "app": app,
        "complete": found.complete,
        "unreadable": found.unreadable,
        "counts": found.counts,
        "refused": {reason: number for (fate, reason), number in found.reasons.items() if fate == Fate.REFUSED},
        "published": found.published,
        "accounts": accounts_document(found.first),
    }
