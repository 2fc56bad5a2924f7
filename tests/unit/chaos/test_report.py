"""The report of a chaos run."""

from dataclasses import replace

from orchestrator.bench.quantiles import quantile
from orchestrator.chaos.evidence import Blow
from orchestrator.chaos.page import page
from orchestrator.chaos.report import Outcome, figures
from tests.unit.chaos.good_run import GOOD, at


def test_the_report_escapes_what_it_shows_and_needs_nothing_else() -> None:
    struck = replace(
        GOOD, blows=[Blow("kill", "<script>-1", at(21), at(23)), Blow("disk", "auditor-1", at(24), at(30))]
    )
    outcome = Outcome(1, struck, ["one_account: <script>"], at(0), at(24.5), at(50), 1.0)
    found = figures(outcome, "jml chaos run --seed 1")
    assert (found["calls"], found["faults"]) == (8, {"429 seconds": 1})
    assert found["deprovision_troubled"]["from_received"]["max"] == 20.0
    assert found["deprovision_calm"]["from_received"] == {"measured": 0}
    shown = page(outcome, found)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert not [address for address in ("http://", "https://", "src=", "href=") if address in shown]


def test_quantiles_are_values_that_were_measured() -> None:
    assert [quantile([1, 2, 3, 4], share) for share in (0.25, 0.5, 0.51, 0.99, 1.0)] == [1, 2, 3, 4, 4]
