"""`jml quarantine`: records that nobody could read."""

import sys
from typing import Annotated, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import moment, print_json, print_line, print_table, visible
from orchestrator.config import Config
from orchestrator.errors import UserError
from orchestrator.ports import Quarantined, QuarantineSummary

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)


@app.callback()
def quarantine() -> None:
    """Records that nobody could read, with their original bytes and the reason.

    They did not hold up the rest of the stream. Have the source send a corrected event, with a new id.

    Example: `jml quarantine list`, then `jml quarantine show hr.events 3 1042`
    """


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most that many, the newest first.")] = 50,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """The latest quarantined records, newest first.

    Example: `jml quarantine list --limit 200 --json | jq -r '.records[].code' | sort | uniq -c`
    """
    found, total = run_async(_list(load(config), limit))
    if as_json:
        print_json({"total": total, "records": found})
        return
    print_table(
        f"Quarantined records ({len(found)} of {total})",
        ("topic", "partition#", "offset#", "received", "bytes#", "code", "reason", "event"),
        [
            (
                one.topic,
                one.partition,
                one.offset,
                moment(one.received_at),
                one.bytes,
                one.code,
                one.reason,
                one.event_id,
            )
            for one in found
        ],
    )


@app.command()
def show(
    topic: Annotated[str, typer.Argument(help="The topic it came from.", metavar="TOPIC")],
    partition: Annotated[int, typer.Argument(help="Its partition.", min=0, metavar="PARTITION")],
    offset: Annotated[int, typer.Argument(help="Its offset.", min=0, metavar="OFFSET")],
    raw: Annotated[bool, typer.Option("--raw", help="Write the original bytes, and nothing else.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """One quarantined record: why, and its bytes as text with control characters escaped.

    Example: `jml quarantine show hr.events 3 1042 --raw > event.json`
    """
    record = run_async(_show(load(config), topic, partition, offset))
    if record is None:
        raise UserError(f"{topic}/{partition}/{offset} is not in quarantine; see `jml quarantine list`")
    if raw:
        sys.stdout.buffer.write(record.value or b"")
        sys.stdout.buffer.flush()
    elif as_json:
        print_json(_document(record))
    else:
        print_line(f"{record.topic}/{record.partition}/{record.offset}, received {moment(record.received_at)}")
        print_line(f"{record.code}: {record.reason}")
        print_line(f"event: {record.event_id or 'unknown'}")
        print_line(f"key:   {as_text(record.key)}")
        print_line("value: " + as_text(record.value))


async def _list(config: Config, limit: int) -> tuple[list[QuarantineSummary], int]:
    async with services.operator_store(config) as store:
        return await store.quarantined(limit=limit), (await store.status()).quarantined


async def _show(config: Config, topic: str, partition: int, offset: int) -> Quarantined | None:
    async with services.operator_store(config) as store:
        return await store.quarantined_record(topic, partition, offset)


def as_text(value: bytes | None) -> str:
    """The bytes as text that no terminal obeys; what is not UTF-8 appears as `\\xNN`."""
    return "(none)" if value is None else visible(value.decode(errors="backslashreplace"))


def _document(record: Quarantined) -> dict[str, Any]:
    shown = {name: getattr(record, name) for name in Quarantined.__slots__ if name not in ("key", "value")}
    return {
        **shown,
        "bytes": len(record.value or b""),
        "key": None if record.key is None else as_text(record.key),
        "value": None if record.value is None else as_text(record.value),
    }
