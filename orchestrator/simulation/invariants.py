"""The verdict on a run, from the servers' journals, the list of what was told, and the audit log; never from the store.

Each function is one promise and yields a sentence for every place where it was broken.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import orjson
from prometheus_client import generate_latest

from orchestrator.sequences import faults_of_sequences
from orchestrator.simulation.oracle import Told, expected, titles
from orchestrator.simulation.roles import CONCURRENCY
from orchestrator.simulation.scenario import MAIL, NAME, START, TOKEN
from orchestrator.simulation.world import World
from orchestrator.testing.auditing import AUDIT_INDEX
from orchestrator.testing.rows import ACCOUNT, HEALTH, QUARANTINED
from orchestrator.testing.scim import Call, Span, State
from schemas.topics import QUARANTINE

DEPROVISION_SECONDS = 240.0
"""After peace no leaver may stay in for longer: a lost session, an abandoned intent and a retry, one after another."""
ROUNDING = 2e-6
"""Entries have microseconds."""
LATE = 5.0
"""Seconds; a call that took longer was not waited for."""
MOST_REFUSED = CONCURRENCY
STORM_SECONDS = 1.0
"""Calls that were on their way together may all be refused; before a probe, which waits for a second, no further one
goes out."""
CANARIES = tuple(one.lower().encode() for one in (NAME, MAIL, TOKEN))
_CHANGES = ("POST", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verdict rests on. Times are the loop's seconds."""

    world: World
    entries: list[dict[str, Any]]
    journals: dict[str, list[Call]]

    def of(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """The audit entries of some kinds, in the order of the log."""
        return (entry for entry in self.entries if entry["kind"] in kinds)

    def changes(self, app: str) -> dict[str, list[Call]]:
        """By person, the calls that changed an account, in the order in which they did."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.journals[app]:
            if call.changed and call.person:
                found[call.person].append(call)
        return found

    def accounts(self, app: str) -> dict[str, list[State]]:
        """By person, the accounts that are there at the end, but for those that we never touched."""
        server = self.world.plant.apps[app]
        touched = {call.person for call in self.journals[app] if call.changed}
        found: dict[str, list[State]] = defaultdict(list)
        for user_id in server.users:
            state = server.state(user_id)
            if state is not None and state.person in touched:
                found[state.person].append(state)
        return found


def judge(world: World) -> list[str]:
    """Every violation of a run, the world's own findings first."""
    entries = [orjson.loads(entry) for entry in world.plant.audit_log.entries]
    entries = _with_people(world, [_at_the_true_time(world, entry) for entry in entries])
    evidence = Evidence(world, entries, {app: server.journal for app, server in world.plant.apps.items()})
    found = [*world.violations, *world.promises()]
    for check in CHECKS:
        found += [f"{check.__name__}: {one}" for one in check(evidence)]
    return found


def _at_the_true_time(world: World, entry: dict[str, Any]) -> dict[str, Any]:
    """By how much its writer's clock is wrong is known here."""
    ahead = world.ahead.get(entry["writer"].partition("@")[2].rpartition("-")[0], 0.0)
    if not ahead:
        return entry
    return {**entry, "at": (datetime.fromisoformat(entry["at"]) - timedelta(seconds=ahead)).isoformat()}


def _with_people(world: World, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries with the person each is about: whoever the event was told of that the log's subject received."""
    about = {f"{_source(one)}#{one.id}": one.person for one in world.told}
    people = {
        one["subject"]: about[one["event_id"]]
        for one in entries
        if one["kind"] == "event_received" and one["event_id"] in about
    }
    return [{**one, "person_id": people.get(one.get("subject"), one.get("subject"))} for one in entries]


def _source(told: Told) -> str:
    return "idp" if told.kind.startswith("idp") else "hr"


def access_is_right(evidence: Evidence) -> Iterator[str]:
    """Leavers are inactive everywhere, and nobody with a valid engagement is."""
    world = evidence.world
    wanted = expected(world.told, world.plant.life.now(), world.zone)
    for app in evidence.journals:
        accounts = evidence.accounts(app)
        for person, one in wanted.items():
            active = [state for state in accounts.get(person, []) if state.active]
            if active and not one.active[app]:
                yield f"{person} is out and has access to {app}: {active}"
            if one.active[app] and not active:
                yield f"{person} should have access to {app} and has not"
            if one.active[app] and active and active[0].title != one.title:
                yield f"{person} in {app} has {active[0].title!r} instead of {one.title!r}"
            groups = {one.department} if one.active["directory"] and app == "directory" else set()
            if any(state.groups != groups for state in accounts.get(person, [])):
                yield f"{person} in {app} should be in {groups}: {accounts[person]}"


def one_account(evidence: Evidence) -> Iterator[str]:
    """At most one account per person and application, at any time."""
    for app, journal in evidence.journals.items():
        there: dict[str, set[str]] = defaultdict(set)
        for call in journal:
            if call.before and not call.after:
                there[call.before.person].discard(call.before.id)
            if call.after and call.changed:
                there[call.after.person].add(call.after.id)
                if len(there[call.after.person]) > 1:
                    yield f"{call.after.person} has {len(there[call.after.person])} accounts in {app}"


def events_end_once(evidence: Evidence) -> Iterator[str]:
    """Each event is decided exactly once, however often it came."""
    decided = Counter(
        entry["event_id"] for entry in evidence.of("person_resolved", "event_quarantined") if "event_id" in entry
    )
    for one in evidence.world.told:
        if (times := decided[f"{_source(one)}#{one.id}"]) != 1:
            yield f"{one.id} was decided {times} times"
    for event, times in decided.items():
        if times > 1 and event.startswith("jml/scheduler"):
            yield f"the timer {event} was decided {times} times"


def revisions_end_once(evidence: Evidence) -> Iterator[str]:
    """Each revision is applied or superseded, exactly once; they are dense."""
    issued, ended = Counter[tuple[str, str, int]](), Counter[tuple[str, str, int]]()
    for entry in evidence.of("command_issued", "command_applied", "command_superseded"):
        place = (entry["person_id"], entry["app"], entry["revision"])
        (issued if entry["kind"] == "command_issued" else ended)[place] += 1
    for place in sorted({*issued, *ended}):
        if issued[place] != 1 or ended[place] != 1:
            yield f"revision {place} was issued {issued[place]} and ended {ended[place]} times"
        if place[2] > 1 and (place[0], place[1], place[2] - 1) not in issued:
            yield f"revision {place} has no one before it"


def changes_are_framed(evidence: Evidence) -> Iterator[str]:
    """Every change that a server saw has an intent before it was sent and an outcome after it."""
    intents, outcomes = defaultdict(list), defaultdict(list)
    for entry in evidence.of("call_intended"):
        intents[entry["person_id"], entry["app"]].append(_seconds(entry["at"]))
    for entry in evidence.of("command_applied", "account_verified", "command_retried", "command_parked"):
        outcomes[entry["person_id"], entry["app"]].append(_seconds(entry["at"]))
    for app in evidence.journals:
        for person, calls in evidence.changes(app).items():
            for call in calls:
                if not any(at <= call.sent_at + ROUNDING for at in intents[person, app]):
                    yield f"{call} in {app} was not intended"
                if not any(at >= call.at - ROUNDING for at in outcomes[person, app]):
                    yield f"{call} in {app} has no outcome"


def successes_are_real(evidence: Evidence) -> Iterator[str]:
    """Every reported call that succeeded was seen by the server, and every applied state was there."""
    for app, journal in evidence.journals.items():
        seen = Counter(call.person for call in journal if call.method in _CHANGES and call.status < 300)
        reported = Counter[str]()
        for entry in evidence.of("command_applied", "account_verified", "command_retried", "command_parked"):
            if entry["app"] == app:
                calls = entry.get("details", {}).get("calls", [])
                reported[entry["person_id"]] += sum(call[0] in _CHANGES and call[-1] < 300 for call in calls)
        for person, count in reported.items():
            if count > seen[person]:
                yield f"{count} successes in {app} were reported for {person}, the server saw {seen[person]}"
        changes = evidence.changes(app)
        for entry in evidence.of("command_applied"):
            wanted = entry["details"]["state"] == "active"
            at = _seconds(entry["at"])
            if (
                entry["app"] == app
                and not _was_missed(entry)
                and not _was(changes.get(entry["person_id"], []), wanted, at)
            ):
                yield f"revision {entry['revision']} of {entry['person_id']} in {app} is not what the server shows"


def _was_missed(entry: dict[str, Any]) -> bool:
    """Whether the application did not know the account, to a change and to a look: it is looked for later."""
    calls = entry["details"].get("calls", [])
    return entry["details"]["state"] != "active" and {"PATCH", "GET"} <= {call[0] for call in calls if call[-1] == 404}


def _was(changes: list[Call], active: bool, at: float) -> bool:
    """Whether the account was so just then. Where we found it so, nothing changed."""
    before = [call for call in changes if call.at <= at + ROUNDING]
    if not before:
        return active is False or not changes or (changes[0].before is not None and changes[0].before.active)
    states = [before[-1].after, *(call.after for call in before if call.at > at - 60)]
    states += [call.before for call in before if call.at - call.sent_at > LATE]  # it came between look and entry
    return any((state is not None and state.active) is active for state in states)


def sequences_are_gapless(evidence: Evidence) -> Iterator[str]:
    """Each writer's entries are numbered from 1 without a gap."""
    yield from faults_of_sequences(evidence.entries)


def newer_wins(evidence: Evidence) -> Iterator[str]:
    """No title is replaced by an older one, unless by a call that was on its way already."""
    order = titles(evidence.world.told, evidence.world.zone)
    for app in evidence.journals:
        for person, calls in evidence.changes(app).items():
            newest, since = -1, 0.0
            for call in calls:
                title = call.after.title if call.after else ""
                if title not in order.get(person, []) or (call.before and call.before.title == title):
                    continue
                rank = order[person].index(title)
                if rank < newest and call.sent_at > since:
                    yield f"{title!r} replaced {order[person][newest]!r} in {app} at {call.at:.3f} by {call.caller}"
                if rank > newest:
                    newest, since = rank, call.at


def retry_after_is_kept(evidence: Evidence) -> Iterator[str]:
    """A process that was asked to wait does not call before."""
    for app, server in evidence.world.plant.apps.items():
        for wish in server.wishes:
            until = wish.until - (evidence.world.ahead.get(wish.caller, 0.0) if wish.by_clock else 0.0)
            for sent_at, caller in server.sent:
                if caller == wish.caller and wish.heard_at < sent_at < until - 1e-3:
                    yield f"{caller} called {app} at {sent_at:.3f}, was asked to wait until {until:.3f}"


def one_owner_at_a_time(evidence: Evidence) -> Iterator[str]:
    """Of two processes that live and are awake, one at most changes an account: a rebalance is a clean handover."""
    gone = evidence.world.killed | evidence.world.frozen
    for app, server in evidence.world.plant.apps.items():
        last: dict[str, Span] = {}
        for span in server.spans:
            if span.caller in gone:
                continue
            before = last.get(span.person)
            if before and before.caller != span.caller and before.ended > span.began:
                yield f"{before.caller} and {span.caller} changed {span.person} in {app} at once, at {span.began:.3f}"
            if not before or span.ended > before.ended:
                last[span.person] = span


def deleted_accounts_are_gone(evidence: Evidence) -> Iterator[str]:
    """Where the last revision that was applied is a deletion, the application has no account of the person."""
    last = {(entry["person_id"], entry["app"]): entry for entry in evidence.of("command_applied")}
    for (person, app), entry in last.items():
        there = [user_id for user_id, row in evidence.world.plant.apps[app].users.items() if _whose(row) == person]
        if entry["details"]["state"] == "absent" and there:
            yield f"{person} was deleted in {app} and is there as {there}"


def _whose(row: Mapping[str, Any]) -> str:
    return str(row.get("externalId") or row.get("userName"))


def doors_are_respected(evidence: Evidence) -> Iterator[str]:
    """An application that refuses our credentials is paused, and no account is blamed for it."""
    told = [(one["app"], _seconds(one["at"])) for one in evidence.of("application_paused")]
    for app, server in evidence.world.plant.apps.items():
        paused = min((at for where, at in told if where == app), default=float("inf"))
        refused = [
            call
            for call in server.journal
            if call.status in (401, 403) and _lived(evidence, call) and (call.path, call.status) != ("/Bulk", 403)
        ]  # who may not use Bulk goes on without it
        for call in refused:
            if paused > call.at + LATE:
                yield f"{call.caller} was refused by {app} at {call.at:.3f}, and nobody said that it is paused"
        for caller, calls in groupby(sorted(refused, key=lambda one: one.caller), key=lambda one: one.caller):
            changes = [call.at for call in calls if call.method != "GET"]
            for at in changes:
                if len([other for other in changes if at <= other < at + STORM_SECONDS]) > MOST_REFUSED:
                    yield f"{caller} stormed the closed door of {app} at {at:.3f}"
                    break


def _lived(evidence: Evidence, call: Call) -> bool:
    return call.caller not in evidence.world.killed | evidence.world.frozen


def unreadable_records_are_kept(evidence: Evidence) -> Iterator[str]:
    """Each record that nobody can read is in quarantine, and the log says so once."""
    places = Counter(one["details"]["record"] for one in evidence.of("event_quarantined"))
    sent = len(evidence.world.unreadable)
    kept = len(evidence.world.plant.store.tables.table(QUARANTINED))
    if len(places) != sent or kept != sent:
        yield f"of {sent} unreadable records {kept} are kept and {len(places)} in the log"
    yield from (f"{place} was quarantined {times} times" for place, times in places.items() if times > 1)


def the_index_holds_the_log(evidence: Evidence) -> Iterator[str]:
    """What can be searched is what the log holds, entry by entry."""
    plant = evidence.world.plant
    rows = plant.store.tables.table(AUDIT_INDEX)
    if [rows[position] for position in sorted(rows)] != plant.audit_log.entries:
        yield f"the log has {len(plant.audit_log.entries)} entries, the index {len(rows)}, or others"


def nothing_leaks(evidence: Evidence) -> Iterator[str]:
    """No name, no address and no token in log lines, the audit log, quarantine reasons, metrics, or what is kept of
    errors."""
    plant, tables = evidence.world.plant, evidence.world.plant.store.tables
    seen = {
        "the log lines": orjson.dumps(evidence.world.logged, default=str),
        "the audit log": b"\n".join(plant.audit_log.entries),
        "quarantine reasons": repr([one.reason for one in tables.table(QUARANTINED).values()]).encode(),
        "quarantine headers": b"".join(
            value
            for place in plant.broker.topic(QUARANTINE)
            for record in plant.broker.log(place)
            for name, value in record.headers
            if name.startswith("quarantine-")
        ),
        "errors of accounts": repr([row.progress.error for row in tables.table(ACCOUNT).values()]).encode(),
        "applications' health": repr(list(tables.table(HEALTH).values())).encode(),
        "the run's own findings": repr(evidence.world.violations).encode(),
        "metrics": generate_latest(),
    }
    for where, content in seen.items():
        lower = content.lower()
        yield from (f"{where} hold {canary!r}" for canary in CANARIES if canary in lower)


def leavers_are_out_in_time(evidence: Evidence) -> Iterator[str]:
    """What was to be closed when peace came was closed soon after."""
    world = evidence.world
    wanted = expected(world.told, world.plant.life.now(), world.zone)
    for app in evidence.journals:
        for person, calls in evidence.changes(app).items():
            closed = [call.at for call in calls if call.before and call.before.active]
            if (
                not wanted[person].active[app]
                and closed
                and max(closed) > world.healed_at + DEPROVISION_SECONDS + world.patience
            ):
                yield f"{person} got out of {app} {max(closed) - world.healed_at:.0f} s after everything was well"


def _seconds(text: str) -> float:
    return (datetime.fromisoformat(text) - START).total_seconds()


CHECKS = (
    access_is_right,
    one_account,
    events_end_once,
    revisions_end_once,
    changes_are_framed,
    successes_are_real,
    sequences_are_gapless,
    newer_wins,
    retry_after_is_kept,
    one_owner_at_a_time,
    leavers_are_out_in_time,
    deleted_accounts_are_gone,
    doors_are_respected,
    unreadable_records_are_kept,
    the_index_holds_the_log,
    nothing_leaks,
)
