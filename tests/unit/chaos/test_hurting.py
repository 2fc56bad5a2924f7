"""What a chaos run hurts with: links that are cut, clocks that are stepped, disks that are full, commands of others."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.chaos.clock import SteppedClock, set_clock
from orchestrator.chaos.evidence import Blow, set_right
from orchestrator.chaos.fleet import _limit_files, can_fill_disks
from orchestrator.chaos.hunt import Row, chosen
from orchestrator.chaos.mutants import MUTANTS
from orchestrator.chaos.nemesis import Nemesis
from orchestrator.chaos.proxy import LOUD, SILENT, Link
from orchestrator.chaos.scenes import SCENE_OF, SCENES
from orchestrator.chaos.services import Services, load_services, order
from orchestrator.errors import UserError

# --- links ------------------------------------------------------------------------------------------------------------

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def an_echo_behind_a_link() -> AsyncIterator[Link]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link("127.0.0.1", server.sockets[0].getsockname()[1])
    await link.open()
    try:
        yield link
    finally:
        link.close()
        server.close()


async def said_back(streams: Streams, data: bytes) -> bytes:
    reader, writer = streams
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), 5)


async def test_a_link_passes_everything_on() -> None:
    async with an_echo_behind_a_link() as link:
        streams = await asyncio.open_connection("127.0.0.1", link.port)
        large = random.Random(1).randbytes(3_000_000)
        back = asyncio.create_task(asyncio.wait_for(streams[0].readexactly(len(large)), 10))
        streams[1].write(large)
        assert await back == large


async def test_what_was_sent_through_a_silent_cut_arrives_when_it_is_healed() -> None:
    async with an_echo_behind_a_link() as link:
        streams = await asyncio.open_connection("127.0.0.1", link.port)
        assert await said_back(streams, b"before") == b"before"
        link.cut(SILENT)
        late = asyncio.create_task(said_back(streams, b"late"))
        fresh = asyncio.create_task(asyncio.open_connection("127.0.0.1", link.port))
        new = asyncio.create_task(said_back(await fresh, b"new"))
        _, waiting = await asyncio.wait([late, new], timeout=0.3)
        assert waiting == {late, new}
        link.heal()
        assert (await late, await new) == (b"late", b"new")


async def test_a_loud_cut_breaks_connections_and_refuses_new_ones() -> None:
    async with an_echo_behind_a_link() as link:
        streams = await asyncio.open_connection("127.0.0.1", link.port)
        assert await said_back(streams, b"before") == b"before"
        link.cut(LOUD)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said_back(streams, b"broken")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said_back(await asyncio.open_connection("127.0.0.1", link.port), b"refused")
        link.heal()
        assert await said_back(await asyncio.open_connection("127.0.0.1", link.port), b"again") == b"again"


async def test_who_calls_a_peer_that_is_gone_is_told_so() -> None:
    async with an_echo_behind_a_link() as gone:
        port = gone._to
    link = Link("127.0.0.1", port)
    await link.open()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said_back(await asyncio.open_connection("127.0.0.1", link.port), b"anybody?")
    link.close()


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_a_clock_is_stepped_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    clock, right = SteppedClock(file), SystemClock()
    assert abs(clock.now() - right.now()) < timedelta(seconds=5)
    for by in (300.0, -300.0, 0.0):
        set_clock(file, by)
        assert abs(clock.now() - right.now() - timedelta(seconds=by)) < timedelta(seconds=5)


def test_entries_of_a_wrong_clock_are_set_right() -> None:
    begin = datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()

    def written(writer: str, *seconds: float) -> list[dict[str, str]]:
        return [{"writer": writer, "at": datetime.fromtimestamp(begin + one, UTC).isoformat()} for one in seconds]

    stepped, other = "resolver@host-7-abc", "resolver@host-8-abc"
    entries = [*written(stepped, 1, 9.9, 310.1, 319, 21), *written(other, 310.1)]
    set_right(entries, [Blow("clock", "resolver-1", begin + 10, begin + 20, 300)], {7: "resolver-1", 8: "resolver-2"})
    found = [round(datetime.fromisoformat(one["at"]).timestamp() - begin, 3) for one in entries]
    assert found == [1, 9.9, 10.1, 19, 21, 310.1]


# --- disks ------------------------------------------------------------------------------------------------------------

WRITER = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    for line in sys.stdin:
        try:
            print(file.write(b"x" * 3000), flush=True)
        except OSError as error:
            print(error.strerror, flush=True)
"""


@pytest.mark.skipif(not can_fill_disks(), reason="this system cannot limit the files of another process")
async def test_a_process_without_disk_gets_errors_and_torn_writes_and_then_goes_on(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITER, str(tmp_path / "file")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def write() -> str:
        process.stdin.write(b"\n")  # type: ignore[union-attr]
        return (await process.stdout.readline()).decode().strip()  # type: ignore[union-attr]

    assert await write() == "3000"
    _limit_files(process.pid, 4096)
    assert [await write(), await write()] == ["1096", "File too large"]
    _limit_files(process.pid, None)
    assert await write() == "3000"
    process.stdin.close()
    await process.wait()


# --- services ---------------------------------------------------------------------------------------------------------


def services(tmp_path: Path, text: str) -> Services:
    file = tmp_path / "services.toml"
    file.write_text(text)
    return load_services(file)


def test_services_say_how_they_are_hurt(tmp_path: Path) -> None:
    found = services(tmp_path, 'kafka = "localhost:9092"\n[broker]\nkill = "docker kill k"\nstart = "docker start k"')
    assert (found.kafka, found.store, found.broker.kill, found.database.kill) == (
        "localhost:9092",
        None,
        "docker kill k",
        None,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[broker]\nkill = "x"', "kill needs start"),
        ('[database]\nresume = "x"', "pause needs resume"),
        ('[broker]\nkil = "x"', "broker.kil"),
        ("[broker", "services.toml"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        services(tmp_path, text)


async def test_a_command_that_fails_ends_the_run_with_what_it_said(tmp_path: Path) -> None:
    await order(f"touch {tmp_path / 'done'}")
    assert (tmp_path / "done").exists()
    with pytest.raises(UserError, match="No such file"):
        await order("cat /nowhere/at/all")
    with pytest.raises(UserError, match="cannot run"):
        await order("no-such-command-here --now")


def test_the_deck_holds_what_can_be_done_here(tmp_path: Path) -> None:
    bare = Nemesis([], 1, SystemClock(), Services(), session_timeout=3)
    full = Nemesis(
        [],
        1,
        SystemClock(),
        services(tmp_path, '[broker]\nkill="a"\nstart="b"\npause="c"\nresume="d"\n[database]\nkill="e"\nstart="f"'),
        session_timeout=3,
    )
    assert len(full._deck(5)) - len(bare._deck(5)) == 3


# --- mutants ----------------------------------------------------------------------------------------------------------


def test_every_mutant_has_a_scene_and_can_be_switched_on() -> None:
    assert SCENE_OF.keys() == MUTANTS.keys()
    assert set(SCENE_OF.values()) == SCENES.keys()
    for mutant in MUTANTS.values():
        with mutant.switched_on():
            pass


def test_mutants_are_chosen_by_name() -> None:
    assert chosen([]) == list(SCENE_OF)
    assert chosen(["one-lane", "no-fence"]) == ["no-fence", "one-lane"]
    with pytest.raises(UserError, match="no-such"):
        chosen(["no-such"])


@pytest.mark.parametrize(
    ("name", "violations", "good"),
    [
        ("no-fence", ["one_account: twice"], True),
        ("no-fence", [], False),
        ("no-fence", ["nobody_gave_up: relay-1 ended"], False),  # to break down is no proof
        ("", [], True),
        ("", ["nobody_gave_up: relay-1 ended"], False),
    ],
)
def test_a_row_is_good_when_it_says_what_it_should(name: str, violations: list[str], good: bool) -> None:
    assert Row(name, "", violations, 1.0).good is good
