"""What libraries log through the standard module."""

import logging

import pytest

from orchestrator import log
from orchestrator.log import Seldom


def record(text: str, at: float, *values: object) -> logging.LogRecord:
    made = logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, values, None)
    made.created = at
    return made


def test_what_is_said_again_and_again_is_passed_on_twice_a_minute() -> None:
    seldom = Seldom()
    told = [at for at in range(100) if seldom.filter(record("Unable to connect to %s", at, f"node {at}"))]
    assert told == [0, 30, 60, 90]


def test_something_else_is_passed_on_at_once_and_so_is_everything_when_the_clock_was_put_back() -> None:
    seldom = Seldom()
    assert seldom.filter(record("one", 100))
    assert seldom.filter(record("another", 100))
    assert not seldom.filter(record("one", 101))
    assert seldom.filter(record("one", 50))


def test_texts_without_end_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_SAID", 10)
    seldom = Seldom()
    for number in range(100):
        assert seldom.filter(record(f"node {number}", 0))
    assert len(seldom._said) <= 10
