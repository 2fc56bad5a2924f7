"""Roles with auditing taken out, to measure what it costs. The benchmark's alone: no option of a role does this."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from orchestrator.cli import main
from orchestrator.flows.audit_writer import AuditWriter


@contextmanager
def unaudited() -> Iterator[None]:
    """Nothing is recorded, sealed or published for the auditor while the block runs."""

    def nothing(*_: Any) -> list[Any]:
        return []

    with patch.object(AuditWriter, "stamp", nothing), patch("orchestrator.flows.resolve.decided", nothing):
        yield


if __name__ == "__main__":
    with unaudited():
        main(sys.argv[1:])
