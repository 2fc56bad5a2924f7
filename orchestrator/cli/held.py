"""`jml held`: what the breaker keeps from being done until a person decides."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.asking import somebody_answers
from orchestrator.cli.options import DEFAULT_CONFIG, AppName, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, note, print_json, print_line, print_table
from orchestrator.config import Config
from orchestrator.domain.breaker import Held
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.holding import reject as reject_held
from orchestrator.flows.holding import release as release_held

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

Source = Annotated[
    str | None, typer.Option("--source", help="Only what this event source caused, as in `jml held list`.", metavar="S")
]
Person = Annotated[str | None, typer.Option("--person", help="Only this person.", metavar="ID")]
Everything = Annotated[bool, typer.Option("--all", help="Everything that is held, in every application.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit log. No personal data, please.", metavar="TEXT")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")]


@app.callback()
def held() -> None:
    """Commands that take access away and wait for you: more of them came than the breaker lets pass.

    Look at what they have in common. If it is a mistake, have it put right at its source, or reject them; if it is
    meant, release them. Everything else goes on meanwhile.

    Example: `jml held list --app directory`, then `jml held release --app directory --reason "branch closed, HR-1142"`
    """


@app.command("list")
def list_(
    config: ConfigPath = DEFAULT_CONFIG,
    application: AppName = None,
    source: Source = None,
    rejected: Annotated[bool, typer.Option(help="What was rejected and still stands, instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Everything that is held, what waits longest first.

    Example: `jml held list --source hr/workday --json | jq .count`
    """
    loaded = load(config)
    found = run_async(_held(loaded, application, source, None, rejected=rejected))
    if as_json:
        print_json({"count": len(found), "held": _documents(found)})
        return
    print_table(
        "Rejected commands" if rejected else "Held commands",
        ("person", "application", "would", "because of", "held since", "revision#"),
        [
            (
                one.account.person_id,
                one.account.app,
                f"remove groups ({one.account.state})" if one.removal == "groups" else one.removal,
                one.source,
                moment(one.held_at),
                one.account.revision,
            )
            for one in found
        ],
    )


@app.command()
def release(
    config: ConfigPath = DEFAULT_CONFIG,
    person: Person = None,
    application: AppName = None,
    source: Source = None,
    everything: Everything = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Do what was held after all: on the same lanes, within the same budgets as any deprovisioning.

    Who did it ($JML_OPERATOR, or the login name) and why goes to the audit log, in the same transaction. With
    --person, a command that was rejected is released as well.

    Example: `jml held release --person 4711 --app directory --reason "confirmed by HR"`
    """
    loaded = load(config)
    done = run_async(_decide(loaded, "release", application, source, person, everything, reason, yes=yes))
    _report("released", done, as_json)


@app.command()
def reject(
    config: ConfigPath = DEFAULT_CONFIG,
    person: Person = None,
    application: AppName = None,
    source: Source = None,
    everything: Everything = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Do not do it: the accounts stay as they are until a newer decision comes.

    The same decision said again, by a nightly export for instance, has no effect; that the person leaves on another
    day, or is urgently ended by an operator, has.

    Example: `jml held reject --source hr/workday --reason "empty export by mistake, INC-77"`
    """
    loaded = load(config)
    done = run_async(_decide(loaded, "reject", application, source, person, everything, reason, yes=yes))
    _report("rejected", done, as_json)


async def _held(
    config: Config, application: str | None, source: str | None, person: str | None, *, rejected: bool
) -> list[Held]:
    services.app_names(config, application)
    async with services.operator_store(config) as store:
        return await store.held(app=application, source=source, person_id=person, rejected=rejected)


async def _decide(
    config: Config,
    what: str,
    application: str | None,
    source: str | None,
    person: str | None,
    everything: bool,
    reason: str,
    *,
    yes: bool,
) -> list[Held]:
    if not reason.strip():
        raise UserError("--reason is missing: the audit log keeps why you decided so")
    chosen_by = [one for one in (application, source, person) if one is not None]
    if everything == bool(chosen_by):
        raise UserError(f"say what to {what}: --person, --app, --source, or --all alone")
    services.app_names(config, application)
    now, operator = services.now(), services.operator_name()
    async with services.operator_store(config) as store, services.operator_writer(config) as writer:
        chosen = await store.held(app=application, source=source, person_id=person)
        if what == "release" and person is not None:
            chosen += await store.held(app=application, source=source, person_id=person, rejected=True)
        if not chosen:
            raise UserError("nothing of that kind is held; see `jml held list`")
        if not yes:
            _confirm(what, chosen)
        if what == "release":
            return await release_held(store, chosen, writer, config.policy(), operator=operator, reason=reason, now=now)
        return await reject_held(store, chosen, writer, operator=operator, reason=reason, now=now)


def _confirm(what: str, chosen: Sequence[Held]) -> None:
    """One is named exactly; of more the operator confirms how many."""
    if len(chosen) == 1:
        return
    somebody_answers(f"this would {what} {counted(len(chosen), 'command')}")
    people = len({one.account.person_id for one in chosen})
    typer.confirm(
        f"{what} {counted(len(chosen), 'command')} of {counted(people, 'person', 'people')}?", abort=True, err=True
    )


def _report(done_what: str, done: Sequence[Held], as_json: bool) -> None:
    if as_json:
        print_json({"count": len(done), done_what: _documents(done)})
        return
    for one in done:
        print_line(f"{one.account.person_id} in {one.account.app}: {one.removal} {done_what}")
    note(f"{counted(len(done), 'command')} {done_what}")


def _documents(found: Sequence[Held]) -> list[dict[str, Any]]:
    return [
        {
            "person_id": one.account.person_id,
            "app": one.account.app,
            "command": one.kind,
            "removes": one.removal,
            "state": one.account.state,
            "source": one.source,
            "held_at": one.held_at,
            "effective_at": one.effective_at,
            "rejected_at": one.rejected_at,
            "revision": one.account.revision,
            "event_id": one.account.event_id,
            "correlation_id": one.account.correlation_id,
            "policy": one.account.policy,
        }
        for one in found
    ]
