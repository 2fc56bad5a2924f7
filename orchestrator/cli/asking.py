"""Asking before something is done that cannot be taken back, and saying so where nobody is there to answer."""

import sys

from orchestrator.errors import UserError


def somebody_answers(what: str, *, instead: str = "") -> None:
    """Raises UserError where standard input is no terminal. `what` is not done then; `instead` is another way out."""
    if not sys.stdin.isatty():
        other = f", or {instead}" if instead else ""
        raise UserError(f"{what}: add --yes to confirm where nobody can be asked{other}")
