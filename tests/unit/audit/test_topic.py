"""The topic against the log: what was dropped, added or changed between the two is found."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.adapters.audit_log import read_entries
from orchestrator.domain.audit_checks import CHECKS, Findings
from orchestrator.domain.audit_topic import PublishedComparison, TopicComparison
from orchestrator.domain.tlog import MAX_ENTRY_BYTES
from tests.audit_log import KEY, OTHER_KEY, entries, entry, write_log
from tests.forge import signed

RECORDS = entries(30)
BIG = entry(1, writer="big", details={"x": "x" * MAX_ENTRY_BYTES})


def compare(folder: Path, topic: Sequence[bytes], without: str = "", begins: int = 0) -> Findings:
    findings = Findings([check for check in CHECKS if check.name != without])
    comparison = TopicComparison(findings, lambda: read_entries(folder))
    comparison.begins(begins)
    for offset, record in enumerate(topic[begins:], begins):
        comparison.see(offset, record)
    comparison.finish()
    return findings


def test_a_log_is_its_topic_without_what_came_twice(tmp_path: Path) -> None:
    topic = [
        *RECORDS[:10],
        b"no entry",
        b"{}",
        b"[]",
        b"7",
        RECORDS[0],
        *RECORDS[5:15],
        BIG,
        b"no entry",
        *RECORDS[10:],
        BIG,
    ]
    write_log(tmp_path, [topic[:15], topic[15:]])
    found = compare(tmp_path, topic)
    assert (found.total, found.notes) == (0, [])


def test_what_is_not_in_the_log_yet_is_a_note(tmp_path: Path) -> None:
    write_log(tmp_path, [RECORDS[:20]])
    found = compare(tmp_path, [*RECORDS, b"no entry"])
    assert (found.total, found.notes) == (0, ["11 records of the topic are not in the log yet"])


@pytest.mark.parametrize(
    ("topic", "log", "named"),
    [
        (RECORDS, [*RECORDS[:7], *RECORDS[8:]], "another record in its place, resolver@host-1-abc/1/8 at offset 7"),
        ([*RECORDS[:7], *RECORDS[8:]], RECORDS, "entry 8 (resolver@host-1-abc/1/8)"),
        (RECORDS[:20], RECORDS, "the topic does not have it, nor what follows"),
        (RECORDS, [*RECORDS[:7], entry(8, "timer_fired"), *RECORDS[8:]], "entry 8 (resolver@host-1-abc/1/8)"),
        (RECORDS, [RECORDS[1], RECORDS[0], *RECORDS[2:]], "entry 1 (resolver@host-1-abc/1/2)"),
        ([*RECORDS[:7], b"no entry", *RECORDS[7:]], RECORDS, "8 bytes that are no entry at offset 7"),
        (RECORDS, [*RECORDS, entry(1, writer="auditor@evil")], "entry 31 (auditor@evil/1/1)"),
        (RECORDS, [*RECORDS, entry(1, "audit_configured", writer="evil")], "entry 31 (evil/1/1)"),
    ],
    ids=["dropped", "added", "topic cut", "changed", "reordered", "rejected in silence", "as the auditor", "of itself"],
)
def test_a_difference_is_found_and_named(tmp_path: Path, topic: list[bytes], log: list[bytes], named: str) -> None:
    write_log(tmp_path, [log])
    found = compare(tmp_path, topic)
    assert [problem.check for problem in found.problems] == ["topic"]
    assert named in str(found.problems[0])
    assert compare(tmp_path, topic, without="topic").total == 0, "the check is what finds it"


def test_a_record_that_took_the_number_of_another_is_found(tmp_path: Path) -> None:
    """Each entry is appended once, by its number: whoever comes first with one keeps the other one out."""
    forged = entry(8, "timer_fired")
    topic = [*RECORDS[:7], forged, *RECORDS[3:]]
    write_log(tmp_path, [topic])
    found = compare(tmp_path, topic)
    assert [str(problem) for problem in found.problems] == [
        "topic: offset 12 of the topic has another record with the number of resolver@host-1-abc/1/8,"
        " which the log has not: one of the two is not its writer's"
    ]
    assert compare(tmp_path, topic, without="topic").total == 0


def test_a_topic_that_lost_its_head_is_compared_from_there_on(tmp_path: Path) -> None:
    topic = [*RECORDS[:7], b"no entry", *RECORDS[7:]]
    write_log(tmp_path, [topic])
    gone = "topic: the topic begins at offset 10: what was before it was deleted"
    assert [str(problem) for problem in compare(tmp_path, [*topic, RECORDS[2]], begins=10).problems] == [gone]
    gone_too = gone.replace("offset 10", "offset 7")
    assert [str(problem) for problem in compare(tmp_path, topic, begins=7).problems] == [gone_too]
    dropped = [*topic[:20], entry(1, writer="other"), *topic[20:]]
    first, second = compare(tmp_path, dropped, begins=10).problems
    assert str(first) == gone
    assert "another record in its place, other/1/1 at offset 20" in second.text
    first, second = compare(tmp_path, [*topic[:10], entry(1, writer="other")], begins=10).problems
    assert second.text.startswith("the topic has another record in its place, other/1/1"), "the log has none of it"
    assert compare(tmp_path, topic, without="topic", begins=10).total == 0


# --- the topic of checkpoints -------------------------------------------------------------------------------------

KEPT = [signed(RECORDS[:size]) for size in (5, 10, 10, 20)]


def held_against(
    published: Sequence[bytes], kept: Sequence[bytes] = KEPT, without: str = "", begins: int = 0
) -> Findings:
    findings = Findings([check for check in CHECKS if check.name != without])
    comparison = PublishedComparison(findings, lambda: iter(kept), KEY.name, [KEY.verifier])
    comparison.begins(begins)
    for offset, record in enumerate(published[begins:], begins):
        comparison.see(offset, record)
    comparison.finish()
    return findings


@pytest.mark.parametrize(
    "published",
    [KEPT, KEPT[1:], [KEPT[0], KEPT[0], KEPT[3], KEPT[3]], [KEPT[3], KEPT[1], KEPT[3]]],
    ids=["all", "some", "twice", "late, by an auditor that woke up"],
)
def test_what_was_published_was_kept(published: list[bytes]) -> None:
    found = held_against(published)
    assert (found.total, found.notes) == (0, [])


@pytest.mark.parametrize(
    ("published", "kept", "named"),
    [
        (KEPT, KEPT[:3], "a checkpoint of 20 entries was published (offset 3)"),
        ([KEPT[0], signed(entries(10, 2)), KEPT[3]], KEPT, "a checkpoint of 10 entries was published (offset 1)"),
        (KEPT, [], "a checkpoint of 5 entries was published (offset 0)"),
        (KEPT, [b"damaged", *KEPT[:2]], "a checkpoint of 20 entries"),
    ],
    ids=["cut", "forked", "thrown away", "damaged"],
)
def test_what_was_published_and_not_kept_is_found(published: list[bytes], kept: list[bytes], named: str) -> None:
    found = held_against(published, kept)
    assert {problem.check for problem in found.problems} == {"published"}
    assert named in str(found.problems[0])
    assert held_against(published, kept, without="published").total == 0


@pytest.mark.parametrize(
    ("published", "newest"),
    [
        ([], "none was so far"),
        (KEPT[:2], "the newest one that was, is of 10"),
        ([KEPT[1], KEPT[0]], "the newest one that was, is of 10"),
    ],
)
def test_a_checkpoint_that_was_not_published_yet_is_a_note(published: list[bytes], newest: str) -> None:
    found = held_against(published)
    note = f"the log's newest checkpoint, of 20 entries, is not published yet: {newest}"
    assert (found.total, found.notes) == (0, [note])


def test_checkpoints_that_are_published_again_hide_none_that_is_gone() -> None:
    kept = [signed(RECORDS[:size]) for size in range(1, 21)]
    again = [KEY.sign(f"{KEY.name}\n1\n{'A' * 43}=\nextension {number}\n").encode() for number in range(200)]
    cut = signed([*RECORDS[:20], *entries(1, 31)])
    found = held_against([kept[-1], *again, cut], kept=[*again, *kept])
    assert [problem.text.partition(" (")[0] for problem in found.problems] == [
        "a checkpoint of 21 entries was published"
    ]


def test_a_topic_of_checkpoints_that_lost_its_head_is_found() -> None:
    found = held_against(KEPT, begins=2)
    assert [str(problem) for problem in found.problems] == [
        "published: the topic of checkpoints begins at offset 2: what was before it was deleted"
    ]
    assert held_against(KEPT, begins=2, without="published").total == 0


def test_who_may_write_to_the_topic_and_cannot_sign_raises_no_alarm() -> None:
    others = [b"nonsense", signed(RECORDS, OTHER_KEY), signed(RECORDS, origin="other.example.com/log")]
    found = held_against([*KEPT, *others])
    assert (found.total, found.notes) == (0, ["3 records of the topic of checkpoints are not of this log"])
