"""What a reconciliation says of its findings before anything is put right."""

from typing import Any, cast

from orchestrator.domain.reconciliation import Finding, FindingKind
from orchestrator.flows.reconcile_run import ReconcileRun


def test_accounts_are_counted_and_not_what_differs_of_them() -> None:
    """An operator confirms a number of people."""
    nothing = cast(Any, None)
    run = ReconcileRun("crm", nothing, nothing, nothing, nothing, actor="operator:nina")
    for group in ("staff", "sales"):
        run.take(
            Finding(FindingKind.MEMBER_EXTRA, "1", "ada", {f"groups[{group}]": ("member", "no member")}, group=group)
        )
        run.take(Finding(FindingKind.MEMBER_MISSING, "2", "bea", {}, group=group))
    run.take(Finding(FindingKind.DRIFTED, "1", "ada", {"active": (True, False)}))
    run.take(Finding(FindingKind.MISSING, "2", "bea"))
    run.take(Finding(FindingKind.ORPHAN, "3"))
    run.take(Finding(FindingKind.DUPLICATE, "4", "cyd"))
    assert run.accounts_to_fix == (2, 1)
    assert len(run.fixable) == 6
