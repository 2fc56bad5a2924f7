"""`jml migrate`: accounts from one connected application to another, with their identity values kept."""

from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.account_events import Told, accounts_document, print_told, reasons_document, tell
from orchestrator.cli.asking import somebody_answers
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import note, print_json
from orchestrator.config import Config
from orchestrator.domain.carrying import KEPT
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.audit_writer import Entry
from orchestrator.flows.listing import users
from orchestrator.flows.migrate import Migration, Moved
from schemas.audit import AuditKind

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)


@app.command()
def migrate(
    old: Annotated[str, typer.Option("--from", help="The application that is given up.", metavar="APP")],
    new: Annotated[str, typer.Option("--to", help="The application that takes its place.", metavar="APP")],
    keep: Annotated[
        list[str] | None,
        typer.Option(help=f"An attribute that keeps its value; {', '.join(KEPT)} unless said.", metavar="PATH"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become of each account.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")] = False,
    limit: Annotated[int, typer.Option(help="Accounts to show; the totals are of all.", min=0)] = 20,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Carry the accounts of one connected application over to another, with the names by which people know them.

    Each account of a known person becomes an event about that person; the resolver decides the new account, and its
    connector makes it, with the kept values in place of those of the mapping. *under_way*: carried before, not done.
    *there*: has an account in the new application already, which stays as it is. *orphan*: nobody is known to have it.
    *ambiguous*: settle whose it is with `jml accounts link` first. Run it again at any time: it goes on, and nothing
    is carried twice. Exit code 1: the list was incomplete.

    Example: `jml migrate --from crm --to newcrm --dry-run`, then the same without `--dry-run`
    """
    loaded = load(config)
    for name in (old, new):
        services.app_names(loaded, name)
    if old == new:
        raise UserError(f"--from and --to are both {old}: an application is not carried over to itself")
    kept = _kept(loaded, new, keep)
    if not dry_run:
        services.real_broker(loaded)
        if not yes:
            _confirm(old, new)
    found = run_async(_migrate(loaded, old, new, kept, limit, dry_run=dry_run))
    if as_json:
        print_json({"from": old, "to": new, "keep": list(kept), **_document(found)})
    else:
        _print(old, new, found)
    raise typer.Exit(0 if found.complete else 1)


def _kept(config: Config, new: str, asked: list[str] | None) -> tuple[str, ...]:
    """The attributes to keep. What nobody maps in the new application is not written there."""
    mapped = config.apps[new].attributes
    if unmapped := sorted(set(asked or ()) - set(mapped)):
        raise UserError(f"--keep {unmapped[0]}: {new} does not map it; it maps {', '.join(sorted(mapped))}")
    return tuple(dict.fromkeys(asked)) if asked else tuple(path for path in KEPT if path in mapped)


def _confirm(old: str, new: str) -> None:
    somebody_answers("accounts would be carried over", instead="--dry-run")
    note(f"accounts of {old} get their place in {new}; --dry-run says which, and changes nothing")
    typer.confirm("go on?", abort=True, err=True)


async def _migrate(config: Config, old: str, new: str, keep: tuple[str, ...], limit: int, *, dry_run: bool) -> Told:
    now = services.now()
    actor = f"operator:{services.operator_name()}"
    async with (
        services.reconcile_stores(config) as stores,
        services.application_reader(config, old) as reader,
        services.operator_writer(config) as writer,
    ):
        policy = config.policy()
        rules = config.correlation(old)
        migration = Migration(old, new, stores.accounts, stores.persons, policy, keep=keep, now=now, correlation=rules)

        async def record(**details: Any) -> None:
            said = {"action": "migrate", "from": old, "to": new, "keep": list(keep), **details}
            at = services.now()
            acted = Entry(AuditKind.OPERATOR_ACTED, at, actor, app=new, policy=policy.digest, details=said)
            await stores.accounts.record(writer.stamp([acted]), now=at)
            writer.saved(1)

        if not dry_run:
            await record(step="began")
        listing = users(reader.ask, reader.application)
        found = await tell(config, migration, listing, limit, quiet=Moved.THERE, publish=not dry_run)
        if not dry_run:
            await record(step="ended", events=found.published, counts=found.counts, complete=found.complete)
    return found


def _print(old: str, new: str, found: Told) -> None:
    print_told(f"Accounts of {old} on their way to {new}", "fate", found)
    if found.published is not None:
        on_its_way = counted(found.published, "event is on its way", "events are on their way")
        note(f"{on_its_way}; run it again to see how many accounts are there")
    elif found.counts[Moved.CARRIED]:
        carried = counted(found.counts[Moved.CARRIED], "account is", "accounts are")
        note(f"nothing was sent; without --dry-run {carried} carried over")


def _document(found: Told) -> dict[str, Any]:
    return {
        "complete": found.complete,
        "unreadable": found.unreadable,
        "counts": found.counts,
        "reasons": reasons_document(found),
        "published": found.published,
        "accounts": accounts_document(found.first),
    }
