"""Plays an export through everything: real servers, the embedded broker, all roles, on a clock that runs through years.

Every event is published when the simulated clock has reached its day. The clock then waits for the resolver, which
sets the timers, and not for the applications: what is due overtakes them as it would in a very hurried company.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.adapters.sql.settling import SqlSettling
from orchestrator.bootstrap import Role, Runtime, open_runtime, running, until_done_or
from orchestrator.demo.applications import APPLICATIONS, TOKEN_ENV, demo_config
from orchestrator.demo.expectation import expected_accounts
from orchestrator.demo.servers.serve import ServerProcess
from orchestrator.demo.verdict import Verdict, expected_groups, judge, read_all
from orchestrator.errors import JmlError
from orchestrator.sources.employees_csv import events
from schemas.envelope import Envelope, Message
from schemas.topics import HR_EVENTS

EMPLOYEES = Path(__file__).parent / "employees"
STUCK_SECONDS = 150
"""How long nothing may move: longer than the wait before an account of unknown state is looked at once more."""
CHUNK = 50
"""Events published at once."""
AFTER_THE_LAST = timedelta(days=400)
"""How far the clock goes on after the last event: every contract that has an end is over then."""


@dataclass
class Outcome:
    """How the demo ended."""

    people: int
    events: int
    seconds: float
    verdicts: list[Verdict]
    audit_entries: int
    timers_fired: int
    calls: dict[str, int]
    parked: int
    quarantined: int
    exported: dict[str, list[dict[str, Any]]] = field(repr=False, default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether every application holds exactly what it should."""
        return not self.parked and not self.quarantined and not any(one.differences for one in self.verdicts)


class Stuck(JmlError):
    """The pipeline did not come to rest."""

    code = "stuck"


Progress = Callable[[str, int, int], None]
"""Told the phase, what is done and what there is to do."""


async def play(
    state: Path,
    roles: Callable[[Runtime], list[Role]],
    *,
    employees: Path = EMPLOYEES,
    progress: Progress,
    export: bool = False,
) -> Outcome:
    """Run the demo in the folder `state`; see `Outcome`."""
    began = time.monotonic()
    incoming = list(events(employees))
    expected = expected_accounts(employees)
    token = os.environ[TOKEN_ENV] = secrets.token_urlsafe(24)
    async with AsyncExitStack() as stack:
        progress("starting the applications", 0, len(APPLICATIONS))
        servers = {
            one.name: ServerProcess(one.server, journal=state / f"{one.name}.journal.jsonl", token_env=TOKEN_ENV)
            for one in APPLICATIONS
        }
        await asyncio.gather(*(stack.enter_async_context(server) for server in servers.values()))
        base_urls = {name: server.base_url for name, server in servers.items()}
        config = demo_config(state, base_urls)
        start = incoming[0].time if incoming else datetime(2000, 1, 1, tzinfo=UTC)
        clock = SimulatedClock(start)
        runtime = await stack.enter_async_context(open_runtime(config, clock=clock))
        failed = await stack.enter_async_context(running(runtime, roles(runtime)))
        await until_done_or(failed, _run(runtime, clock, incoming, progress))
        verdicts, held = [], {}
        for done, one in enumerate(APPLICATIONS):
            progress("reading the applications back", done, len(APPLICATIONS))
            users = await read_all(base_urls[one.name], token, "Users")
            groups = await read_all(base_urls[one.name], token, "Groups")
            held[one.name] = users
            names = {worker: expected_groups(one, person) for worker, person in expected.items()}
            verdicts.append(judge(one, users, groups, expected, names))
        status = await SqlOperatorStore(runtime.database).status()
    entries, fired = _audited(config.audit.dir)
    return Outcome(
        people=len(expected),
        events=len(incoming),
        seconds=time.monotonic() - began,
        verdicts=verdicts,
        audit_entries=entries,
        timers_fired=fired,
        calls={one.name: _lines(state / f"{one.name}.journal.jsonl") for one in APPLICATIONS},
        parked=sum(counts.get("parked", 0) for counts in status.accounts.values()),
        quarantined=status.quarantined,
        exported=held if export else {},
    )


async def _run(runtime: Runtime, clock: SimulatedClock, incoming: list[Envelope], progress: Progress) -> None:
    settling = SqlSettling(runtime.database)
    published = 0
    for chunk in _chunks(incoming):
        clock.advance_to(chunk[-1].time)
        await runtime.publisher.publish([_message(envelope) for envelope in chunk])
        published += len(chunk)
        while await settling.settled() < published:
            await asyncio.sleep(0.005)
        progress("playing the events", published, len(incoming))
    last = incoming[-1].time if incoming else clock.now()
    clock.advance_to(last + AFTER_THE_LAST)
    await _until_quiet(runtime, settling, clock, len(incoming), progress)


def _chunks(incoming: list[Envelope]) -> Iterator[list[Envelope]]:
    """Events to publish at once. A contract that begins in a chunk never ends in it: the clock must not pass an end
    before the resolver has set the timer for it, or HR's word alone would do and the scheduler had nothing to show."""
    chunk: list[Envelope] = []
    end = date.max
    for envelope in incoming:
        if chunk and (len(chunk) >= CHUNK or envelope.time.date() >= end):
            yield chunk
            chunk, end = [], date.max
        chunk.append(envelope)
        if b'"contract_end"' in envelope.data and (text := orjson.loads(envelope.data).get("contract_end")):
            end = min(end, date.fromisoformat(text))
    if chunk:
        yield chunk


async def _until_quiet(
    runtime: Runtime, settling: SqlSettling, clock: SimulatedClock, published: int, progress: Progress
) -> None:
    """Wait until nothing is left to do; give up when nothing has moved for a while."""
    most, left_before, moved = 1, -1, time.monotonic()
    while True:
        left = await settling.left(now=clock.now(), events=published) + (
            runtime.unread.messages if runtime.unread else 0
        )
        most = max(most, left)
        progress("waiting for the applications", most - left, most)
        if left == 0:
            return
        if left != left_before:
            left_before, moved = left, time.monotonic()
        elif time.monotonic() - moved > STUCK_SECONDS:
            raise Stuck(f"{left} pieces of work are left and nothing moves; look with --state-dir and `jml status`")
        await asyncio.sleep(0.05)


def _message(envelope: Envelope) -> Message:
    return Message(HR_EVENTS, envelope.subject.encode(), envelope.data, envelope.headers())


def _audited(log: Path) -> tuple[int, int]:
    entries = fired = 0
    for _, entry in read_entries(log):
        entries += 1
        fired += orjson.loads(entry)["kind"] == "timer_fired"
    return entries, fired


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
