"""The verdict. Each check is one promise and yields a sentence for every place where it was broken.

It reads evidence only and knows nothing of the domain or the store, so that it cannot share their mistakes; and each
check has a test in which it finds what is wrong, because a checker that cannot fail proves nothing.
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from orchestrator.chaos.evidence import WRITES, Deed, Evidence, State, seconds, worker_of
from orchestrator.chaos.plan import SOURCE, Told, after, end_of, expected
from orchestrator.sequences import faults_of_sequences

ROUNDING = 0.002
"""Journals and entries come from different processes of one machine."""
HEARD_SECONDS = 0.5
"""A call may have been on its way when the answer that asked to wait was."""
DECIDED_SECONDS = 60.0
"""How long after a decision it may be carried out."""
QUEUE, OVERTAKEN_SHARE = 100, 0.5
"""Joiners that have to be in line for its order to be judged, and the share of them that may be served first."""
WOKE_SECONDS = 1.0
"""What a process sends so soon after a pause was decided before it: no fence can lie in that gap."""
TAKES_AWAY = ("deactivate", "delete")
OUTCOMES = ("command_applied", "account_verified", "command_retried", "command_parked")

Place = tuple[str, str]


def judge(evidence: Evidence) -> list[str]:
    """Every violation, the name of its check first."""
    return [f"{name}: {one}" for name, check in CHECKS.items() for one in check(evidence)]


# --- who has access ---------------------------------------------------------------------------------------------------


def leavers_are_out(evidence: Evidence) -> Iterator[str]:
    """Who should have no access has none, in any application."""
    for app, person, states, wanted in _ends(evidence):
        if not wanted and any(state.active for state in states):
            yield f"{person} is out and has access to {app}"


def nobody_is_locked_out(evidence: Evidence) -> Iterator[str]:
    """Who should have access has it, with the newest title."""
    people = expected(evidence.told, evidence.judged_at)
    for app, person, states, wanted in _ends(evidence):
        active = [state for state in states if state.active]
        if wanted and not active:
            yield f"{person} should have access to {app} and has not"
        elif wanted and active[0].title != people[person].title:
            yield f"{person} has {active[0].title!r} in {app} instead of {people[person].title!r}"


def _ends(evidence: Evidence) -> Iterator[tuple[str, str, list[State], bool]]:
    people = expected(evidence.told, evidence.judged_at)
    for app, department in evidence.departments.items():
        held = _accounts(evidence.deeds[app])
        for person, one in people.items():
            yield app, person, list(held.get(person, {}).values()), one.has_access(department)
        for person in held.keys() - people.keys():
            yield app, person, list(held[person].values()), False


def _accounts(deeds: list[Deed]) -> dict[str, dict[str, State]]:
    held: dict[str, dict[str, State]] = defaultdict(dict)
    for deed in deeds:
        if deed.person and deed.account:
            held[deed.person].pop(deed.account, None)
            if deed.after is not None:
                held[deed.person][deed.account] = deed.after
    return held


def nobody_is_locked_out_meanwhile(evidence: Evidence) -> Iterator[str]:
    """At no instant does anybody lose access without a reason that had been told and had come."""
    received = _received(evidence)
    reasons: dict[str, list[tuple[float, Told]]] = defaultdict(list)
    for one in evidence.told:
        reasons[one.person].append((received.get(one.id, float("inf")), one))
    for app, department in evidence.departments.items():
        for person, deeds in evidence.changes(app).items():
            for deed in deeds:
                loses = deed.before and deed.before.active and not (deed.after and deed.after.active)
                until = deed.at + _ahead(evidence, deed.at) + ROUNDING
                if loses and not any(_takes_away(one, at, department, until) for at, one in reasons[person]):
                    yield f"{person} lost access to {app} by {deed.caller} and nothing had been told that takes it"


def _takes_away(one: Told, received: float, department: str | None, now: float) -> bool:
    """Whether an event is a reason to have no access, at an instant."""
    if received > now:
        return False
    if one.kind == "left":
        return end_of(one).timestamp() <= now
    end = one.data.get("contract_end")
    if end is not None and after(end).timestamp() <= now:
        return True
    return department is not None and one.data.get("attributes", {}).get("department", department) != department


def _ahead(evidence: Evidence, at: float) -> float:
    """By how much a clock may have been ahead when what was done at an instant was decided."""
    return max([0.0, *(blow.by for blow in evidence.blows if blow.about(at - DECIDED_SECONDS, at))])


def groups_are_right(evidence: Evidence) -> Iterator[str]:
    """Who has access is in the group of the department, and in no other; who has none is in none."""
    people = expected(evidence.told, evidence.judged_at)
    for app, department in evidence.departments.items():
        owners = {deed.account: deed.person for deed in evidence.deeds[app] if deed.person and deed.account}
        members: dict[str, set[str]] = defaultdict(set)
        for deed in evidence.deeds[app]:
            if deed.group:
                members[deed.group] |= {owners.get(account, account) for account in deed.added}
                members[deed.group] -= {owners.get(account, account) for account in deed.removed}
        for person, one in people.items():
            wanted = {f"dept {one.department}"} if one.has_access(department) else set()
            found = {group for group, inside in members.items() if person in inside}
            if found != wanted:
                yield f"{person} is in {sorted(found)} of {app} instead of {sorted(wanted)}"


def one_account(evidence: Evidence) -> Iterator[str]:
    """At most one account per application and person, at any time."""
    for app, deeds in evidence.deeds.items():
        held: dict[str, set[str]] = defaultdict(set)
        for deed in deeds:
            if deed.person and deed.account:
                (held[deed.person].discard if deed.after is None else held[deed.person].add)(deed.account)
                if len(held[deed.person]) > 1 and deed.before is None:
                    yield f"{deed.person} has {len(held[deed.person])} accounts in {app}, made by {deed.caller}"


def leavers_stay_out(evidence: Evidence) -> Iterator[str]:
    """Once out after the end, no late command lets anybody in again."""
    people = expected(evidence.told, evidence.judged_at)
    known = _known(evidence)
    for app, department in evidence.departments.items():
        for person, deeds in evidence.changes(app).items():
            if person not in known or people[person].has_access(department):
                continue
            out = False
            for deed in deeds:
                active = deed.after is not None and deed.after.active
                if active and out and not _just_woke(evidence, deed):
                    yield f"{person} was let into {app} again by {deed.caller}"
                out = not active and deed.at > known[person]


def _known(evidence: Evidence) -> dict[str, float]:
    """By leaver, since when the end has come and everything was told: from then on nothing can let anybody in."""
    received = _received(evidence)
    known: dict[str, float] = {}
    for one in evidence.told:
        at = received.get(one.id, float("inf"))
        known[one.person] = max(known.get(one.person, 0.0), at, end_of(one).timestamp() if one.kind == "left" else 0.0)
    left = {one.person for one in evidence.told if one.kind == "left"}
    return {person: at for person, at in known.items() if person in left}


def one_owner_at_a_time(evidence: Evidence) -> Iterator[str]:
    """Who has said that an account is theirs now is not disturbed: of two processes that live and are awake, the one
    that had it before makes no change any more. A handover is clean, where no blow cut it short."""
    owners: dict[Place, list[tuple[float, str]]] = defaultdict(list)
    for entry in evidence.of("call_intended"):
        if worker := worker_of(entry["writer"], evidence.workers):
            owners[entry["person_id"], entry["app"]].append((seconds(entry["at"]), worker))
    for app in evidence.deeds:
        for person, deeds in evidence.changes(app).items():
            intents = sorted(owners[person, app])
            for deed in deeds:
                place = bisect_right(intents, (deed.at - HEARD_SECONDS, "~"))
                owner = intents[place - 1][1] if place else ""
                worker = deed.caller.partition(".")[0]
                if owner in ("", worker) or any(worker == one for at, one in intents if at > deed.at - HEARD_SECONDS):
                    continue
                if not _was_struck(evidence, deed):
                    yield f"{person} in {app} was {owner}'s and was changed by {deed.caller}"


def _was_struck(evidence: Evidence, deed: Deed) -> bool:
    """Whether anything was done to anybody, or the process itself was frozen, not long before."""
    begin = deed.at - DECIDED_SECONDS
    frozen = any(one.caller == deed.caller and one.end >= begin and one.begin <= deed.at for one in evidence.pauses)
    return frozen or any(blow.about(begin, deed.at) for blow in evidence.blows)


def _received(evidence: Evidence) -> dict[str, float]:
    """By event, when a resolver took it in."""
    return {
        entry["event_id"].removeprefix(f"{SOURCE}#"): seconds(entry["at"]) for entry in evidence.of("event_received")
    }


def newer_wins(evidence: Evidence) -> Iterator[str]:
    """No title is replaced by an older one."""
    ranks: dict[str, list[str]] = defaultdict(list)
    for one in sorted(evidence.told, key=lambda one: one.stated):
        title = one.data.get("attributes", {}).get("title")
        if title and title not in ranks[one.person]:
            ranks[one.person].append(title)
    for app in evidence.deeds:
        for person, deeds in evidence.changes(app).items():
            newest = -1
            for deed in deeds:
                title = deed.after.title if deed.after else ""
                rank = ranks[person].index(title) if title in ranks[person] else newest
                same = deed.before is not None and deed.before.title == title
                if rank < newest and not same and not _just_woke(evidence, deed):
                    yield f"{title!r} replaced {ranks[person][newest]!r} of {person} in {app} by {deed.caller}"
                newest = max(newest, rank)


def _just_woke(evidence: Evidence, deed: Deed) -> bool:
    return any(one.caller == deed.caller and 0 <= deed.at - one.end <= WOKE_SECONDS for one in evidence.pauses)


def _clock_was_wrong(evidence: Evidence, deed: Deed) -> bool:
    """Whether the clock by which the process waited was stepped while it did."""
    worker = deed.caller.partition(".")[0]
    return any(
        blow.by and blow.worker == worker and blow.about(deed.at - DECIDED_SECONDS, deed.at) for blow in evidence.blows
    )


# --- the audit stream -------------------------------------------------------------------------------------------------


def events_end_once(evidence: Evidence) -> Iterator[str]:
    """Each event is decided exactly once, however often it came."""
    decided = Counter(entry["event_id"] for entry in evidence.of("person_resolved") if "event_id" in entry)
    told = {f"{SOURCE}#{one.id}" for one in evidence.told}
    for event in sorted(told):
        if decided[event] != 1:
            yield f"{event} was decided {decided[event]} times"
    quarantined = list(evidence.of("event_quarantined"))
    for entry in quarantined:
        if entry.get("event_id") in told:
            yield f"{entry['event_id']} was quarantined: {entry['details']}"
    places = {entry["details"]["record"] for entry in quarantined if entry.get("event_id") not in told}
    if len(places) < evidence.spoiled:
        yield f"{evidence.spoiled} records were unreadable, {len(places)} are in quarantine"


def revisions_end_once(evidence: Evidence) -> Iterator[str]:
    """Each revision is issued once and applied or superseded once; none waits for a person."""
    issued, ended = Counter[tuple[str, str, int]](), Counter[tuple[str, str, int]]()
    for entry in evidence.of("command_issued", "command_applied", "command_superseded"):
        place = (entry["person_id"], entry["app"], entry["revision"])
        (issued if entry["kind"] == "command_issued" else ended)[place] += 1
    for place in sorted({*issued, *ended}):
        if (issued[place], ended[place]) != (1, 1):
            yield f"revision {place} was issued {issued[place]} and ended {ended[place]} times"
    for entry in evidence.of("command_parked"):
        yield f"{entry['person_id']} in {entry['app']} was parked: {entry['details'].get('reason')}"


def changes_are_intended(evidence: Evidence) -> Iterator[str]:
    """Every change that an application saw has an intent before it, of a command that takes or gives access as it."""
    commands = {
        (entry["person_id"], entry["app"], entry["revision"]): entry["details"]["command"]
        for entry in evidence.of("command_issued")
    }
    intents: dict[Place, list[tuple[float, bool]]] = defaultdict(list)
    for entry in evidence.of("call_intended"):
        command = commands.get((entry["person_id"], entry["app"], entry["revision"]), "")
        intents[entry["person_id"], entry["app"]].append((seconds(entry["at"]), command in TAKES_AWAY))
    for app in evidence.deeds:
        for person, deeds in evidence.changes(app).items():
            for deed in deeds:
                takes = not (deed.after and deed.after.active)
                if not any(at <= deed.at + ROUNDING and way == takes for at, way in intents[person, app]):
                    what = "taken away" if takes else "given or changed"
                    yield f"access of {person} to {app} was {what} by {deed.caller} without an intent"


def successes_are_real(evidence: Evidence) -> Iterator[str]:
    """Every call that is reported as a success is one that the application saw and answered so."""
    for app, deeds in evidence.deeds.items():
        seen = Counter(deed.person for deed in deeds if deed.method in WRITES and deed.person and deed.status < 300)
        reported = Counter[str]()
        for entry in evidence.of(*OUTCOMES):
            if entry["app"] == app:
                calls = entry.get("details", {}).get("calls", [])
                reported[entry["person_id"]] += sum(call[0] in WRITES and call[-1] < 300 for call in calls)
        for person, count in reported.items():
            if count > seen[person]:
                yield f"{count} successes in {app} were reported for {person}, the application saw {seen[person]}"


def applied_is_true(evidence: Evidence) -> Iterator[str]:
    """When a command was applied, the application held the account so, at some instant since the attempt began."""
    began: dict[tuple[str, str, str], float] = {}
    deeds = {app: evidence.changes(app) for app in evidence.deeds}
    for entry in sorted(evidence.of("call_intended", "command_applied"), key=lambda entry: str(entry["at"])):
        person, app, at = entry["person_id"], entry["app"], seconds(entry["at"])
        if entry["kind"] == "call_intended":
            began[person, app, entry["writer"]] = at
            continue
        found = deeds[app].get(person, [])
        times = [deed.at for deed in found]
        first = bisect_right(times, began.get((person, app, entry["writer"]), at) - ROUNDING)
        states = [found[first - 1].after if first else None]
        states += [deed.after for deed in found[first : bisect_right(times, at + ROUNDING)]]
        wanted = entry["details"]["state"] == "active"
        if wanted not in [state is not None and state.active for state in states]:
            yield f"revision {entry['revision']} of {person} in {app} was reported and never was so"


def sequences_are_gapless(evidence: Evidence) -> Iterator[str]:
    """Each writer's entries are numbered from 1 without a gap, none is there twice."""
    yield from faults_of_sequences(evidence.entries)


# --- manners ----------------------------------------------------------------------------------------------------------


def retry_after_is_kept(evidence: Evidence) -> Iterator[str]:
    """A process that was asked to wait does not call before."""
    for app, deeds in evidence.deeds.items():
        waits: dict[str, list[Deed]] = defaultdict(list)
        for deed in deeds:
            for wait in waits[deed.caller]:
                assert wait.allowed_at is not None
                called_at = deed.at if deed.arrived_at is None else deed.arrived_at
                early = wait.at + HEARD_SECONDS < called_at < wait.allowed_at - ROUNDING
                if early and not _just_woke(evidence, deed) and not _clock_was_wrong(evidence, deed):
                    missed = wait.allowed_at - called_at
                    yield f"{deed.caller} called {app} {missed:.3f} s before it was allowed to ({wait.fault})"
            if deed.allowed_at is not None:
                waits[deed.caller].append(deed)


def leavers_go_first(evidence: Evidence) -> Iterator[str]:
    """Whoever gets out does not stand in line behind those who get in: of the joiners that a process had in line when
    a deactivation was issued, at most half are served before it, where nothing else held it up."""
    for app in evidence.deeds:
        made: dict[str, list[Deed]] = defaultdict(list)
        for deed in evidence.deeds[app]:
            if deed.method == "POST" and deed.person and deed.after is not None:
                made[deed.caller].append(deed)
        troubled = {deed.person for deed in evidence.deeds[app] if deed.fault not in ("", "slow")}
        outs, ins = _issued(evidence, app, TAKES_AWAY), _issued(evidence, app, ("create",))
        for person, deeds in evidence.changes(app).items():
            for deed in deeds:
                loses = deed.before and deed.before.active and not (deed.after and deed.after.active)
                since = max((at for at in outs.get(person, []) if at <= deed.at), default=None)
                if not loses or since is None or person in troubled:
                    continue
                if any(blow.about(since - DECIDED_SECONDS, deed.at) for blow in evidence.blows):
                    continue
                line = [
                    one.at for one in made[deed.caller] if one.at > since >= min(ins.get(one.person, []), default=since)
                ]
                ahead = sum(at < deed.at for at in line)
                if len(line) >= QUEUE and ahead > len(line) * OVERTAKEN_SHARE:
                    yield f"{person} got out of {app} after {ahead} of {len(line)} who were in line to get in"


def _issued(evidence: Evidence, app: str, commands: tuple[str, ...]) -> dict[str, list[float]]:
    """By person, when such commands were issued."""
    found: dict[str, list[float]] = defaultdict(list)
    for entry in evidence.of("command_issued"):
        if entry["app"] == app and entry["details"]["command"] in commands:
            found[entry["person_id"]].append(seconds(entry["at"]))
    return found


def nothing_leaks(evidence: Evidence) -> Iterator[str]:
    """No name and no token in a log, in metrics, or in the audit stream."""
    for name, content in evidence.logs.items():
        for canary in evidence.canaries:
            if found := re.search(re.escape(canary.encode()), content, re.IGNORECASE):
                line = content.count(b"\n", 0, found.start()) + 1
                yield f"{name}:{line} holds {canary!r}"


def witnesses_agree(evidence: Evidence) -> Iterator[str]:
    """What an application wrote of itself inside and outside is the same; else the evidence itself is in doubt."""
    for app, deeds in evidence.deeds.items():
        inner = Counter((deed.method, deed.path, deed.status) for deed in deeds)
        outer = Counter(
            (line["method"], line["path"].removeprefix("/scim/v2"), line["status"]) for line in evidence.journals[app]
        )
        if inner != outer:
            yield f"the journals of {app} differ: {list(((inner - outer) + (outer - inner)).items())[:5]}"


def nobody_gave_up(evidence: Evidence) -> Iterator[str]:
    """A role ends when it is told to, or killed, and never by itself."""
    yield from evidence.exits


CHECKS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    check.__name__: check
    for check in (
        leavers_are_out,
        nobody_is_locked_out,
        nobody_is_locked_out_meanwhile,
        groups_are_right,
        one_account,
        one_owner_at_a_time,
        leavers_stay_out,
        newer_wins,
        events_end_once,
        revisions_end_once,
        changes_are_intended,
        successes_are_real,
        applied_is_true,
        sequences_are_gapless,
        leavers_go_first,
        retry_after_is_kept,
        nothing_leaks,
        witnesses_agree,
        nobody_gave_up,
    )
}
