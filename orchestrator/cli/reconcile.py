"""`jml reconcile`: what an application holds against what it should hold."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.asking import somebody_answers
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import note, print_json, print_line, print_table
from orchestrator.cli.progress import Bars, Watched
from orchestrator.config import Config
from orchestrator.domain.reconcile_schedule import COMPLETE, INCOMPLETE
from orchestrator.domain.reconciliation import FIXABLE, Finding, FindingKind
from orchestrator.domain.wording import counted
from orchestrator.flows.group_drift import GroupDrift
from orchestrator.flows.listing import users
from orchestrator.flows.reconcile import Reconciliation
from orchestrator.flows.reconcile_run import ReconcileRun

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)

SHOWN_WORDS = 60
"""Characters of a value that the table shows."""


@dataclass
class _Found:
    """What a run has to tell. `first` are the findings that are shown, the counts are of all."""

    app: str
    first: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    complete: bool = True
    accounts: int = 0
    unreadable: int = 0
    calls: int = 0
    differing: int = 0
    fixable: int = 0
    takes_access: int = 0
    marked: int | None = None
    groups: int = 0
    members_readable: bool = True
    strangers: dict[str, int] = field(default_factory=dict)
    partial: dict[str, int | None] = field(default_factory=dict)


@app.command()
def reconcile(
    application: Annotated[str, typer.Argument(metavar="APP", help="The application, as the configuration calls it.")],
    fix: Annotated[
        bool, typer.Option("--fix", help="Have the connector put right what drifted or is missing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")] = False,
    limit: Annotated[int, typer.Option(help="Findings to show; the totals are of all.", min=0)] = 50,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Read everything an application holds, and say what is not as it should be.

    *drifted*: changed behind our back. *missing*: should be there and is not. *orphan*: nobody is known to have it; the
    candidates say whose it may be. *duplicate*: one more account of somebody. *member_missing*, *member_extra*: not in
    a group it should be in, or in one that we took it out of; *member_foreign*: somebody else put it into a group of
    ours. With --fix the connector looks once more at what drifted or is missing, memberships too, and puts it right on
    its lanes and within its budget; orphans, duplicates and what others granted are left to you. Each run is on record
    in the audit log. Exit code 1: something differs, or the list was incomplete.

    Example: `jml reconcile crm`, then `jml reconcile crm --fix`

    Example: `jml reconcile crm --limit 0 --json | jq .counts`
    """
    loaded = load(config)
    services.app_names(loaded, application)
    if fix and not yes:
        somebody_answers("--fix changes accounts")
    found = run_async(_reconcile(loaded, application, limit, fix=fix, yes=yes))
    if as_json:
        print_json(_document(found))
    else:
        _print(found)
    raise typer.Exit(1 if found.differing or not found.complete else 0)


async def _reconcile(config: Config, name: str, limit: int, *, fix: bool, yes: bool) -> _Found:
    found = _Found(name)
    began = services.now()
    async with (
        services.reconcile_stores(config) as stores,
        services.application_reader(config, name) as reader,
        services.operator_writer(config) as writer,
    ):
        application = reader.application
        listing = users(reader.ask, application)
        groups = GroupDrift(name, stores.accounts, reader.ask, application, began=began)
        reconciliation = Reconciliation(
            name,
            stores.accounts,
            stores.persons,
            shows=application.shows,
            began=began,
            groups=groups,
            correlation=config.correlation(name),
        )
        actor = f"operator:{services.operator_name()}"
        run = ReconcileRun(name, reconciliation, stores.accounts, stores.subjects, writer, actor=actor)
        with Bars() as bars:
            async for one in reconciliation.find(Watched(listing, bars)):
                run.take(one)
                if one.differs and len(found.first) < limit:
                    found.first.append(one)
        found.counts = {kind.value: reconciliation.counts[kind] for kind in FindingKind}
        found.complete, found.unreadable = reconciliation.complete, listing.skipped
        found.differing, found.calls, found.accounts = run.differing, reader.ask.calls, listing.received
        found.groups, found.members_readable = groups.groups, groups.readable
        found.strangers = {group: number for group, number in sorted(groups.strangers.items()) if number}
        found.partial = dict(sorted(groups.partial.items()))
        found.fixable, found.takes_access = run.accounts_to_fix
        if fix and found.fixable and (yes or _confirmed(found)):
            found.marked = await run.fix(now=services.now())
        await run.record(now=services.now(), calls=found.calls, skipped=listing.skipped)
        if found.marked is not None or not (config.apps[name].reconcile_fix and found.fixable):
            outcome = COMPLETE if found.complete else INCOMPLETE
            await stores.runs.note(name, outcome, found.counts, began_at=began, ended_at=services.now())
    return found


def _confirmed(found: _Found) -> bool:
    kinds = [f"{found.counts[kind]} {kind}" for kind in FIXABLE if found.counts[kind]]
    note(f"{found.app}: would be put right: {', '.join(kinds)}; {found.takes_access} of them lose access by it")
    return typer.confirm("go on?", err=True)


def _print(found: _Found) -> None:
    print_table(
        f"Findings in {found.app}",
        ("finding", "account", "person", "what"),
        [(one.kind.value, one.remote_id, one.person_id, _what(one)) for one in found.first],
    )
    if found.differing > len(found.first):
        print_line(f"and {found.differing - len(found.first)} more; see --limit")
    print_line(", ".join(f"{number} {kind}" for kind, number in found.counts.items()))
    if not found.complete:
        note(
            "the list was incomplete (it moved while it was read, or some rows could not be read): "
            "what is missing is not known; try again at a quieter time"
        )
    if not found.members_readable:
        note(f"{found.app} does not show who is in its groups: memberships are not compared")
    for group, shown in found.partial.items():
        told = "cannot be read, for its size perhaps" if shown is None else f"shows {shown} members and has more"
        note(f"{group} {told}: who is missing in it is not known")
    for group, number in found.strangers.items():
        print_line(f"{number} members of {group} are nobody's whom we know; they are left alone")
    if found.marked is not None:
        print_line(f"the connector will look at {counted(found.marked, 'account')} once more, within seconds")
        if left := found.fixable - found.marked:
            print_line(f"{left} were left: the connector is at work on them, or they wait for a person")
    elif found.fixable:
        note(f"--fix would put {found.fixable} right; {found.takes_access} of them lose access by it")


def _what(one: Finding) -> str:
    if one.kind in (FindingKind.ORPHAN, FindingKind.DUPLICATE):
        return ", ".join(f"maybe {each.person_id} (by {each.by})" for each in one.candidates[:3]) or "no candidate"
    return "; ".join(
        f"{path} is {_short(shown)}, should be {_short(wanted)}" for path, (shown, wanted) in one.differences.items()
    )


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= SHOWN_WORDS else f"{text[:SHOWN_WORDS]}…"


def _document(found: _Found) -> dict[str, Any]:
    return {
        "app": found.app,
        "complete": found.complete,
        "accounts": found.accounts,
        "unreadable": found.unreadable,
        "calls": found.calls,
        "counts": found.counts,
        "differing": found.differing,
        "fixable": found.fixable,
        "takes_access": found.takes_access,
        "marked": found.marked,
        "groups": {
            "members_readable": found.members_readable,
            "read": found.groups,
            "strangers": found.strangers,
            "partial": found.partial,
        },
        "findings": [
            {
                "finding": one.kind.value,
                "account": one.remote_id,
                "person_id": one.person_id,
                "takes_access": one.takes_access,
                "group": one.group,
                "differences": [
                    {"attribute": path, "shows": shown, "wanted": wanted}
                    for path, (shown, wanted) in one.differences.items()
                ],
                "candidates": [each._asdict() for each in one.candidates],
            }
            for one in found.first
        ],
    }
