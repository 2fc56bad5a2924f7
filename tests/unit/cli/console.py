"""What a test sees of a command that it ran."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
NOBODY = "127.0.0.1:1"
"""An address at which nothing listens."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it should be."""
        return orjson.loads(self.out)

    def refused(self, *words: str) -> None:
        """One line on standard error with these words, exit code 2, nothing on standard output."""
        assert self.code == 2, self
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("jml: ")
        for word in words:
            assert word in line


Jml = Callable[..., Result]
