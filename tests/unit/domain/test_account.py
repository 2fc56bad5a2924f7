"""What a change of an account is called, in which lane it goes, and what takes access away."""

from datetime import UTC, datetime
from typing import get_args

import pytest

from orchestrator.domain.account import Account, command_kind, lane, takes_access
from schemas.commands import CommandKind, DesiredState

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "state", "kind"),
    [
        (None, "active", "create"),
        (None, "staged", "create"),
        (None, "inactive", "deactivate"),
        (None, "absent", "delete"),
        ("absent", "active", "create"),
        ("absent", "staged", "create"),
        ("active", "active", "patch"),
        ("active", "staged", "deactivate"),
        ("active", "inactive", "deactivate"),
        ("active", "absent", "delete"),
        ("inactive", "active", "reactivate"),
        ("inactive", "staged", "patch"),
        ("inactive", "inactive", "deactivate"),
        ("inactive", "absent", "delete"),
        ("staged", "active", "reactivate"),
        ("staged", "staged", "patch"),
        ("staged", "inactive", "deactivate"),
    ],
)
def test_what_a_change_is_called(before: DesiredState | None, state: DesiredState, kind: CommandKind) -> None:
    known = None if before is None else Account("ada", "crm", 1, before, {}, (), NOW, "hr#1", "c", "p")
    assert command_kind(known, state) == kind
    assert (lane(kind) == "deprovision") is (kind in ("deactivate", "delete"))


def test_who_must_not_have_access_is_a_leaver() -> None:
    """Whatever is a leaver's goes first, is never held up by a limit of attempts, and counts only when it was read."""
    assert {state for state in get_args(DesiredState) if takes_access(state)} == {"inactive", "absent"}
