"""One thing is not said as if it were many."""

from orchestrator.domain.wording import counted


def test_a_number_and_its_noun_agree() -> None:
    assert [counted(number, "event") for number in (0, 1, 2)] == ["0 events", "1 event", "2 events"]
    assert counted(1, "entry", "entries") == "1 entry"
    assert counted(11, "entry", "entries") == "11 entries"
