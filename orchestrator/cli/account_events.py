"""What `jml import` and `jml migrate` have in common: an application is read, and events come of its accounts."""

from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.cli import services
from orchestrator.cli.event_lines import message
from orchestrator.cli.output import note, print_line, print_table
from orchestrator.cli.progress import Bars, Watched
from orchestrator.config import Config
from orchestrator.domain.wording import counted
from orchestrator.flows.account_events import AccountEvents, Judged
from orchestrator.flows.listing import Listing


@dataclass
class Told:
    """What became of the accounts. `first` are those that are shown, the counts are of all."""

    quiet: StrEnum
    """The fate of which nothing is to be told but how many had it."""
    first: list[Judged] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    complete: bool = True
    unreadable: int = 0
    published: int | None = None
    """Events; None where nothing was to be published."""


async def tell(
    config: Config, reading: AccountEvents, listing: Listing, limit: int, *, quiet: StrEnum, publish: bool
) -> Told:
    """Read the application to its end; with `publish`, each batch is published before the next is read. Raises
    ScimError and BrokerUnavailable."""
    told = Told(quiet, published=0 if publish else None)
    async with services.publisher(config) if publish else nullcontext() as publisher:
        with Bars() as bars:
            async for batch in reading.find(Watched(listing, bars)):
                told.reasons.update((one.fate.value, one.reason) for one in batch if one.reason)
                shown = [one for one in batch if one.fate is not quiet]
                told.first += shown[: limit - len(told.first)]
                if publisher is not None:
                    events = [message(one.event, one.change) for one in batch if one.event and one.change]
                    await publisher.publish(events)
                    told.published = (told.published or 0) + len(events)
    told.counts = {fate.value: reading.counts[fate] for fate in type(quiet)}
    told.complete, told.unreadable = listing.complete and not listing.skipped, listing.skipped
    return told


def print_told(title: str, fate: str, told: Told) -> None:
    """For people; `fate` heads the column that says what becomes of an account."""
    shown = [(one.account, one.fate.value, one.person_id, one.reason or None) for one in told.first]
    if shown or not any(told.counts.values()):
        print_table(title, ("account", fate, "person", "why"), shown)
    if (left := sum(told.counts.values()) - told.counts[told.quiet] - len(told.first)) > 0:
        print_line(f"and {left} more; see --limit")
    print_line(", ".join(f"{number} {fate}" for fate, number in told.counts.items()))
    for (fate, reason), number in told.reasons.most_common():
        print_line(f"{fate}: {counted(number, 'account')}: {reason}")
    if not told.complete:
        note("the list was incomplete (it moved while it was read, or some rows could not be read): run it again")


def reasons_document(told: Told) -> list[dict[str, Any]]:
    """Why accounts have their fate, and how many, for programs."""
    return [{"fate": fate, "reason": why, "accounts": number} for (fate, why), number in told.reasons.items()]


def accounts_document(accounts: Iterable[Judged]) -> list[dict[str, Any]]:
    """The accounts that are shown, for programs."""
    return [
        {"account": one.account, "fate": one.fate.value, "person_id": one.person_id, "reason": one.reason or None}
        for one in accounts
    ]
