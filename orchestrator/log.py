"""structlog, with an allowlist: a key that is not named here never reaches a log line.

Logs are read by many and kept for long, so personal data and secrets stay out by construction: free text comes from
our own messages only, and identifiers are the worker's number, never a name or an address.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

SELDOM_SECONDS = 30.0
MOST_SAID = 1000

ALLOWED = frozenset(
    {
        "accounts",
        "answered",
        "app",
        "attempt",
        "channel",
        "code",
        "correlation_id",
        "entries",
        "error",
        "event",
        "exc_info",
        "exception",
        "fired",
        "group",
        "level",
        "messages",
        "notices",
        "person_id",
        "port",
        "problems",
        "reason",
        "record",
        "records",
        "role",
        "roles",
        "segments",
        "timestamp",
        "witness",
    }
)


def configure(level: str = "info", stream: TextIO | None = None, *, json: bool = True) -> None:
    """Send logs to `stream` (standard error): JSON lines for machines, or lines for people."""
    renderer: Any = structlog.processors.JSONRenderer(sort_keys=True) if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            allow,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Standard error as it is at that moment: a command that ran inside another program may leave with its own.
        logger_factory=lambda *_: structlog.PrintLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard module: their warnings matter, their chatter does not.
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Seldom())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], format="%(levelname)s %(name)s %(message)s")
    for noisy in ("aiokafka", "apscheduler", "cel", "httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


class Seldom(logging.Filter):
    """What a library says again and again is passed on twice a minute: a client whose broker is down says it many times
    a second, and hides what the operator should read."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`. The same is what has the same text before its values are put in."""
        what = record.name, str(record.msg)
        said = self._said.get(what)
        if said is not None and 0 <= record.created - said < SELDOM_SECONDS:
            return False
        if len(self._said) >= MOST_SAID:  # texts that are put together before they are logged
            self._said.clear()
        self._said[what] = record.created
        return True


def allow(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every key that is not allowed, and say which, so that the omission is noticed in development."""
    dropped = sorted(event.keys() - ALLOWED)
    for key in dropped:
        del event[key]
    if dropped:
        event["problems"] = f"dropped keys: {', '.join(dropped)}"
    return event
