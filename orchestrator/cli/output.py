"""What commands print: tables for people, one JSON document for programs, everything else on standard error.

Names, reasons and records come from outside. They are never interpreted: not as markup, and not by the terminal.
"""

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

WIDE = 200
"""Columns where standard output is no terminal: a pipe should not get lines that are folded at 80."""

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(to_json(document, indent=True) + "\n")


def to_json(document: Any, *, indent: bool = False) -> str:
    """JSON with instants in UTC; dataclasses become objects."""
    option = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(document, default=_other, option=option).decode()


def _other(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    raise TypeError


def note(text: str) -> None:
    """A line for people on standard error."""
    sys.stderr.write(text + "\n")


def visible(text: str) -> str:
    """The text with every character that a terminal would obey, or that hides others, written as an escape.

    Control characters could repaint the operator's screen; bidirectional overrides show one name as another.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(one) if one in _BIDI or unicodedata.category(one) in _HIDDEN else one for one in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def moment(instant: datetime | None) -> str:
    """An instant for people, in UTC to the second."""
    return instant.strftime("%Y-%m-%d %H:%M:%SZ") if instant is not None else "-"


def duration(seconds: float | None) -> str:
    """A length of time for people."""
    if seconds is None:
        return "?"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "none") -> None:
    """A table; columns whose names end in `#` hold numbers. Without rows, the title and `empty` on one line."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if not rows:
        print_line(f"{title}: {empty}")
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name.rstrip("#"), justify="right" if name.endswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else visible(str(cell))) for cell in row))
    _console().print(table)


def print_line(text: str) -> None:
    """A line for people on standard output."""
    sys.stdout.write(visible(text) + "\n")


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
