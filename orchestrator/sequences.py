"""Whether writers' numbers are complete: shared by those who judge a run from its audit stream."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SHOWN = 10


def faults_of_sequences(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each writer and epoch whose entries are not numbered from 1, each number once."""
    numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
    for entry in entries:
        numbers[entry["writer"], entry["epoch"]].append(entry["sequence"])
    for (writer, epoch), found in numbers.items():
        missing = sorted({*range(1, max(found) + 1)} - {*found})
        if missing:
            yield f"{writer} epoch {epoch} misses {missing[:SHOWN]} of {max(found)}"
        if len(found) > len({*found}):
            yield f"{writer} epoch {epoch} has an entry twice"
