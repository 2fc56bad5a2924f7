"""Attacks on the audit log. Each check is shown the attack that it alone finds: without it the log passes as good."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.adapters.audit_verify import Verdict, verify
from orchestrator.adapters.audit_verify.folder import LogFolder
from orchestrator.adapters.audit_verify.verifying import UNCOMPARED
from orchestrator.domain.audit_checks import CHECKS, PUBLISHED, TOPIC
from orchestrator.domain.signed_note import COSIGNATURE, SigningKey
from orchestrator.domain.tlog import (
    CHECKPOINT,
    HISTORY,
    WITNESSED,
    Checkpoint,
    bundle_path,
    encode_bundle,
    encode_frame,
    journal_path,
    tile_path,
)
from tests.audit_log import KEY, NOW, OTHER_KEY, entries, entry
from tests.forge import forge, put, signed

WITNESS = SigningKey("witness.example.com/w1", COSIGNATURE, bytes(range(2, 34)))
ACCOUNT: dict[str, Any] = {"subject": "4711", "app": "crm", "revision": 3}
CONNECTOR = "connector.crm@host-2-def"


def call(sequence: int, kind: str, *, hours: float = 0, **details: Any) -> bytes:
    """An entry about one account, by its connector."""
    at = NOW + timedelta(hours=hours, seconds=sequence)
    return entry(sequence, kind, writer=CONNECTOR, at=at, details=details, **ACCOUNT)


RECORDS = [
    *entries(250),
    call(1, "call_intended"),
    call(2, "command_retried", code="unavailable", calls=[]),
    call(3, "call_intended"),
    call(4, "command_applied", calls=[["POST", 201]]),
    call(5, "account_verified", calls=[]),
    entry(251),
    *(entry(number, writer="relay@host-3-ghi") for number in range(1, 45)),
]
"""300 entries. The second bundle holds those of one writer and of no other."""
LAST = len(RECORDS)


@dataclass
class Attack:
    """A log and the way in which it is looked at."""

    folder: Path
    since: bytes | None = None
    witnesses: list[Any] = field(default_factory=list)

    def verify(self, checks: Any = CHECKS) -> Verdict:
        return verify(self.folder, [KEY.verifier], since=self.since, witnesses=self.witnesses, checks=checks)


@pytest.fixture
def log(tmp_path: Path) -> Attack:
    return Attack(forge(tmp_path / "audit", RECORDS, sizes=(100, 200)))


def test_a_log_as_it_should_be_is_good(log: Attack) -> None:
    log.since = signed(RECORDS[:150])
    verdict = log.verify()
    assert verdict.good, verdict.problems
    assert verdict.summary == (
        "GOOD: all 300 entries from 2026-03-02 08:15:01Z to 2026-03-02 08:19:11Z are there, in their order, unchanged;"
        f" signed by {KEY.verifier}"
    )
    assert (verdict.entries, verdict.size, verdict.checkpoints, verdict.writers) == (300, 300, 3, 3)


# --- attacks that one check finds ---------------------------------------------------------------------------------


def relogged(log: Attack, records: list[bytes]) -> None:
    """What an insider does who has the key and no witness: the whole log is written anew."""
    shutil.rmtree(log.folder)
    forge(log.folder, records, sizes=(100, 200))


def another_key(log: Attack) -> None:
    put(log.folder, CHECKPOINT, signed(RECORDS, OTHER_KEY))


def another_log_of_the_same_key(log: Attack) -> None:
    put(log.folder, CHECKPOINT, signed(RECORDS, origin="other.example.com/log"))


def a_root_that_was_never_the_tree_s(log: Attack) -> None:
    note = KEY.sign(Checkpoint(KEY.name, LAST, bytes(32)).text()).encode()
    put(log.folder, CHECKPOINT, note)


def a_fork_in_the_history(log: Attack) -> None:
    fork = signed([*RECORDS[:99], entry(777)])
    history = (log.folder / HISTORY).read_bytes().replace(signed(RECORDS[:100]), fork)
    put(log.folder, HISTORY, history)


def kept_checkpoints_taken_away(log: Attack) -> None:
    (log.folder / HISTORY).unlink()


def an_old_state_put_back(log: Attack) -> None:
    later = signed([*RECORDS, entry(252)])
    put(log.folder, HISTORY, (log.folder / HISTORY).read_bytes() + later + b"\n")


def an_old_state_put_back_with_all_its_checkpoints(log: Attack) -> None:
    """Only the entries themselves were forgotten."""
    shutil.rmtree(log.folder / "journal")
    put(log.folder, CHECKPOINT, signed(RECORDS[:200]))
    put(log.folder, HISTORY, b"".join(signed(RECORDS[:size]) + b"\n" for size in (100, 200)))


def a_bundle_cut_off(log: Attack) -> None:
    path = log.folder / bundle_path(1, 44)
    path.write_bytes(path.read_bytes()[:-1])


def a_hash_changed(log: Attack) -> None:
    flip(log.folder / tile_path(1, 0, 1), 5)


def a_batch_of_the_journal_changed(log: Attack) -> None:
    frames = [encode_frame(LAST + n, [entry(1, writer=f"w{n}")]) for n in range(3)]
    put(log.folder, journal_path(LAST), b"".join(frames))
    flip(log.folder / journal_path(LAST), len(frames[0]) + 40)


def a_log_written_anew(log: Attack) -> None:
    log.since = signed(RECORDS[:150])
    relogged(log, [*RECORDS[:99], entry(100, "timer_fired"), *RECORDS[100:]])


def a_log_written_anew_after_a_witness_signed(log: Attack) -> None:
    log.witnesses = [WITNESS.verifier]
    note = signed(RECORDS[:150])
    line = WITNESS.cosign(note.decode().partition("\n\n")[0] + "\n", 1700000000)
    relogged(log, [*RECORDS[:99], entry(100, "timer_fired"), *RECORDS[100:]])
    put(log.folder, f"{WITNESSED}/{WITNESS.verifier.id.hex()}", note + line.line().encode())


def what_is_no_entry(log: Attack) -> None:
    relogged(log, [*RECORDS, b'{"id":"a/1/1"}'])


def an_entry_twice(log: Attack) -> None:
    relogged(log, [*RECORDS, RECORDS[17]])


def a_number_skipped(log: Attack) -> None:
    relogged(log, [*RECORDS, entry(253)])


def an_outcome_without_intent(log: Attack) -> None:
    relogged(log, [*RECORDS, call(6, "command_applied", calls=[["PATCH", 200]])])


def an_intent_that_led_nowhere(log: Attack) -> None:
    later = entry(1, writer="scheduler@host-4-jkl", at=NOW + timedelta(hours=2))
    relogged(log, [*RECORDS, call(6, "call_intended"), later])


def a_rejected_record_thrown_away(log: Attack) -> None:
    details = {"code": "undecodable", "sha256": "ab" * 32, "bytes": 3}
    relogged(log, [*RECORDS, entry(252, "entry_rejected", details=details)])


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


ATTACKS: dict[str, Callable[[Attack], None]] = {
    "signature": another_key,
    "origin": another_log_of_the_same_key,
    "root": a_root_that_was_never_the_tree_s,
    "history": a_fork_in_the_history,
    "kept": kept_checkpoints_taken_away,
    "newest": an_old_state_put_back,
    "cut": an_old_state_put_back_with_all_its_checkpoints,
    "bundle": a_bundle_cut_off,
    "tile": a_hash_changed,
    "journal": a_batch_of_the_journal_changed,
    "from": a_log_written_anew,
    "witness": a_log_written_anew_after_a_witness_signed,
    "entry": what_is_no_entry,
    "once": an_entry_twice,
    "gap": a_number_skipped,
    "intent": an_outcome_without_intent,
    "outcome": an_intent_that_led_nowhere,
    "rejected": a_rejected_record_thrown_away,
}


def test_every_check_has_its_attack() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert {*ATTACKS, TOPIC.name, PUBLISHED.name} == set(names), "the topics' attacks are in test_topic.py"


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_is_found_by_its_check_and_by_no_other(log: Attack, name: str) -> None:
    ATTACKS[name](log)
    verdict = log.verify()
    assert {problem.check for problem in verdict.problems} == {name}, verdict.problems
    assert verdict.summary.startswith("NOT GOOD")
    without = log.verify([check for check in CHECKS if check.name != name])
    assert without.good, "a verifier without the check would have let it pass"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *(({"sequence": odd}, "no writer, epoch and sequence from 1") for odd in (0, -1, True, 1.5, "1", None)),
        ({"writer": 7}, "no writer"),
        ({"epoch": "1"}, "no writer"),
        ({"id": "resolver@host-1-abc/1/2520"}, "its id is not writer/epoch/sequence"),
        *(({"kind": odd}, "its kind is none") for odd in ("Timer Set", "", 7, None)),
        ({"at": "2026-03-02T08:15:00"}, "its time has no zone"),
        ({"at": "yesterday"}, "it is no entry: ValueError"),
        ({"at": None}, "it is no entry: TypeError"),
    ],
)
def test_an_entry_has_a_number_a_kind_and_an_instant(log: Attack, change: dict[str, Any], reason: str) -> None:
    relogged(log, [*RECORDS, orjson.dumps({**orjson.loads(entry(252)), **change})])
    assert [(one.check, one.position) for one in log.verify().problems] == [("entry", LAST)]
    assert reason in log.verify().summary


# --- what an outsider can do to the files: always found, and named ------------------------------------------------


def bundle_of(records: list[bytes], log: Attack) -> None:
    put(log.folder, bundle_path(0), encode_bundle(records))


def changed_entry(log: Attack) -> None:
    bundle_of([*RECORDS[:17], RECORDS[17].replace(b"timer_set", b"timer_sat"), *RECORDS[18:256]], log)


def deleted_entry(log: Attack) -> None:
    bundle_of([*RECORDS[:17], *RECORDS[18:256]], log)


def inserted_entry(log: Attack) -> None:
    bundle_of([*RECORDS[:17], entry(999), *RECORDS[17:256]], log)


def replaced_entry(log: Attack) -> None:
    bundle_of([*RECORDS[:17], entry(999), *RECORDS[18:256]], log)


def swapped_entries(log: Attack) -> None:
    bundle_of([*RECORDS[:17], RECORDS[18], RECORDS[17], *RECORDS[19:256]], log)


def missing_bundle(log: Attack) -> None:
    (log.folder / bundle_path(0)).unlink()


def missing_tile(log: Attack) -> None:
    (log.folder / tile_path(0, 0)).unlink()


def tile_of_zeros(log: Attack) -> None:
    put(log.folder, tile_path(0, 0), bytes(8192))


def changed_entry_and_its_tile(log: Attack) -> None:
    """Who cannot sign can still make files that fit together; the root does not."""
    note = (log.folder / CHECKPOINT).read_bytes()
    history = (log.folder / HISTORY).read_bytes()
    forge(log.folder, [*RECORDS[:150], entry(151, "timer_fired"), *RECORDS[151:]])
    put(log.folder, CHECKPOINT, note)
    put(log.folder, HISTORY, history)


def cut_at_the_end(log: Attack) -> None:
    """An older checkpoint, rightly signed, and nothing after it."""
    history = (log.folder / HISTORY).read_bytes()
    shutil.rmtree(log.folder)
    forge(log.folder, RECORDS[:200], sizes=(100,))
    put(log.folder, HISTORY, history)


def no_checkpoint(log: Attack) -> None:
    (log.folder / CHECKPOINT).unlink()


@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (changed_entry, "entry 17 (resolver@host-1-abc/1/18)"),
        (deleted_entry, "it holds 255 entries instead of 256; entries 0 to 255"),
        (inserted_entry, "it holds 257 entries instead of 256; entries 0 to 255"),
        (replaced_entry, "entry 17 (resolver@host-1-abc/1/999)"),
        (swapped_entries, "entry 17 (resolver@host-1-abc/1/19)"),
        (missing_bundle, "tile/entries/000 is missing"),
        (missing_tile, "tile/0/000 is missing"),
        (tile_of_zeros, "entry 0 (resolver@host-1-abc/1/1)"),
        (changed_entry_and_its_tile, "something between entry 100 and entry 199"),
        (cut_at_the_end, "of 300 entries was signed and there are only 200"),
        (no_checkpoint, "checkpoints were signed and the newest one is gone"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whoever_changes_the_files_is_found_and_the_entry_named(
    log: Attack, attack: Callable[[Attack], None], named: str
) -> None:
    attack(log)
    verdict = log.verify()
    assert not verdict.good
    assert named in "\n".join(map(str, verdict.problems))


def test_a_checkpoint_may_say_any_size_and_is_judged_by_what_is_there(log: Attack) -> None:
    """Nobody has to wait for the end of a number."""
    put(log.folder, CHECKPOINT, KEY.sign(Checkpoint(KEY.name, 10**30, bytes(32)).text()).encode())
    verdict = log.verify()
    assert {"bundle", "root", "kept"} <= {problem.check for problem in verdict.problems}
    assert "no file holds those from 512 on" in "\n".join(map(str, verdict.problems))


@pytest.mark.parametrize("damaged", [b"", b"nonsense", signed(RECORDS)[:-9]])
def test_a_damaged_checkpoint_does_not_make_an_empty_log(log: Attack, damaged: bytes) -> None:
    (log.folder / HISTORY).unlink()
    put(log.folder, CHECKPOINT, damaged)
    assert "signature: the newest checkpoint is damaged" in "\n".join(map(str, log.verify().problems))


@pytest.mark.parametrize("path", [CHECKPOINT, HISTORY, bundle_path(0), tile_path(0, 0), tile_path(1, 0, 1), "tile"])
def test_something_else_in_a_file_s_place_is_as_if_it_was_missing(log: Attack, path: str) -> None:
    target = log.folder / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    target.write_bytes(b"") if path == "tile" else target.mkdir()
    verdict = log.verify()
    assert not verdict.good
    assert path in "\n".join(map(str, verdict.problems)) or path in (CHECKPOINT, HISTORY, "tile")


def test_a_journal_that_was_taken_away_is_told(log: Attack) -> None:
    shutil.rmtree(log.folder / "journal")
    assert log.verify().notes == (
        "there is no journal: what came after the checkpoint of 300, if anything did, is missing",
    )


def test_any_byte_of_the_signed_files_counts(log: Attack) -> None:
    """Five bytes of every file of the tree, and every byte of the checkpoint."""
    for path in sorted(log.folder.rglob("*")):
        if not path.is_file() or path.name in ("key.pub",) or path.parent.name == "journal":
            continue
        data = path.read_bytes()
        for place in range(0, len(data), 1 if path.name == CHECKPOINT else max(len(data) // 5, 1)):
            flip(path, place)
            assert not log.verify().good, f"byte {place} of {path.relative_to(log.folder)}"
            path.write_bytes(data)
    assert log.verify().good


# --- what is no attack --------------------------------------------------------------------------------------------


def test_what_is_open_or_late_is_no_problem(log: Attack) -> None:
    """The order of the topic is not always that of the writers, and the newest calls have no outcome yet."""
    late = entry(4, "call_intended", writer="connector.crm@dead", at=NOW, **ACCOUNT)
    dead = [entry(n, writer="connector.crm@dead", at=NOW) for n in (3, 1, 2)]
    swapped = [
        call(7, "command_applied", calls=[["PATCH", 200]]),
        call(6, "call_intended"),
    ]
    end = entry(1, writer="scheduler@host-4-jkl", at=NOW + timedelta(hours=2))
    under_way = call(8, "call_intended", hours=2)
    relogged(log, [*RECORDS, *swapped, *dead, late, end, under_way])
    verdict = log.verify()
    assert verdict.good, verdict.problems
    assert verdict.notes == ("1 call was under way at the end of the log",)


def test_a_paused_application_may_keep_calls_waiting(log: Attack) -> None:
    later = entry(2, writer="scheduler@host-4-jkl", at=NOW + timedelta(hours=2))
    paused = entry(1, "application_paused", writer="scheduler@host-4-jkl", app="crm")
    relogged(log, [*RECORDS, call(6, "call_intended"), paused, later])
    assert log.verify().good
    resumed = entry(3, "application_resumed", writer="scheduler@host-4-jkl", app="crm")
    relogged(log, [*RECORDS, call(6, "call_intended"), paused, later, resumed])
    assert [one.check for one in log.verify().problems] == ["outcome"]


def test_an_intent_of_somebody_who_lost_the_account_is_followed_by_the_winner(log: Attack) -> None:
    loser = entry(1, "call_intended", writer="connector.crm@slow", at=NOW, **ACCOUNT)
    winner = [call(6, "call_intended"), call(7, "command_applied", calls=[["PATCH", 200]])]
    later = entry(1, writer="scheduler@host-4-jkl", at=NOW + timedelta(hours=2))
    relogged(log, [*RECORDS, loser, *winner, later])
    assert log.verify().good


def test_tiles_that_were_written_before_the_writer_died_are_no_sign_of_a_cut(log: Attack) -> None:
    """The journal holds their entries until the checkpoint over them is on the disk."""
    put(log.folder, bundle_path(1, 50), encode_bundle([*RECORDS[256:], *(entry(n) for n in range(252, 258))]))
    assert [problem.check for problem in log.verify().problems] == ["cut"]
    put(log.folder, journal_path(LAST), encode_frame(LAST, [entry(n) for n in range(252, 258)]))
    assert log.verify().good


@pytest.mark.parametrize(
    ("paths", "end"),
    [
        ([], 0),
        (["000.p/7"], 7),
        (["000.p/7", "000.p/200"], 200),
        (["000.p/200", "000"], 256),
        (["000", "001.p/44", "README", "x1", "abc.p/9"], 300),
        (["998", "x001/002.p/3"], 1002 * 256 + 3),
        (["998", "x001/234", "x002/005"], 2006 * 256),
        (["x001/234", "x999/999", "x001/x234/067", "x001/x234/068.p/1"], 1234068 * 256 + 1),
    ],
)
def test_the_names_of_the_bundles_say_how_many_entries_there_were(tmp_path: Path, paths: list[str], end: int) -> None:
    for path in paths:
        put(tmp_path, f"tile/entries/{path}", b"")
    assert LogFolder(tmp_path).held() == end


def test_a_verdict_says_what_the_log_alone_cannot_exclude(log: Attack) -> None:
    assert log.verify().summary.endswith(UNCOMPARED)
    assert "--from" in UNCOMPARED
    log.since = signed(RECORDS[:150])
    assert (log.verify().compared, UNCOMPARED in log.verify().summary) == (("from",), False)


def test_an_intent_may_be_published_after_what_followed_it(log: Attack) -> None:
    """Its process died; the winner took the account up before the relay came to what was left."""
    loser = entry(1, "call_intended", writer="connector.crm@dead", at=NOW, **ACCOUNT)
    winner = [call(6, "call_intended"), call(7, "command_applied", calls=[["PATCH", 200]])]
    later = entry(1, writer="scheduler@host-4-jkl", at=NOW + timedelta(hours=2))
    relogged(log, [*RECORDS, *winner, loser, later])
    assert log.verify().good
    before = entry(1, "call_intended", writer="connector.crm@dead", at=NOW + timedelta(minutes=5), **ACCOUNT)
    relogged(log, [*RECORDS, *winner, before, later])
    assert [one.check for one in log.verify().problems] == ["outcome"], "nothing of the account is as late as that"


def test_progress_is_told(log: Attack) -> None:
    told: list[tuple[int, int]] = []
    verify(log.folder, [KEY.verifier], progress=lambda done, total: told.append((done, total)))
    assert told == [(256, 300)]


def test_a_batch_that_was_being_written_is_a_note(log: Attack) -> None:
    frame = encode_frame(LAST, [entry(252)])
    put(log.folder, journal_path(LAST), frame + encode_frame(LAST + 1, [entry(253)])[:-3])
    verdict = log.verify()
    assert verdict.good
    assert (verdict.entries, verdict.size) == (301, 300)
    assert "(1 of them not signed yet)" in verdict.summary
    assert "were being written" in verdict.notes[0]


def test_keys_follow_each_other(log: Attack) -> None:
    """After a key was changed both are needed: the old checkpoints were signed by the old one."""
    put(log.folder, CHECKPOINT, signed(RECORDS, OTHER_KEY))
    old = (log.folder / HISTORY).read_bytes()
    put(log.folder, HISTORY, old + signed(RECORDS, OTHER_KEY) + b"\n")
    assert not log.verify().good
    assert verify(log.folder, [KEY.verifier, OTHER_KEY.verifier]).good


def test_an_empty_log(tmp_path: Path) -> None:
    nothing = verify(tmp_path, [KEY.verifier])
    assert "this is no audit log, or all of it was taken away" in nothing.summary
    assert not nothing.good
    assert verify(forge(tmp_path, []), [KEY.verifier]).summary.startswith("GOOD: the audit log is empty")


def test_a_log_whose_beginning_somebody_knows_cannot_be_emptied(tmp_path: Path) -> None:
    verdict = verify(tmp_path, [KEY.verifier], since=signed(RECORDS))
    assert [problem.check for problem in verdict.problems] == ["signature", "from"]
