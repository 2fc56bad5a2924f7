"""`jml notices`: who could not be told."""

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, note, print_json, print_line, print_table
from orchestrator.config import Config
from orchestrator.domain.sealing import known_as
from orchestrator.domain.wording import counted
from orchestrator.errors import UserError
from orchestrator.flows.audit_writer import Entry
from orchestrator.ports.noticing import DeliveryView
from schemas.audit import AuditKind

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)

OPEN = ("parked", "waiting")
EVERY = (*OPEN, "delivered", "outdated")
BATCH = 500
ALL = 1_000_000


@app.callback()
def notices() -> None:
    """Notices that their receivers did not take: parked ones wait for you, waiting ones are tried again.

    Example: `jml notices list`, then `jml notices retry --all --reason "the mail server is back"`
    """


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Delivered and outdated ones too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most that many, the newest first.")] = 200,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Deliveries that are not done, one for each notice and receiver, without people's addresses.

    *outdated* ones were not sent because the end they speak of had moved. *nobody* as receiver: none is configured.

    Example: `jml notices list --json | jq '.deliveries[] | select(.status == "parked")'`
    """
    found = run_async(_listed(load(config), EVERY if everything else OPEN, limit))
    if as_json:
        print_json({"count": len(found), "deliveries": [asdict(one) for one in found]})
        return
    print_table(
        "Notices",
        ("notice", "receiver", "what", "person", "due", "status", "attempts#", "next attempt", "why"),
        [
            (
                one.key,
                one.receiver,
                one.kind if one.app is None else f"{one.kind} {one.app}",
                one.person_id,
                moment(one.due),
                one.status,
                one.attempts,
                moment(one.next_attempt_at),
                f"{one.error_code}: {one.error}" if one.error_code else None,
            )
            for one in found
        ],
    )


@app.command()
def retry(
    notice: Annotated[str | None, typer.Argument(help="Only this notice.", metavar="NOTICE")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every parked notice.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit log. No personal data, please.", metavar="TEXT")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Deliver parked notices again, at once. Who did it and why goes to the audit log, in the same transaction.

    Example: `jml notices retry ntc_0a1b2c --reason "the address is corrected"`
    """
    if everything is (notice is not None):
        raise UserError("say which notices to deliver again: NOTICE or --all, see `jml notices list`")
    done = run_async(_retry(load(config), notice, reason))
    if notice is not None and not done:
        raise UserError(f"{notice!r} has no parked delivery; see `jml notices list`")
    if as_json:
        print_json({"count": len(done), "retried": [asdict(one) for one in done]})
        return
    for one in done:
        print_line(f"{one.key} to {one.receiver}")
    note(f"{counted(len(done), 'delivery', 'deliveries')} will be tried again" if done else "nothing is parked")


async def _listed(config: Config, statuses: tuple[str, ...], limit: int) -> list[DeliveryView]:
    async with services.notice_desk(config) as desk:
        return await desk.listed(statuses=statuses, limit=limit)


async def _retry(config: Config, notice: str | None, reason: str) -> list[DeliveryView]:
    now, operator = services.now(), f"operator:{services.operator_name()}"
    done: list[DeliveryView] = []
    async with services.notice_desk(config) as desk, services.operator_writer(config) as writer:
        keys = [notice] if notice else sorted({one.key for one in await desk.listed(statuses=("parked",), limit=ALL)})
        for start in range(0, len(keys), BATCH):
            async with desk.retry() as transaction:
                taken = await transaction.take(keys[start : start + BATCH])
                subjects = await transaction.subjects([one.person_id for one in taken])
                entries = [
                    Entry(
                        AuditKind.OPERATOR_ACTED,
                        now,
                        operator,
                        known_as(subjects, one.person_id),
                        app=one.app,
                        details={"action": "retry_notice", "notice": one.kind, "reason": reason},
                        # Made of the worker id: whoever guesses that finds out that it is the right one.
                        sealed={"notice_id": one.key},
                    )
                    for one in taken
                ]
                await transaction.retried(taken, writer.stamp(entries), now=now)
            writer.saved(len(entries))
            done += taken
    return done
