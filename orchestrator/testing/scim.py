"""A SCIM server in memory with a journal of its own, and the network between it and a process.

The journal is what a run is judged by: it is written by the server when something happens there, whatever the client
is told. Faults are drawn per call by a `Temper`; the server itself is honest, apart from habits that real ones have
(`Habits`).
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Hashable
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal, Protocol

import orjson

from orchestrator.demo.servers.patching import ScimError, apply, matches, operations, parse_filter
from orchestrator.errors import Ambiguous, ApplicationDown, Unavailable
from orchestrator.ports import ScimRequest, ScimResponse

Fate = Literal[
    "served",
    "refused",  # nobody listens
    "lost",  # time-out, and it never arrives
    "late",  # time-out, and it arrives after that
    "unanswered",  # it is done, and the answer is lost
    "again",  # it is done, the answer is lost, and after the time-out a proxy sends it once more
    "twice",  # a proxy sends it again; the second answer is the one that comes, late
    "reset",  # it is done, and the connection breaks before the answer
    "cut",  # the connection breaks before it has arrived
    "failed",  # it is done, and answered with `status`
    "error",  # answered with `status`, not done
    "page",  # the same, with a page for people
    "ineffective",  # answered with success, not done
    "halfway",  # of a Bulk request the first half is done and answered, the rest is neither
    "patchy",  # a Bulk request is done, and the answer leaves every second operation out
]


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one call. `arrives` and `answered` are seconds of network; `status` and what follows are for
    `error`, `failed` and `page`."""

    fate: Fate = "served"
    arrives: float = 0.0
    answered: float = 0.0
    late: float = 0.0
    status: int = 503
    retry_after: int | str | None = None
    body: dict[str, Any] | None = None


class Temper(Protocol):
    """Draws the fate of every call."""

    def plan(self, request: ScimRequest) -> Plan:
        """The fate of one call."""
        ...

    def staleness(self) -> float:
        """How old the picture is that a read shows, in seconds."""
        ...


class Even:
    """Every call is served at once."""

    def plan(self, request: ScimRequest) -> Plan:
        """See `Temper`."""
        return Plan()

    def staleness(self) -> float:
        """See `Temper`."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Habits:
    """What a server always does. Without `unique` it takes a second account of the same name."""

    unique: bool = True
    names_conflicts: bool = True
    speaks_text: bool = False
    timeout: float = 8.0


@dataclass(frozen=True, slots=True)
class State:
    """One account as the server holds it."""

    id: str
    person: str
    active: bool
    title: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the journal: a call that was carried out (or refused with a status) by the server."""

    at: float
    sent_at: float
    caller: str
    method: str
    path: str
    status: int
    before: State | None = None
    after: State | None = None
    members: tuple[str, ...] = ()

    @property
    def person(self) -> str | None:
        """Whom it was about."""
        state = self.after or self.before
        return state.person if state else None

    @property
    def changed(self) -> bool:
        """Whether the account is not as it was."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Wish:
    """The server asked `caller`, who heard it at `heard_at`, not to call before `until`."""

    caller: str
    heard_at: float
    until: float
    by_clock: bool = False
    """Whether it named the instant, which the caller takes by its own clock."""


@dataclass(slots=True)
class Span:
    """A change of one account under way, as its sender sees it; `ended` stays open when the sender dies."""

    caller: str
    person: str
    began: float
    ended: float = float("inf")


Version = tuple[float, dict[str, Any] | None]


@dataclass
class MemoryScim:
    """One application. `clock` tells the machine's time, for a Retry-After that is a date."""

    clock: Callable[[], datetime]
    habits: Habits = field(default_factory=Habits)
    temper: Temper = field(default_factory=Even)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    journal: list[Call] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    sent: list[tuple[float, str]] = field(default_factory=list)
    """When which process sent a call, arrived or not."""
    spans: list[Span] = field(default_factory=list)
    token: str = ""
    """What its callers sign in with; with one, errors quote it, and what was asked."""

    def __post_init__(self) -> None:
        self.context = copy_context()
        self._versions: dict[str, list[Version]] = {}
        self._numbers = 0

    def transport(self, caller: Hashable) -> "MemoryScimTransport":
        """The way of one process to this server."""
        return MemoryScimTransport(self, str(caller))

    def create(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Add a user, as an administrator would."""
        self._numbers += 1
        row = {**_copy(resource), "id": f"u{self._numbers}"}
        row.setdefault("active", True)
        self.users[row["id"]] = row
        self._remember(row["id"])
        return row

    def state(self, user_id: str) -> State | None:
        """One account as it is."""
        row = self.users.get(user_id)
        if row is None:
            return None
        active = row.get("active", True)
        member_of = frozenset(
            group["displayName"]
            for group in self.groups.values()
            if any(member["value"] == user_id for member in group.get("members", []))
        )
        person = str(row.get("externalId") or row.get("userName"))
        return State(user_id, person, active in (True, "True", "true"), str(row.get("title", "")), member_of)

    def person(self, request: ScimRequest) -> str:
        """Whose account a call is about; empty where it is about no single one."""
        if request.path == "/Users" and request.body:
            return str(request.body.get("externalId"))
        state = self.state(request.path.removeprefix("/Users/"))
        return state.person if state else ""

    # --- serving --------------------------------------------------------------------------------------------------

    def serve(
        self, request: ScimRequest, caller: str, sent_at: float, *, effective: bool = True, fate: Fate = "served"
    ) -> ScimResponse:
        """Carry one call out and write it into the journal; of a Bulk request each operation as a call of its own."""
        if request.path == "/Bulk":
            return self._serve_all(request, caller, sent_at, effective, fate)
        user_id = request.path.removeprefix("/Users/") if request.path.startswith("/Users/") else ""
        before = self.state(user_id)
        kept = (_copy(self.users), _copy(self.groups)) if not effective else None
        members: tuple[str, ...] = ()
        try:
            response = self._answer(request)
        except ScimError as error:
            response = self._refusal(error, request)
        if kept is not None:
            self.users, self.groups = kept
        if request.method == "POST" and response.body and request.path == "/Users" and response.status == 201:
            user_id = response.body["id"]
        if request.path.startswith("/Groups/"):
            members = self._members(request)
        if request.method != "GET" and user_id:
            self._remember(user_id)
        now = asyncio.get_running_loop().time()
        self.journal.append(
            Call(
                now,
                sent_at,
                caller,
                request.method,
                request.path,
                response.status,
                before,
                self.state(user_id),
                members,
            )
        )
        return response

    def _serve_all(
        self, request: ScimRequest, caller: str, sent_at: float, effective: bool, fate: Fate
    ) -> ScimResponse:
        rows: list[dict[str, Any]] = []
        operations = list(zip(_operations(request), singles(request), strict=True))
        for one, single in operations[: len(operations) // 2] if fate == "halfway" else operations:
            answer = self.serve(single, caller, sent_at, effective=effective)
            row = {"method": single.method, "bulkId": one["bulkId"], "status": str(answer.status)}
            rows.append(row if answer.body is None else {**row, "response": answer.body})
        return ScimResponse(200, {"Operations": rows[::2] if fate == "patchy" else rows})

    def refuse(self, request: ScimRequest, caller: str, sent_at: float, plan: Plan) -> ScimResponse:
        """Answer without doing anything."""
        now = asyncio.get_running_loop().time()
        self.journal.append(Call(now, sent_at, caller, request.method, request.path, plan.status))
        if plan.fate == "page":
            return ScimResponse(plan.status, None, {"content-type": "text/html; charset=utf-8"})
        headers = {} if plan.retry_after is None else {"retry-after": str(plan.retry_after)}
        return ScimResponse(plan.status, self._talkative(plan.body or {}, request), headers)

    def _talkative(self, body: dict[str, Any], request: ScimRequest) -> dict[str, Any]:
        """An error as many write it: it quotes what it was asked, and by whose right."""
        if not self.token:
            return body
        asked = orjson.dumps([request.path, request.query, request.body]).decode()
        return {**body, "detail": f"Bearer {self.token} may not do that: {asked}"}

    def _answer(self, request: ScimRequest) -> ScimResponse:
        collection, _, resource_id = request.path.removeprefix("/").partition("/")
        rows = self.users if collection == "Users" else self.groups
        if request.method == "POST":
            return self._post(collection, _copy(dict(request.body or {})))
        if request.method == "GET":
            return self._get(collection, resource_id, request)
        if resource_id not in rows:
            raise ScimError(404, "does not exist")
        if request.method == "DELETE":
            del rows[resource_id]
            for group in self.groups.values():
                group["members"] = [one for one in group.get("members", []) if one["value"] != resource_id]
            return ScimResponse(204)
        changed = _copy(rows[resource_id])
        for operation in operations(_copy(dict(request.body or {}))):
            apply(changed, operation)
        if collection == "Users":
            self._check_unique(changed)
        elif unknown := [one["value"] for one in changed.get("members", []) if one["value"] not in self.users]:
            raise ScimError(400, f"{len(unknown)} members do not exist", "invalidValue")
        rows[resource_id] = changed
        return ScimResponse(200, self._shown(changed))

    def _post(self, collection: str, body: dict[str, Any]) -> ScimResponse:
        if collection == "Users":
            self._check_unique(body)
            return ScimResponse(201, self._shown(self.create(body)))
        if self.habits.unique and any(one["displayName"] == body["displayName"] for one in self.groups.values()):
            raise ScimError(409, "displayName is taken", "uniqueness")
        self._numbers += 1
        row = {**body, "id": f"g{self._numbers}", "members": body.get("members", [])}
        self.groups[row["id"]] = row
        return ScimResponse(201, _copy(row))

    def _get(self, collection: str, resource_id: str, request: ScimRequest) -> ScimResponse:
        rows = self._as_seen() if collection == "Users" else self.groups
        if resource_id:
            if resource_id not in rows:
                raise ScimError(404, "does not exist")
            return ScimResponse(200, self._shown(rows[resource_id]))
        condition = (request.query or {}).get("filter")
        terms = parse_filter(condition) if condition else ()
        found = [self._shown(row) for row in rows.values() if matches(row, terms)]
        return ScimResponse(200, {"totalResults": len(found), "Resources": found})

    def _check_unique(self, body: dict[str, Any]) -> None:
        if not self.habits.unique:
            return
        for name in ("userName", "externalId"):
            value = body.get(name)
            if value and any(one.get(name) == value and one["id"] != body.get("id") for one in self.users.values()):
                raise ScimError(409, f"{name} is taken", "uniqueness")

    def _refusal(self, error: ScimError, request: ScimRequest) -> ScimResponse:
        body = {"status": str(error.status)}
        if error.scim_type and self.habits.names_conflicts:
            body["scimType"] = error.scim_type
        return ScimResponse(error.status, self._talkative(body, request))

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = _copy(row)
        if self.habits.speaks_text and "active" in shown:
            shown["active"] = str(shown["active"])
        return shown

    def _members(self, request: ScimRequest) -> tuple[str, ...]:
        """The users that a PATCH of a group names."""
        named: list[str] = []
        for operation in (request.body or {}).get("Operations", []):
            named.extend(value["value"] for value in operation.get("value") or [])
            if '"' in operation.get("path", ""):
                named.append(operation["path"].split('"')[1])
        return tuple(named)

    # --- what a reader sees -----------------------------------------------------------------------------------------

    def _remember(self, user_id: str) -> None:
        row = self.users.get(user_id)
        now = asyncio.get_running_loop().time()
        self._versions.setdefault(user_id, []).append((now, None if row is None else _copy(row)))

    def _as_seen(self) -> dict[str, dict[str, Any]]:
        """The users as a replica shows them that is behind by a bounded time."""
        behind = self.temper.staleness()
        if not behind:
            return self.users
        moment = asyncio.get_running_loop().time() - behind
        seen = {}
        for user_id, versions in self._versions.items():
            index = bisect_right(versions, moment, key=lambda version: version[0])
            if index and (row := versions[index - 1][1]) is not None:
                seen[user_id] = row
        return seen


@dataclass
class MemoryScimTransport:
    """`ports.ScimTransport`: the network between one process and one server. What has been sent goes on its way
    whatever becomes of its sender."""

    server: MemoryScim
    caller: str

    async def send(self, request: ScimRequest, *, correlation_id: str = "") -> ScimResponse:
        """See `ports.ScimTransport`."""
        server, loop = self.server, asyncio.get_running_loop()
        plan, sent_at = server.temper.plan(request), loop.time()
        server.sent.append((sent_at, self.caller))
        people = [server.person(one) for one in singles(request) if one.method != "GET"]
        spans = [Span(self.caller, person, sent_at) for person in people if person]
        server.spans += spans
        try:
            return await self._send(request, plan, sent_at)
        finally:
            for span in spans:
                span.ended = loop.time()

    async def _send(self, request: ScimRequest, plan: Plan, sent_at: float) -> ScimResponse:
        server, loop = self.server, asyncio.get_running_loop()
        if plan.fate == "refused":
            await asyncio.sleep(plan.arrives)
            raise ApplicationDown("nobody listens") if plan.status == 0 else Unavailable("the connection was refused")
        answer: asyncio.Future[ScimResponse] = loop.create_future()
        arrives = server.habits.timeout + plan.late if plan.fate == "late" else plan.arrives

        def arrive() -> None:
            response = self._carry_out(request, sent_at, plan)
            if plan.fate == "reset":
                loop.call_later(plan.answered, _break, answer, context=server.context)
            elif plan.fate == "again":
                repeat = partial(server.serve, request, self.caller, sent_at)
                loop.call_later(server.habits.timeout + plan.late, repeat, context=server.context)
            elif plan.fate not in ("late", "unanswered"):
                loop.call_later(plan.answered, _answer, answer, response, context=server.context)

        if plan.fate == "cut":
            loop.call_later(arrives, _break, answer, context=server.context)
        elif plan.fate != "lost":
            loop.call_later(arrives, arrive, context=server.context)
        try:
            async with asyncio.timeout(server.habits.timeout):
                response = await answer
        except TimeoutError:
            raise Ambiguous("no answer in time") from None
        self._hear(response)
        return response

    def _carry_out(self, request: ScimRequest, sent_at: float, plan: Plan) -> ScimResponse:
        if plan.fate in ("error", "page"):
            return self.server.refuse(request, self.caller, sent_at, plan)
        if plan.fate == "ineffective":
            return self.server.serve(request, self.caller, sent_at, effective=False)
        response = self.server.serve(request, self.caller, sent_at, fate=plan.fate)
        if plan.fate == "twice":
            response = self.server.serve(request, self.caller, sent_at)
        if plan.fate == "failed":
            return ScimResponse(plan.status, {"status": str(plan.status)})
        return response

    def _hear(self, response: ScimResponse) -> None:
        wish = response.headers.get("retry-after", "")
        now = asyncio.get_running_loop().time()
        if wish.isdigit():
            self.server.wishes.append(Wish(self.caller, now, now + int(wish)))
        elif wish:
            wait = (parsedate_to_datetime(wish) - self.server.clock()).total_seconds()
            self.server.wishes.append(Wish(self.caller, now, now + wait, by_clock=True))


def _operations(request: ScimRequest) -> list[dict[str, Any]]:
    return list((request.body or {}).get("Operations", ()))


def singles(request: ScimRequest) -> list[ScimRequest]:
    """The calls that a request stands for: itself, or the operations of a Bulk request (RFC 7644, section 3.7)."""
    if request.path != "/Bulk":
        return [request]
    return [ScimRequest(one["method"], one["path"], one.get("data")) for one in _operations(request)]


def _answer(answer: "asyncio.Future[ScimResponse]", response: ScimResponse) -> None:
    if not answer.done():
        answer.set_result(response)


def _break(answer: "asyncio.Future[ScimResponse]") -> None:
    if not answer.done():
        answer.set_exception(Ambiguous("the connection was lost"))


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))
