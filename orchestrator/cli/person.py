"""`jml person`: one person over all applications."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, time
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.asking import somebody_answers
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, note, print_json, print_line, print_table, to_json
from orchestrator.cli.people import nobody
from orchestrator.config import Config
from orchestrator.domain.entitlements import grants
from orchestrator.domain.history import History
from orchestrator.domain.lifecycle import spans, standing
from orchestrator.errors import UserError
from orchestrator.flows.erase import Erased, EraseFlow
from orchestrator.ports import AccountView, PersonView

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)


@app.callback()
def person() -> None:
    """One person over all applications: what HR said, what should be, what is, and how it came to that.

    Example: `jml person show 4711`
    """


@app.command()
def show(
    person_id: Annotated[str, typer.Argument(metavar="ID", help="The worker id, as HR states it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Standing, engagements, attributes with since when, accounts, open timers, and the timeline.

    An account whose applied revision is its desired one is done. The timeline is what the audit log says, in its
    order, with the personal values that are sealed there; entries that the auditor has not written yet are missing at
    the end.

    Example: `jml person show 4711 --json | jq '.accounts[] | {app, status, error}'`
    """
    loaded = load(config)
    found = run_async(_person(loaded, person_id))
    if found is None:
        raise nobody(person_id)
    shown = document(found, loaded.time.default_zone, services.now(), loaded.time.hour)
    if as_json:
        print_json(shown)
    else:
        _print(shown)


@app.command()
def erase(
    person_id: Annotated[str, typer.Argument(metavar="ID", help="The worker id, as HR states it.")],
    reason: Annotated[
        str,
        typer.Option(help="Why, for the audit log, where it stays readable. No personal data, please.", metavar="TEXT"),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: there is no way back.")] = False,
    leave_accounts: Annotated[
        bool, typer.Option("--leave-accounts", help="Even though deactivated accounts stay in applications.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Erase a person who has left: the data in the database, and the key of what the audit log says.

    The log keeps every entry and its proofs, and names a subject that nobody can link to the person any more. It is
    refused, with every reason at once, while the person has access, while an account is not known to be closed, and
    before `[privacy] retention_days_after_end`. What topics, backups and applications still hold is in the guide,
    privacy.md. To erase somebody twice is harmless.

    Example: `jml person erase 4711 --reason "request 2026-118"`
    """
    loaded = load(config)
    if not reason.strip():
        raise UserError("--reason is empty: an auditor will ask why")
    done = run_async(_erase(loaded, person_id, reason.strip(), leave_accounts, yes=yes))
    if as_json:
        print_json({"erased": done is not None, **(asdict(done) if done else {})})
    elif done is None:
        print_line(f"nothing is kept of {person_id}: erased before, or never there")
    else:
        print_line(f"{person_id} is erased; the audit log's entries are found by the subject {done.subject}")
        for name in done.accounts_left:
            note(f"the account in {name} stays as it is: deactivated, and nobody's")


async def _erase(config: Config, person_id: str, reason: str, leave_accounts: bool, *, yes: bool) -> Erased | None:
    async with services.erasure_store(config) as store, services.operator_writer(config) as writer:
        erase = EraseFlow(store, writer, retention=config.privacy.retention, default_zone=config.time.default_zone)
        if not yes:
            if not await erase.allowed(person_id, leave_accounts=leave_accounts, now=services.now()):
                return None
            _confirm(person_id)
        return await erase(
            person_id,
            operator=services.operator_name(),
            reason=reason,
            leave_accounts=leave_accounts,
            now=services.now(),
        )


def _confirm(person_id: str) -> None:
    somebody_answers(f"this would erase {person_id} for good")
    if not typer.confirm(f"Erase {person_id} for good?", err=True):
        raise UserError("nothing was erased")


async def _person(config: Config, person_id: str) -> PersonView | None:
    async with services.operator_store(config) as store:
        return await store.person(person_id)


def document(found: PersonView, default_zone: str, now: datetime, access_ends: time | None = None) -> dict[str, Any]:
    """Everything as one JSON object."""
    engaged = spans(found.person, default_zone, access_ends=access_ends)
    at_present = standing(found.person, default_zone, now, engaged)
    decision = found.person.decision
    return {
        "id": found.person.id,
        "subject": found.subject,
        "standing": {"status": at_present.status, "since": at_present.since, "kind": at_present.kind},
        "decided": decision._asdict() if decision else None,
        "engagements": [
            {"id": one.id, "kind": one.kind, "start": one.start, "end": one.end, "ends_by": one.end_kind or None}
            for one in engaged
        ],
        "entitlements": [one._asdict() for one in grants(found.person, default_zone, access_ends)],
        "attributes": attributes_since(found.person.history, now),
        "accounts": [_account(one) for one in found.accounts],
        "timers": [one._asdict() for one in found.timers],
        "timeline": [asdict(one) for one in found.timeline],
    }


def attributes_since(history: History, now: datetime) -> dict[str, dict[str, Any]]:
    """The attributes in force at `now`, each with the instant from which it has had its value without a break."""
    attributes: dict[str, dict[str, Any]] = {}
    for statement in history.statements:
        if statement.effective > now:
            break
        for name, value in statement.values.items():
            known = attributes.get(name)
            if known is None or known["value"] != value:
                attributes[name] = {"value": value, "since": statement.effective}
    return dict(sorted(attributes.items()))


def _account(view: AccountView) -> dict[str, Any]:
    account, progress = view.account, view.progress
    return {
        "app": account.app,
        "state": account.state,
        "since": account.since,
        "status": progress.status,
        "desired_revision": account.revision,
        "applied_revision": progress.applied_revision,
        "remote_id": progress.remote_id,
        "remote_active": progress.active,
        "outcome_unknown": progress.intent is not None,
        "groups": account.groups,
        "attempts": progress.attempts,
        "error_code": progress.error_code,
        "error": progress.error,
        "next_attempt": view.attention_at,
        "event_id": account.event_id,
        "correlation_id": account.correlation_id,
        "policy": account.policy,
    }


def _print(shown: Mapping[str, Any]) -> None:
    now = shown["standing"]
    print_line(f"{shown['id']}: {now['status']} since {moment(now['since'])}, {now['kind']}")
    print_table(
        "Engagements",
        ("id", "kind", "start", "end", "ends by"),
        [
            (one["id"], one["kind"], moment(one["start"]), moment(one["end"]), one["ends_by"])
            for one in shown["engagements"]
        ],
    )
    if shown["entitlements"]:
        print_table(
            "Temporary entitlements",
            ("application", "group", "start", "end"),
            [(one["app"], one["group"], moment(one["start"]), moment(one["end"])) for one in shown["entitlements"]],
        )
    print_table(
        "Attributes",
        ("attribute", "value", "since"),
        [(name, one["value"], moment(one["since"])) for name, one in shown["attributes"].items()],
    )
    print_table(
        "Accounts",
        ("application", "should be", "status", "desired#", "applied#", "remote id", "attempts#", "next look", "error"),
        [
            (
                one["app"],
                one["state"],
                one["status"] + (", outcome unknown" if one["outcome_unknown"] else ""),
                one["desired_revision"],
                one["applied_revision"],
                one["remote_id"],
                one["attempts"],
                moment(one["next_attempt"]),
                f"{one['error_code']}: {one['error']}" if one["error_code"] else None,
            )
            for one in shown["accounts"]
        ],
    )
    print_table(
        "Open timers",
        ("due", "kind", "because of", "rule"),
        [(moment(one["due"]), one["kind"], one["event_id"], one["rule"]) for one in shown["timers"]],
    )
    print_table(
        "Timeline",
        ("position#", "at", "what", "application", "revision#", "details"),
        [
            (
                one["position"],
                moment(one["at"]),
                one["kind"],
                one["app"],
                one["revision"],
                " ".join(to_json(one[name]) for name in ("details", "values") if one[name]) or None,
            )
            for one in shown["timeline"]
        ],
        empty="nothing in the audit log yet",
    )
