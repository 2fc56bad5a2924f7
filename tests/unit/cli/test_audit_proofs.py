"""`jml audit verify`, `prove`, `check-proof` and `key`: the words and exit codes that an auditor meets."""

import asyncio
import shutil
import stat
import subprocess
import time
from pathlib import Path

import httpx
import orjson
import pytest

from orchestrator.adapters.audit_log.keys import write_key
from orchestrator.adapters.audit_verify.verifying import UNCOMPARED
from orchestrator.adapters.kafka.embedded import EmbeddedBroker
from orchestrator.adapters.kafka.publishing import KafkaPublisher
from orchestrator.domain.signed_note import parse_signing, parse_verifier
from schemas.envelope import Message
from schemas.topics import AUDIT_CHECKPOINTS, AUDIT_ENTRIES
from tests.audit_log import KEY, OTHER_KEY
from tests.forge import forge, put, signed
from tests.unit.cli.conftest import CONFIG, entries
from tests.unit.cli.console import Jml
from tests.unit.cli.test_manners import COMMAND, ENVIRONMENT

HELD = entries()


@pytest.fixture
def log(folder: Path) -> Path:
    (folder / "key").write_text(f"{KEY.verifier}\n")
    return forge(folder / "log", [one for one in HELD if b"command_" not in one[:200] or b"issued" in one], sizes=(1,))


def test_a_good_log_is_said_to_be_so_in_one_line(jml: Jml, folder: Path) -> None:
    forge(folder / "log", HELD[:2])
    answer = jml("audit", "verify", "--log", "log", "--key", KEY.verifier)
    assert answer.code == 0
    assert answer.out.splitlines() == [
        f"GOOD: all 2 entries from 2026-03-03 08:15:00Z to 2026-03-04 08:15:00Z are there, in their order, unchanged;"
        f" signed by {KEY.verifier}; {UNCOMPARED}"
    ]
    told = jml("audit", "verify", "--log", "log", "--key", KEY.verifier, "--json").json
    assert (told["good"], told["entries"], told["problems"]) == (True, 2, [])


def test_without_a_key_the_one_in_the_folder_serves_and_is_said_to_be_weak(jml: Jml, folder: Path) -> None:
    forge(folder / "log", HELD[:2])
    answer = jml("audit", "verify", "--log", "log")
    assert answer.code == 0
    assert "whoever wrote the log may have written that too" in answer.out
    (folder / "log" / "key.pub").unlink()
    jml("audit", "verify", "--log", "log").refused("name the log's verifier key with --key")


def test_the_configured_key_serves_where_it_is_not_in_the_log_s_folder(
    jml: Jml, audit_log: Path, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(audit_log)
    forge(audit_log, HELD[:2])

    def told(key: str) -> tuple[int, str]:
        configured.write_text(f"{CONFIG}\n[audit]\n{key}\n")
        answer = jml("audit", "verify")
        assert jml("audit", "verify", "--json").json["key_from"] in ("log", "configuration")
        return answer.code, answer.out

    write_key(KEY, Path("keys/audit.key"))
    code, out = told('key_file = "keys/audit.key"')
    assert (code, "the key is the configured one" in out, "own folder" in out) == (0, True, False)
    Path("keys/audit.key.pub").unlink()
    assert told('key_file = "keys/audit.key"') == (code, out), "who has the private key has the other as well"
    write_key(KEY, audit_log / "key")
    for in_the_folder in ('key_file = "state/audit/key"', 'key_file = "keys/elsewhere.key"', 'key_env = "NOBODY_SET"'):
        code, out = told(in_the_folder)
        assert (code, "the key is the configured one" in out, "own folder" in out) == (0, False, True)
    monkeypatch.setenv("AUDIT_KEY", OTHER_KEY.private_text())
    code, out = told('key_env = "AUDIT_KEY"')
    assert (code, "is not signed by" in out) == (1, True)
    Path("keys/audit.key.pub").write_text(f"{OTHER_KEY.verifier}\n{KEY.verifier}\n")
    assert told('key_file = "keys/audit.key"')[0] == 0, "an earlier key beside the present one"


def test_the_topics_show_an_old_state_that_was_put_back(
    jml: Jml, configured: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured.write_text(f"{CONFIG}\n[audit]\ndir = 'log'\n")
    broker = EmbeddedBroker()
    broker.start()
    monkeypatch.setenv("JML_KAFKA__BOOTSTRAP", broker.bootstrap)

    async def publish() -> None:
        publisher = KafkaPublisher(broker.bootstrap)
        notes = [Message(AUDIT_CHECKPOINTS, b"", signed(HELD[:size])) for size in (1, 2)]
        await publisher.publish([Message(AUDIT_ENTRIES, b"", one) for one in HELD[:2]] + notes)
        await publisher.close()

    try:
        asyncio.run(publish())
        forge(folder / "log", HELD[:2], sizes=(1,))
        answer = jml("audit", "verify", "--topic", "--key", KEY.verifier)
        assert answer.code == 0, answer.out
        assert answer.out.splitlines() == [
            "note: the topics were read to their ends: 2 records, 2 checkpoints of this log",
            "GOOD: all 2 entries from 2026-03-03 08:15:00Z to 2026-03-04 08:15:00Z are there, in their order,"
            f" unchanged; signed by {KEY.verifier}",
        ]
        shutil.rmtree(folder / "log")
        forge(folder / "log", HELD[:1])
        assert jml("audit", "verify", "--key", KEY.verifier).code == 0, "nothing in the folder says that there was more"
        answer = jml("audit", "verify", "--topic", "--key", KEY.verifier)
        assert answer.code == 1
        assert "published: a checkpoint of 2 entries was published (offset 1) and is not among the kept" in answer.out
    finally:
        broker.stop()


def test_a_log_that_was_changed_is_named_and_ends_with_1(jml: Jml, folder: Path) -> None:
    forge(folder / "log", HELD[:2])
    put(folder / "log", "checkpoint", signed(HELD[:1]))
    answer = jml("audit", "verify", "--log", "log", "--key", KEY.verifier)
    assert answer.code == 1
    assert answer.out.splitlines()[-1].startswith("NOT GOOD: the audit log of 1 entries cannot be relied on.")
    assert not jml("audit", "verify", "--log", "log", "--key", OTHER_KEY.verifier, "--json").json["good"]


def test_it_continues_what_the_auditor_kept(jml: Jml, folder: Path) -> None:
    forge(folder / "log", HELD[:2])
    (folder / "kept").write_bytes(signed(HELD[:1]))
    (folder / "other").write_bytes(signed(HELD[1:2]))
    assert jml("audit", "verify", "--log", "log", "--from", "kept").code == 0
    answer = jml("audit", "verify", "--log", "log", "--from", "other")
    assert answer.code == 1
    assert "from: the checkpoint to start from, of 1, is of another tree" in answer.out


def test_the_configured_log_is_verified(jml: Jml, audit_log: Path) -> None:
    answer = jml("audit", "verify")
    assert answer.code == 1, "these entries tell of an outcome and of no intent"
    assert "intent: entry 2 (w/1/3): no intent of its writer comes before it" in answer.out


def test_an_entry_is_proved_and_the_proof_checked_without_the_log(jml: Jml, log: Path, folder: Path) -> None:
    made = jml("audit", "prove", "w/1/2", "--log", "log", "--output", "it.tlog-proof", "--json").json
    assert made["position"] == 1
    assert jml("audit", "prove", "1", "--log", "log").out == "entry 1 of 2: the proof is in 1.tlog-proof\n"
    assert (folder / "it.tlog-proof").read_bytes() == (folder / "1.tlog-proof").read_bytes()
    for path in sorted(log.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    answer = jml("audit", "check-proof", "it.tlog-proof", "--key", "key")
    assert answer.code == 0
    assert orjson.loads(answer.out.splitlines()[0])["id"] == "w/1/2"
    assert answer.out.splitlines()[1].startswith(
        "GOOD: this is entry 1 of the 2 in the audit log audit.example.com/jml"
    )
    assert jml("audit", "check-proof", "it.tlog-proof", "--key", "key", "--json").json["position"] == 1


@pytest.mark.parametrize("place", range(4))
def test_a_proof_that_was_changed_does_not_hold(jml: Jml, log: Path, folder: Path, place: int) -> None:
    jml("audit", "prove", "1", "--log", "log", "--output", "it")
    lines = (folder / "it").read_bytes().split(b"\n")
    line = lines[place + 1]
    lines[place + 1] = (
        b"index 0" if line.startswith(b"index") else line[:-5] + (b"AAAA=" if line[-5:] != b"AAAA=" else b"BBBB=")
    )
    (folder / "it").write_bytes(b"\n".join(lines))
    answer = jml("audit", "check-proof", "it", "--key", "key")
    assert answer.code == 1
    assert answer.out.startswith("NOT GOOD: the proof in it does not hold")


def test_a_proof_of_another_key_or_without_its_witness_does_not_hold(jml: Jml, log: Path) -> None:
    jml("audit", "prove", "1", "--log", "log", "--output", "it")
    assert jml("audit", "check-proof", "it", "--key", OTHER_KEY.verifier).code == 1
    witness = jml("audit", "key", "generate", "w.example.com", "--witness", "--output", "w.key").out.strip()
    answer = jml("audit", "check-proof", "it", "--key", "key", "--witness-key", witness)
    assert (answer.code, "is not signed by the witness w.example.com" in answer.out) == (1, True)


@pytest.mark.parametrize("option", ["--key", "--witness-key"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("garbage\n", "holds no key in line 1: it is no Ed25519 verifier key"),
        (f"{KEY.verifier}\n\nsome more\n", "holds no key in line 3: it is no Ed25519 verifier key"),
        (" \n", "holds no key: it is empty"),
    ],
)
def test_a_file_without_a_key_is_named(
    jml: Jml, log: Path, folder: Path, option: str, content: str, words: str
) -> None:
    (folder / "other").write_text(content)
    jml("audit", "verify", "--log", "log", option, "other").refused(f"{option}: other {words}")


def test_a_key_in_the_log_s_folder_that_is_none_is_named(jml: Jml, log: Path, folder: Path) -> None:
    (folder / "log" / "key.pub").write_text("garbage")
    jml("audit", "verify", "--log", "log").refused("log/key.pub holds no key in line 1")


def test_mistakes_are_one_line(jml: Jml, log: Path, folder: Path) -> None:
    jml("audit", "verify", "--log", "nowhere").refused("there is no audit log in nowhere")
    jml("audit", "verify", "--log", "log", "--key", "a+b+c").refused("--key", "verifier key")
    jml("audit", "verify", "--log", "log", "--from", "nowhere").refused("nowhere cannot be read")
    jml("audit", "verify", "--log", "log", "--from", "key").refused("key is no checkpoint, or a damaged one")
    jml("audit", "prove", "17", "--log", "log").refused("entry 17 is not signed yet: the newest checkpoint covers 2")
    jml("audit", "prove", "x/1/1", "--log", "log").refused("there is no entry 'x/1/1'")
    jml("audit", "check-proof", "key").refused("--key")
    jml("audit", "key", "generate", "a b").refused("a key cannot be called 'a b'")


def test_a_key_is_made_for_its_owner_alone_and_never_twice(jml: Jml, folder: Path) -> None:
    answer = jml("audit", "key", "generate", "audit.example.com/jml")
    key = parse_signing((folder / "audit.key").read_text())
    assert parse_verifier(answer.out.strip()) == key.verifier == parse_verifier((folder / "audit.key.pub").read_text())
    assert stat.S_IMODE((folder / "audit.key").stat().st_mode) == 0o600
    assert key.private_text() not in answer.out + answer.err
    jml("audit", "key", "generate", "audit.example.com/jml").refused("audit.key exists already")


def test_a_witness_serves_until_it_is_told_to_end(jml: Jml, folder: Path) -> None:
    jml("audit", "key", "generate", "w.example.com", "--witness", "--output", "w.key")
    arguments = ["--key-file", "w.key", "--log-key", str(KEY.verifier), "--state", "w", "--port", "0"]
    jml(
        "audit", "witness", *arguments[:3], str(parse_signing((folder / "w.key").read_text()).verifier), *arguments[4:]
    ).refused("--log-key takes keys of logs")
    port = free_port()
    arguments[-1] = str(port)
    with subprocess.Popen([*COMMAND, "audit", "witness", *arguments], env=ENVIRONMENT, cwd=folder) as process:
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}/add-checkpoint", content=b"old 0\n\n" + signed(HELD[:2]))
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert answer.status_code == 200
        assert answer.text.startswith("— w.example.com ")
        process.terminate()
        assert process.wait(20) in (0, -15)


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
