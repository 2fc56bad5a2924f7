"""What the auditor remembers of the log so that each entry is appended once: numbers, not entries.

The memory follows the number of writers, not that of entries. A snapshot beside the log spares reading all of it at
every start; it counts only where the log has the root that it names.
"""

import base64
from bisect import bisect_right
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from schemas.audit import AuditKind

SNAPSHOT = "seen.json"
OWN = "auditor@"
"""How the auditor's name as a writer begins."""


class Seen:
    """Of each writer and epoch the numbers that are in the log, as ranges; which records were rejected; and what the
    log says of the auditor's own configuration."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[str, int], list[int]] = {}
        self.rejected: set[str] = set()
        self.configuration: Mapping[str, Any] | None = None

    def add(self, writer: str, epoch: int, sequence: int) -> bool:
        """Note a number; False when it was there."""
        ranges = self._ranges.get((writer, epoch))
        if ranges is None:
            self._ranges[writer, epoch] = [sequence, sequence]
            return True
        if sequence == ranges[-1] + 1:
            ranges[-1] = sequence
            return True
        return _insert(ranges, sequence)

    def note(self, entry: Mapping[str, Any]) -> bool:
        """Note an entry of the log; False when its number was there. What only an auditor can say counts from it alone:
        through the topic anybody's entry comes, of any kind."""
        fresh = self.add(entry["writer"], entry["epoch"], entry["sequence"])
        kind, details = entry["kind"], entry.get("details")
        if not entry["writer"].startswith(OWN) or not isinstance(details, dict):
            return fresh
        if kind == AuditKind.ENTRY_REJECTED and "sha256" in details:
            self.rejected.add(details["sha256"])
            if number := details.get("number"):
                self.add(*number)
        elif kind == AuditKind.AUDIT_CONFIGURED:
            self.configuration = details
        return fresh

    def snapshot(self, size: int, root: bytes) -> bytes:
        """As a file."""
        body = orjson.dumps(
            {
                "size": size,
                "root": base64.b64encode(root).decode(),
                "writers": [[*number, ranges] for number, ranges in self._ranges.items()],
                "rejected": sorted(self.rejected),
                "configuration": self.configuration,
            }
        )
        return sha256(body).hexdigest().encode() + b"\n" + body


def load_snapshot(data: bytes | None) -> tuple[Seen, int, bytes]:
    """What the file holds, and the size and root of the log that it is of; nothing for a file that is damaged."""
    digest, _, body = (data or b"").partition(b"\n")
    seen = Seen()
    if sha256(body).hexdigest().encode() != digest:
        return seen, 0, b""
    held = orjson.loads(body)
    seen._ranges = {(writer, epoch): ranges for writer, epoch, ranges in held["writers"]}
    seen.rejected = set(held["rejected"])
    seen.configuration = held["configuration"]
    return seen, held["size"], base64.b64decode(held["root"])


def _insert(ranges: list[int], number: int) -> bool:
    """Into [first, last, first, last ...], in order and apart from each other."""
    starts, ends = ranges[::2], ranges[1::2]
    place = bisect_right(starts, number)
    if place and number <= ends[place - 1]:
        return False
    joins_left = place > 0 and ends[place - 1] + 1 == number
    joins_right = place < len(starts) and starts[place] - 1 == number
    if joins_left and joins_right:
        del ranges[2 * place - 1 : 2 * place + 1]
    elif joins_left:
        ranges[2 * place - 1] = number
    elif joins_right:
        ranges[2 * place] = number
    else:
        ranges[2 * place : 2 * place] = [number, number]
    return True
