"""`jml lag`: how far each role is behind."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli import services
from orchestrator.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load, run_async
from orchestrator.cli.output import duration, print_json, print_table

if TYPE_CHECKING:
    from orchestrator.adapters.lag import PartitionLag

app = typer.Typer(rich_markup_mode="markdown", add_completion=False)


@app.command()
def lag(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """How far each role is behind, by consumer group, topic and partition, in messages and seconds.

    Seconds are the age of the oldest message that the group has not finished. The groups need not be running: nothing
    joins them. In the table partitions without lag are summed up, with `--json` each one is there.

    Example: `jml lag --json | jq '.groups[] | select(.seconds > 60)'`
    """
    found = run_async(services.lag(load(config)))
    if as_json:
        print_json(document(found))
        return
    print_table(
        "Lag",
        ("group", "topic", "partition", "messages#", "behind#"),
        _rows(found),
        empty="no topics yet, see `jml topics create`",
    )


def document(found: "Iterable[PartitionLag]") -> dict[str, Any]:
    """Every partition, and the sums of each group."""
    groups: dict[str, dict[str, Any]] = {}
    for one in found:
        group = groups.setdefault(one.group, {"group": one.group, "messages": 0, "seconds": 0.0, "partitions": []})
        group["messages"] += one.messages
        group["seconds"] = max(group["seconds"], one.seconds or 0.0)
        group["partitions"].append(one)
    return {"messages": sum(one["messages"] for one in groups.values()), "groups": list(groups.values())}


def _rows(found: "Iterable[PartitionLag]") -> list[tuple[object, ...]]:
    current: dict[tuple[str, str], int] = {}
    behind: dict[tuple[str, str], list[tuple[object, ...]]] = {}
    for one in found:
        key = one.group, one.topic
        current.setdefault(key, 0)
        if one.messages:
            behind.setdefault(key, []).append((*key, one.partition, one.messages, duration(one.seconds)))
        else:
            current[key] += 1
    rows: list[tuple[object, ...]] = []
    for key, partitions in current.items():
        rows.extend(behind.get(key, ()))
        if partitions:
            rows.append((*key, "the others" if key in behind else f"all {partitions}", 0, "-"))
    return rows
