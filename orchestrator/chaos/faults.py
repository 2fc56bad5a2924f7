"""An application that misbehaves: a seeded hand inside the plain server, for as long as a control file exists.

Every fault is one that real applications show and that the orchestrator promises to survive by itself, so each is
bounded: a change that is refused or ignored for ever would rightly end with a person.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson

from orchestrator.adapters.clock import SystemClock
from orchestrator.demo.servers.asgi import SCIM_JSON, error_body
from orchestrator.demo.servers.directory import Row
from orchestrator.demo.servers.plain import Plain, Request, Response
from orchestrator.errors import UserError

RATE = 0.12
"""Of the requests, while faults are on."""
STUBBORN_RATE = 0.35
"""Of the deactivations. They are few, and one that is not verified shows only where it met a fault."""
HANG_SECONDS = 3.0
"""Longer than the applications' `timeout_seconds` in a chaos run."""
LIMIT_EVERY_SECONDS = 6.0
"""A process that is asked to wait sends nothing at all: more often than this, and nothing else would be tested."""
SLOW_SECONDS = 1.2
"""Before a change is made: shorter than that, so that it is answered."""
SLOW_START_SECONDS = 2.0
STALE_SECONDS = 1.0
"""How long a replica may be behind."""
HUGE_BYTES, HUGE_ANSWERS = 50_000_000, 2
TEXT = (b"content-type", b"text/plain")
HTML = (b"content-type", b"text/html; charset=utf-8")
PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in again</body></html>"

SLOWLY = ("slow", "slow create")
_arrived: ContextVar[float] = ContextVar("arrived")
"""When the request that is being answered came in."""
AS_ASKED = ("", *SLOWLY, "False as text", "500 after commit", "409 without scimType", "wrong content type")
"""What is done as it was asked, whatever is answered."""

Deed = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Habit:
    """What may go wrong, and in which share of the requests. `only` names faults; empty: all of them."""

    only: frozenset[str] = frozenset()
    rate: float = RATE
    stubborn_rate: float = STUBBORN_RATE
    slow: float = SLOW_SECONDS

    @classmethod
    def of(cls, *only: str, rate: float, slow: float = SLOW_SECONDS) -> "Habit":
        """Just these faults."""
        return cls(frozenset(only), rate, rate, slow)


EVERYTHING = Habit()


class Unruly:
    """`plain.Behave`: answers each request, well or badly, and writes down what it really did."""

    def __init__(
        self,
        plain: Plain,
        deeds: Path,
        control: Path,
        tokens: str,
        seed: str,
        *,
        unique: bool,
        habit: Habit = EVERYTHING,
    ) -> None:
        self._plain = plain
        self._habit = habit
        self._before: dict[str, tuple[float, Row]] = {}
        self._huge = 0
        self._control = control
        self._tokens = tokens
        self._unique = unique
        self._chance = random.Random(seed)
        self._clock = SystemClock()
        self._began = self._now()
        self._limited = self._began - LIMIT_EVERY_SECONDS
        self._used: Counter[tuple[str, str]] = Counter()
        self._file = deeds.open("ab", buffering=0)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def __call__(self, request: Request) -> Response:
        """Decide, do, write down, answer; the first three without an await, so that the order is the true one."""
        _arrived.set(self._now())
        caller = self._caller(request)
        if caller is None:
            return self._noted(request, "", "", Response(401, error_body(401, "who is calling?")))
        fault = self._choose(request) if self._control.exists() else ""
        if not self._habit.only and self._control.exists() and self._now() < self._began + SLOW_START_SECONDS:
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))
        if fault in ("hang", "commit then time out"):
            answer = self._done(request, caller, fault) if fault != "hang" else self._refused(request, caller, fault)
            await asyncio.sleep(HANG_SECONDS)
            return answer
        if fault in SLOWLY:
            await asyncio.sleep(self._habit.slow)
        if fault in AS_ASKED:
            return self._done(request, caller, fault)
        return self._refused(request, caller, fault)

    # --- which fault -----------------------------------------------------------------------------------------------

    def _choose(self, request: Request) -> str:
        habit = self._habit
        user = request.path.startswith("/Users")
        stubborn = user and _deactivates(request) and not self._used["200 without effect", request.path]
        if self._chance.random() >= (habit.stubborn_rate if stubborn else habit.rate):
            return ""
        kinds = [kind for kind in self._kinds(request, user, stubborn) if not habit.only or kind in habit.only]
        chosen = self._chance.choice(kinds) if kinds else ""
        if chosen in ("404 once", "200 without effect", "stale read"):
            self._used[chosen, request.path] += 1
        if chosen == "huge answer":
            self._huge += 1
        if chosen.startswith("429"):
            self._limited = self._now()
        return chosen

    def _kinds(self, request: Request, user: bool, stubborn: bool) -> list[str]:
        """What may happen to this request; twice or more where it should happen more often."""
        kinds = ["500", "503", "hang", "html page", "html page for success", "slow", "wrong content type"]
        if self._now() >= self._limited + LIMIT_EVERY_SECONDS:
            kinds += ["429 seconds", "429 date", "429 absent"]
        if request.method != "GET":
            kinds += ["commit then time out"] * 2
            kinds += ["500 after commit"] if self._unique else []
        elif user:
            kinds += ["False as text"] * 2
            kinds += ["huge answer"] if self._huge < HUGE_ANSWERS else []
            kinds += ["stale read"] * 4 if self._stale(request) else []
        if user and request.method == "POST":
            kinds += ["409 without scimType"] * 2
            kinds += ["slow create"] if self._habit.only else []
        if user and request.method == "PATCH" and not self._used["404 once", request.path]:
            kinds += ["404 once"]
        if stubborn:
            kinds += ["200 without effect"] * 2 * len(kinds)
        return kinds

    def _stale(self, request: Request) -> Row | None:
        """The account as a replica shows it that has not heard of its last change; each account once."""
        at, row = self._before.get(_id(request), (0.0, {}))
        fresh = self._now() - at <= STALE_SECONDS and not self._used["stale read", request.path]
        return row if row and fresh else None

    # --- what it does ----------------------------------------------------------------------------------------------

    def _done(self, request: Request, caller: str, fault: str) -> Response:
        """Do what is asked; the answer may say something else."""
        id_ = _id(request)
        before = self._seen(request, id_)
        response = self._plain.handle(request)
        if not id_ and request.method == "POST" and response.status == 201:
            id_ = str(orjson.loads(response.body)["id"])
        after = self._seen(request, id_)
        if before is not None and before != after and request.path.startswith("/Users"):
            self._before[id_] = self._now(), {name: value for name, value in before.items() if name != "members"}
        if fault == "500 after commit":
            response = Response(500, error_body(500, "something went wrong"))
        elif fault == "409 without scimType" and response.status == 201:
            response = Response(409, error_body(409, "exists"))
        elif fault == "False as text":
            response = response._replace(body=_as_text(response.body))
        elif fault == "wrong content type":
            response = response._replace(headers=(TEXT,))
        return self._noted(request, caller, fault, response, before, after, id_)

    def _refused(self, request: Request, caller: str, fault: str) -> Response:
        """Do nothing; the answer may say that it was done."""
        allowed_at: float | None = None
        headers: tuple[tuple[bytes, bytes], ...] = (SCIM_JSON,)
        status, body = 503, error_body(503, "not now")
        id_ = _id(request)
        if fault == "500":
            status, body = 500, error_body(500, "something went wrong")
        elif fault.startswith("html page"):
            status, body, headers = (200 if "success" in fault else 503), PAGE, (HTML,)
        elif fault == "404 once":
            status, body = 404, error_body(404, "no such user")
        elif fault == "200 without effect":
            status, body = 200, orjson.dumps(self._plain.directory.users.rows.get(id_) or {})
        elif fault == "stale read":
            status, body = 200, orjson.dumps(self._before[id_][1])
        elif fault == "huge answer":
            status, body = 200, b"x" * HUGE_BYTES
        elif fault.startswith("429"):
            status, body = 429, error_body(429, "slow down")
            wait = self._chance.choice((1, 2))
            if fault == "429 seconds":
                allowed_at = self._now() + wait
                headers += ((b"retry-after", b"%d" % wait),)
            elif fault == "429 date":
                allowed_at = float(int(self._now()) + wait + 1)
                headers += ((b"retry-after", formatdate(allowed_at, usegmt=True).encode()),)
        before = self._seen(request, id_)
        return self._noted(
            request, caller, fault, Response(status, body, headers), before, before, id_, allowed_at=allowed_at
        )

    def _caller(self, request: Request) -> str | None:
        """Which process calls: each has a token of its own. None for a stranger."""
        prefix = f"Bearer {self._tokens}/"
        for name, value in request.headers:
            if name == b"authorization" and (text := value.decode("latin-1")).startswith(prefix):
                return text.removeprefix(prefix)
        return None

    # --- the inner witness -----------------------------------------------------------------------------------------

    def _seen(self, request: Request, id_: str) -> Mapping[str, Any] | None:
        if request.method == "GET" or not id_:
            return None
        directory = self._plain.directory
        row = (directory.users if request.path.startswith("/Users") else directory.groups).rows.get(id_)
        return None if row is None else {**row, "members": list(row.get("members", ()))}

    def _noted(
        self,
        request: Request,
        caller: str,
        fault: str,
        response: Response,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        id_: str = "",
        *,
        allowed_at: float | None = None,
    ) -> Response:
        deed: Deed = {
            "at": self._now(),
            "arrived_at": _arrived.get(),
            "caller": caller,
            "method": request.method,
            "path": request.path,
            "status": response.status,
            "fault": fault,
            "allowed_at": allowed_at,
        }
        if request.method != "GET" and request.path.startswith("/Users"):
            row = after or before or _asked(request)
            deed |= {"person": row.get("externalId", ""), "account": id_}
            deed |= {"before": _state(before), "after": _state(after)}
        elif request.method != "GET" and request.path.startswith("/Groups"):
            held, holds = ([] if row is None else row["members"] for row in (before, after))
            deed |= {"group": (after or before or _asked(request)).get("displayName", ""), "account": id_}
            deed |= {"added": sorted({*holds} - {*held}), "removed": sorted({*held} - {*holds})}
        self._file.write(orjson.dumps(deed, option=orjson.OPT_APPEND_NEWLINE))
        return response


def _id(request: Request) -> str:
    return request.path.strip("/").partition("/")[2]


def _asked(request: Request) -> Row:
    try:
        value = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _state(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {"active": bool(row.get("active", True)), "title": str(row.get("title", ""))}


def _deactivates(request: Request) -> bool:
    listed = _asked(request).get("Operations")
    return isinstance(listed, list) and any(
        isinstance(one, dict) and one.get("path") == "active" and one.get("value") is False for one in listed
    )


def _as_text(body: bytes) -> bytes:
    """The same document with booleans as Entra's older connector writes them."""
    document = orjson.loads(body)
    for row in document.get("Resources", [document]):
        if isinstance(row.get("active"), bool):
            row["active"] = str(row["active"])
    return orjson.dumps(document)


def known(faults: str) -> bool:
    """Whether anything is to go wrong. Raises UserError for a word we do not know."""
    if faults not in ("none", "all"):
        raise UserError(f"--faults takes none or all, not {faults!r}")
    return faults == "all"
