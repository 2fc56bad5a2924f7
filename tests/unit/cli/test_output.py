"""What is printed: escaped where it came from outside, in units that people use."""

import pytest

from orchestrator.cli.output import duration, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]text[/]", "plain [bold]text[/]"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[2J\x00\x7f\x9b", r"\x1b[2J\x00\x7f\x9b"),
        ("\u202eevil", r"\u202eevil"),
        ("נור حسن Ådám 🙂", "נור حسن Ådám 🙂"),
        ("می‌خواهم", "می‌خواهم"),
        ("\u2028", r"\u2028"),
    ],
)
def test_text_from_outside_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "?"), (0.04, "0.0 s"), (119, "119.0 s"), (120, "2 min"), (7200, "2 h"), (604800, "7 d")],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
