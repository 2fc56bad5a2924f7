"""`jml accounts`: whose an account of an application is, where rules cannot say."""

from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.asking import somebody_answers
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import note, print_json, print_line, visible
from orchestrator.config import Config
from orchestrator.domain.account import takes_access
from orchestrator.errors import UserError
from orchestrator.flows import linking

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

Application = Annotated[str, typer.Argument(metavar="APP", help="The application, as the configuration calls it.")]
Person = Annotated[str, typer.Option("--person", "-p", help="The worker id.", metavar="ID")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log. No personal data, please.", metavar="TEXT")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")]


@app.callback()
def accounts() -> None:
    """Whose an account is, where rules cannot say: several could be the person's, or the wrong one was found.

    `jml parked list` shows what waits as `ambiguous_correlation`, with the ids of the candidates.

    Example: `jml accounts link crm --person 4711 --account 2819c223 --reason "confirmed by her manager"`
    """


@app.command()
def link(
    application: Application,
    person: Person,
    account: Annotated[str, typer.Option("--account", help="The account's id in the application.", metavar="ID")],
    reason: Reason = "",
    yes: Yes = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say that an account is a person's. The connector reads it back and makes it what it should be.

    The application is asked for the account first. Refused where the account is on another person's record.

    Example: `jml accounts link crm --person 4711 --account 2819c223 --reason "confirmed by her manager"`
    """
    done = run_async(_link(load(config), application, person, account, _why(reason), yes=yes))
    if as_json:
        print_json(done)
    else:
        print_line(f"the account is {person}'s; the connector makes it {done['state']} within seconds")


@app.command()
def unlink(
    application: Application,
    person: Person,
    reason: Reason = "",
    yes: Yes = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Forget which account is a person's. The account stays as it is, and the person's waits as *unlinked*.

    A newer revision, `jml parked retry` or `jml accounts link` sets it going again: without a link the connector looks
    for an account by its rules, and may find the same one.

    Example: `jml accounts unlink crm --person 4711 --reason "it is her namesake's"`
    """
    done = run_async(_unlink(load(config), application, person, _why(reason), yes=yes))
    if as_json:
        print_json(done)
    else:
        print_line(f"{person} has no account in {application} on record any more; it waits as unlinked")


def _why(reason: str) -> str:
    if not reason.strip():
        raise UserError("--reason is missing: the audit log keeps why you decided so")
    return reason


async def _link(config: Config, name: str, person: str, remote_id: str, reason: str, *, yes: bool) -> dict[str, Any]:
    services.app_names(config, name)
    async with services.application_reader(config, name) as reader:
        shown = reader.application.user(await reader.ask(reader.application.read(remote_id)))
    if shown is None or str(shown["id"]) != remote_id:
        raise UserError(f"{name} shows no account with that id: see `jml reconcile {name}` for the ids")
    async with services.reconcile_stores(config) as stores, services.operator_writer(config) as writer:
        wanted = await _wanted(stores, name, person)
        if wanted is not None and takes_access(wanted) and not yes:
            _confirm(f"{person} should have no access in {name}: the account becomes {wanted}")
        now = services.now()
        account = await linking.link(
            name,
            person,
            remote_id,
            stores.accounts,
            writer,
            operator=services.operator_name(),
            reason=reason,
            now=now,
        )
    return {"app": name, "person_id": person, "account": remote_id, "state": account.state, "reason": reason}


async def _unlink(config: Config, name: str, person: str, reason: str, *, yes: bool) -> dict[str, Any]:
    services.app_names(config, name)
    async with services.reconcile_stores(config) as stores, services.operator_writer(config) as writer:
        wanted = await _wanted(stores, name, person)
        if wanted is not None and takes_access(wanted) and not yes:
            _confirm(f"{person} should have no access in {name}: nobody closes the account any more")
        now = services.now()
        remote_id = await linking.unlink(
            name,
            person,
            stores.accounts,
            writer,
            operator=services.operator_name(),
            reason=reason,
            now=now,
        )
    return {"app": name, "person_id": person, "account": remote_id, "reason": reason}


async def _wanted(stores: services.ReconcileStores, name: str, person: str) -> Any:
    """What the person's account should be; None where there is none."""
    found = await stores.persons.named([person])
    account = found[0][1].get(name) if found else None
    return None if account is None else account.state


def _confirm(text: str) -> None:
    somebody_answers(text)
    note(visible(text))
    typer.confirm("go on?", abort=True, err=True)
