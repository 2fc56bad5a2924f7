"""The witness as C2SP tlog-witness has it: what it signs, what it answers otherwise, and that it never signs a fork."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from orchestrator.adapters.audit_log.witnesses import HttpWitness
from orchestrator.adapters.audit_verify import verify
from orchestrator.adapters.audit_witness import Witness
from orchestrator.domain.merkle import consistency_proof, leaf_hash, perfect_root
from orchestrator.domain.signed_note import COSIGNATURE, SigningKey, generate_key, parse_note, parse_signatures
from orchestrator.domain.tlog import Checkpoint
from orchestrator.domain.witness import MAX_REQUEST_BYTES
from orchestrator.errors import ConfigError, WitnessRefused, WitnessUnavailable
from orchestrator.flows.checkpoints import CheckpointFlow
from orchestrator.testing.clock import ManualClock
from tests.audit_log import KEY, NOW, OTHER_KEY, entries, entry, write_batches, writer
from tests.forge import forge, signed

RECORDS = entries(20)
FORK = [*RECORDS[:5], entry(999), *RECORDS[6:]]


@pytest.fixture
def key() -> SigningKey:
    return generate_key("witness.example.com/w1", COSIGNATURE)


@pytest.fixture
def witness(tmp_path: Path, key: SigningKey) -> Witness:
    made = Witness(tmp_path / "witness", key, [KEY.verifier], ManualClock(NOW))
    made.open()
    return made


def proof(old: int, records: list[bytes]) -> list[bytes]:
    def subtree(height: int, index: int) -> bytes:
        return perfect_root([leaf_hash(one) for one in records[index << height : (index + 1) << height]])

    return consistency_proof(old, len(records), subtree)


def request(old: int, records: list[bytes], note: bytes | None = None, hashes: list[bytes] | None = None) -> bytes:
    found = proof(old, records) if hashes is None and old <= len(records) else hashes or []
    lines = [f"old {old}", *(base64.b64encode(one).decode() for one in found), "", ""]
    return "\n".join(lines).encode() + (signed(records) if note is None else note)


async def test_it_signs_what_continues_and_remembers(witness: Witness, key: SigningKey) -> None:
    for old, size in ((0, 7), (7, 7), (7, 20)):
        answer = await witness.add_checkpoint(request(old, RECORDS[:size]))
        assert answer.status == 200
        (line,) = parse_signatures(answer.body.encode())
        note = parse_note(signed(RECORDS[:size]) + line.line().encode())
        assert key.verifier.signed(note)
        assert key.verifier.time(note) == int(NOW.timestamp())


UNKNOWN = generate_key("unknown.example.com/log").sign(f"unknown.example.com/log\n1\n{'A' * 43}=\n").encode()
EMPTY = KEY.sign(Checkpoint(KEY.name, 0, bytes(32)).text()).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"old 7\n\n", 400),
        (b"old x\n\n" + signed(RECORDS), 400),
        (b"old 07\n\n" + signed(RECORDS), 400),
        (b"old 7\nnot base64\n\n" + signed(RECORDS), 400),
        (b"old 7\nAAAA\n\n" + signed(RECORDS), 400),
        (request(7, RECORDS, hashes=[bytes(32)] * 64), 400),
        (request(7, RECORDS, hashes=[bytes(32)] * 63), 422),
        (request(8, RECORDS[:7]), 400),
        (request(7, RECORDS, UNKNOWN), 404),
        (request(7, RECORDS, signed(RECORDS, OTHER_KEY)), 403),
        (request(7, RECORDS, signed(RECORDS).replace(b"\n20\n", b"\n21\n")), 403),
        (request(0, RECORDS), 409),
        (request(5, RECORDS), 409),
        (request(7, RECORDS, hashes=[]), 422),
        (request(7, RECORDS, hashes=[*proof(7, RECORDS), bytes(32)]), 422),
        (request(7, FORK), 422),
        (request(7, FORK[:7]), 422),
        (request(7, RECORDS[:7], hashes=[bytes(32)]), 422),
    ],
)  # fmt: skip
async def test_it_refuses_as_the_specification_says(witness: Witness, body: bytes, status: int) -> None:
    assert (await witness.add_checkpoint(request(0, RECORDS[:7]))).status == 200
    answer = await witness.add_checkpoint(body)
    assert (answer.status, answer.note) == (status, None)
    if status == 409:
        assert answer.body == "7\n"
    assert (await witness.add_checkpoint(request(7, RECORDS))).status == 200, "what was refused changed nothing"


async def test_the_empty_log_has_one_root(witness: Witness) -> None:
    assert (await witness.add_checkpoint(request(0, [], EMPTY))).status == 422
    assert (await witness.add_checkpoint(request(0, []))).status == 200


async def test_it_remembers_over_a_restart(witness: Witness, key: SigningKey, tmp_path: Path) -> None:
    await witness.add_checkpoint(request(0, RECORDS[:7]))
    again = Witness(tmp_path / "witness", key, [KEY.verifier], ManualClock(NOW))
    again.open()
    assert (await again.add_checkpoint(request(0, FORK))).status == 409
    assert (await again.add_checkpoint(request(7, FORK))).status == 422


async def test_a_damaged_memory_signs_nothing(witness: Witness, key: SigningKey, tmp_path: Path) -> None:
    await witness.add_checkpoint(request(0, RECORDS[:7]))
    path = tmp_path / "witness" / f"{sha256(KEY.name.encode()).hexdigest()}.checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n7\n", b"\n1\n"))
    with pytest.raises(ConfigError, match="damaged"):
        Witness(tmp_path / "witness", key, [KEY.verifier], ManualClock(NOW)).open()


@pytest.fixture
async def client(witness: Witness) -> AsyncIterator[httpx.AsyncClient]:
    application: Any = witness
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://witness") as made:
        yield made


async def test_over_http_a_checkpoint_is_added_in_whatever_pieces_it_comes(client: httpx.AsyncClient) -> None:
    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50):
            yield body[start : start + 50]

    answer = await client.post("/add-checkpoint", content=pieces(request(0, RECORDS)))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    behind = await client.post("/add-checkpoint", content=request(0, RECORDS))
    assert (behind.status_code, behind.headers["content-type"], behind.text) == (409, "text/x.tlog.size", "20\n")
    kept = await client.get(f"/{sha256(KEY.name.encode()).hexdigest()}/checkpoint")
    assert kept.content == signed(RECORDS) + answer.content


async def test_over_http_what_is_too_large_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(MAX_REQUEST_BYTES)

    assert (await client.post("/add-checkpoint", content=bytes(MAX_REQUEST_BYTES))).status_code == 400
    assert (await client.post("/add-checkpoint", content=endless())).status_code == 413
    assert taken == 2


MINE, OTHER = (f"/{sha256(name).hexdigest()}/checkpoint" for name in (KEY.name.encode(), b"another.example.com/log"))


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/add-checkpoint", "not found\n"),
        ("POST", MINE, "not found\n"),
        ("POST", "/", "not found\n"),
        ("GET", "/", "not found\n"),
        ("GET", OTHER, "nothing was signed for this log\n"),
        ("GET", MINE, "nothing was signed for this log\n"),
    ],
)
async def test_over_http_there_is_nothing_else(client: httpx.AsyncClient, method: str, path: str, told: str) -> None:
    answer = await client.request(method, path, content=request(0, RECORDS) if method == "POST" else None)
    assert (answer.status_code, answer.text) == (404, told)


async def test_requests_at_once_are_judged_one_after_the_other(witness: Witness) -> None:
    bodies = [request(0, RECORDS[:size]) for size in range(1, 20)]
    answers = await asyncio.gather(*map(witness.add_checkpoint, bodies))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 18


# --- over HTTP, from the log's side ---------------------------------------------------------------------------------


@asynccontextmanager
async def serving(witness: Witness) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(witness, lifespan="off", log_config=None))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


async def test_a_log_is_witnessed_and_verify_believes_the_witness(
    witness: Witness, key: SigningKey, tmp_path: Path
) -> None:
    folder = tmp_path / "audit"
    async with serving(witness) as url, httpx.AsyncClient() as client:
        for start in (1, 301, 601):
            await write_batches(folder, [entries(300, start)])
            # A new process knows from the file what was signed, and from a 409 where there is none.
            submitter = HttpWitness(folder, url, key.verifier, client)
            await submitter.cosign((folder / "checkpoint").read_bytes())
            (folder / "witnessed" / key.verifier.id.hex()).rename(tmp_path / "kept")
            submitter = HttpWitness(folder, url, key.verifier, client)
            await submitter.cosign((folder / "checkpoint").read_bytes())
        verdict = verify(folder, [KEY.verifier], witnesses=[key.verifier])
        assert verdict.good, verdict.problems
        assert "witnessed by witness.example.com/w1" in verdict.summary
        seen = await client.get(f"{url}/{sha256(KEY.name.encode()).hexdigest()}/checkpoint")
        assert (
            seen.content
            == (tmp_path / "kept").read_bytes()
            == (folder / "witnessed" / key.verifier.id.hex()).read_bytes()
        )
        assert (await client.get(f"{url}/{'0' * 64}/checkpoint")).status_code == 404
        assert (await client.post(f"{url}/add-checkpoint", content=b"x" * 70_000)).status_code == 413
        conflict = await client.post(f"{url}/add-checkpoint", content=request(0, RECORDS))
        assert (conflict.status_code, conflict.text) == (409, "901\n")
        assert conflict.headers["content-type"] == "text/x.tlog.size"
    stranger = generate_key(key.name, COSIGNATURE)
    assert not verify(folder, [KEY.verifier], witnesses=[stranger.verifier]).good


@pytest.mark.parametrize(
    ("status", "body", "error", "told"),
    [
        (500, "", WitnessUnavailable, "answered 500: try again"),
        (302, "", WitnessUnavailable, "answered 302: try again"),
        (403, "", WitnessRefused, r"\(403\): the checkpoint is not signed by the key"),
        (422, "", WitnessRefused, r"\(422\): .* the log was changed"),
        (409, "soon", WitnessRefused, "409 without a size"),
        (409, "5\n", WitnessUnavailable, "signed another checkpoint meanwhile"),
        (409, "22\n", WitnessRefused, "signed a checkpoint of 22 entries and the log has 21"),
        (200, "", WitnessRefused, "is no cosignature"),
    ],
)
async def test_whatever_a_witness_answers_it_is_said_what_it_means(
    key: SigningKey, tmp_path: Path, status: int, body: str, error: type[Exception], told: str
) -> None:
    folder = tmp_path / "audit"
    await write_batches(folder, [entries(20)])
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=body))
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(error, match=told):
            await HttpWitness(folder, "http://witness", key.verifier, client).cosign(
                (folder / "checkpoint").read_bytes()
            )
    assert not (folder / "witnessed").exists()


async def test_a_log_that_was_cut_or_forked_is_refused(witness: Witness, key: SigningKey, tmp_path: Path) -> None:
    async with serving(witness) as url, httpx.AsyncClient() as client:
        await witness.add_checkpoint(request(0, RECORDS))
        cut = HttpWitness(forge(tmp_path / "cut", RECORDS[:10]), url, key.verifier, client)
        with pytest.raises(WitnessRefused, match="20 entries and the log has 10"):
            await cut.cosign(signed(RECORDS[:10]))
        fork = HttpWitness(forge(tmp_path / "fork", [*FORK, entry(30)]), url, key.verifier, client)
        with pytest.raises(WitnessRefused, match="the log was changed"):
            await fork.cosign(signed([*FORK, entry(30)]))
        with pytest.raises(WitnessRefused, match="no signature of the configured key"):
            other = generate_key(key.name, COSIGNATURE).verifier
            await HttpWitness(forge(tmp_path / "log", RECORDS), url, other, client).cosign(signed(RECORDS))
    with pytest.raises(WitnessUnavailable, match="does not answer"):
        async with httpx.AsyncClient() as client:
            await HttpWitness(tmp_path / "log", url, key.verifier, client).cosign(signed(RECORDS))


class Absent:
    """A witness that is down, until it is not."""

    name = "witness.example.com/w1"

    def __init__(self) -> None:
        self.down = True
        self.asked = asyncio.Event()
        self.signed: list[bytes] = []

    async def cosign(self, note: bytes) -> None:
        self.asked.set()
        if self.down:
            raise WitnessUnavailable("down")
        self.signed.append(note)


class Topic:
    """What was published."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    async def publish(self, messages: list[object]) -> None:
        self.values += [message.value for message in messages]  # type: ignore[attr-defined]


async def test_a_witness_that_is_down_holds_up_nothing_and_gets_the_newest_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.flows.checkpoints.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("orchestrator.adapters.audit_log.writing.IDLE_SECONDS", 0.0)
    log, absent, topic = writer(tmp_path), Absent(), Topic()
    flow = CheckpointFlow(log, topic, [absent])  # type: ignore[arg-type]  # a publisher of one topic
    running = asyncio.create_task(flow.run())
    for start in (1, 11, 21):
        await log.append(entries(10, start))
        while not topic.values or tree_size(topic.values[-1]) < start + 10:
            await asyncio.sleep(0.01)
    await absent.asked.wait()
    absent.down = False
    while not absent.signed:
        await asyncio.sleep(0.01)
    assert absent.signed[-1] == topic.values[-1] == (tmp_path / "checkpoint").read_bytes()
    running.cancel()
    await asyncio.wait([running])
    await log.append(entries(1, 31))
    await flow.finish()
    assert tree_size(topic.values[-1]) == 32, "durable and published before it ends"
    assert topic.values[-1] == (tmp_path / "checkpoint").read_bytes()
    await log.close()


def tree_size(note: bytes) -> int:
    return int(note.split(b"\n")[1])


async def test_a_checkpoint_that_was_outgrown_is_proved_out_of_the_full_tiles(
    witness: Witness, key: SigningKey, tmp_path: Path
) -> None:
    """The log does not wait for its witness: the partial tiles of the checkpoint may be gone when its turn comes."""
    folder = tmp_path / "audit"
    await write_batches(folder, [entries(99)])
    first = (folder / "checkpoint").read_bytes()
    await write_batches(folder, [entries(200, 100)])
    second = (folder / "checkpoint").read_bytes()
    await write_batches(folder, [entries(300, 300)])
    assert not (folder / "tile/0/001.p").exists()
    async with serving(witness) as url, httpx.AsyncClient() as client:
        submitter = HttpWitness(folder, url, key.verifier, client)
        await submitter.cosign(first)
        await submitter.cosign(second)
    assert verify(folder, [KEY.verifier], witnesses=[key.verifier]).good
