"""The functions that expressions have beside CEL's own, each small, pure and total.

Texts in, text out: a missing value is empty text everywhere, so that one expression serves everybody. A function that
is handed something else raises ValueError, which names the expression and never the person's value.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from anyascii import anyascii

Tables = Mapping[str, Mapping[str, str]]
"""Lookup tables by name, `[lookups.NAME]` of the configuration."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def lower(text: Any) -> str:
    """`lower("ÄRGER")` is "ärger". CEL's lowerAscii leaves letters beyond ASCII as they are."""
    return _text(text).lower()


def upper(text: Any) -> str:
    """`upper("straße")` is "STRASSE"."""
    return _text(text).upper()


def to_ascii(text: Any) -> str:
    """`ascii("Łukasz Žižek 李")` is "Lukasz Zizek Li": letters by the usual romanization of their script."""
    return anyascii(_text(text)).strip()


def slug(text: Any) -> str:
    """`slug("Jean-Luc O'Néill")` is "jean-luc.oneill": fit for the left part of an e-mail address or a user name."""
    words = re.split(r"\s+", to_ascii(text).lower())
    kept = (re.sub(r"[^a-z0-9-]", "", word).strip("-") for word in words)
    return ".".join(word for word in kept if word)


def initials(text: Any) -> str:
    """`initials("Ada Byron King")` is "ABK"."""
    return "".join(word[0] for word in _text(text).split()).upper()


def left(text: Any, count: Any) -> str:
    """`left("abcdef", 3)` is "abc"; a shorter text stays as it is. CEL's substring fails for those."""
    return _text(text)[: _whole(count)]


def default(*values: Any) -> Any:
    """`default(person.display_name, person.user_name, "unknown")` is the first that is not empty."""
    return next((value for value in values if value not in ("", None, [])), "")


def join_words(*values: Any) -> str:
    """`words(person.given_name, person.family_name)` is both with a blank between, or the one that is there."""
    return " ".join(text for text in (_text(value).strip() for value in values) if text)


def add_days(day: Any, count: Any) -> str:
    """`add_days("2026-12-30", 3)` is "2027-01-02"; of an instant, the same time of day that much later. Empty stays
    empty, and what would leave the calendar becomes empty."""
    text = _text(day)
    if not text:
        return ""
    span = timedelta(days=max(-4_000_000, min(4_000_000, _whole(count))))
    try:
        if _DAY.fullmatch(text):
            return (_date(text) + span).isoformat()
        return (_instant(text) + span).isoformat()
    except OverflowError:
        return ""


def days_between(start: Any, end: Any) -> int:
    """`days_between("2026-12-30", "2027-01-02")` is 3; negative when `end` is the earlier one."""
    return (_date(end) - _date(start)).days


def lookup_in(tables: Tables) -> Callable[..., str]:
    """`lookup("sites", person.location, "HQ")` is the row of `[lookups.sites]`, else the third value (else empty)."""

    def lookup(table: Any, key: Any, otherwise: Any = "") -> str:
        if _text(table) not in tables:
            raise ValueError("names a lookup table that is not configured")
        return tables[table].get(_text(key), _text(otherwise))

    return lookup


def library(tables: Tables) -> dict[str, Callable[..., Any]]:
    """Every function by the name that expressions use."""
    return {
        "lower": lower,
        "upper": upper,
        "ascii": to_ascii,
        "slug": slug,
        "initials": initials,
        "left": left,
        "default": default,
        "words": join_words,
        "add_days": add_days,
        "days_between": days_between,
        "lookup": lookup_in(tables),
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"is given {type(value).__name__} where text belongs")  # noqa: TRY004  # one kind of failure
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"is given {type(value).__name__} where a whole number belongs")  # noqa: TRY004  # as above
    return value


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is given text that is neither a day nor an instant") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(value: Any) -> date:
    return _instant(_text(value)).date()
