"""What an operator states: `jml extend` and `jml end` beside a pipeline that runs, once as a process of its own too."""

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.audit_log import read_entries
from orchestrator.adapters.audit_log.keys import write_key
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sql.coming import SqlComing
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.migrate import migrate
from orchestrator.bootstrap import Runtime, running
from orchestrator.cli import run
from orchestrator.config import load_config
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.domain.days import end_of, zone
from orchestrator.domain.lifecycle import spans
from orchestrator.ports.noticing import TimerView
from orchestrator.roles import role
from tests.audit_log import KEY
from tests.integration.application import TOKEN, Application
from tests.integration.pipeline import embedded, event, eventually, opened

ROOT = Path(__file__).parents[2]
NOW = SystemClock().now()
MELBOURNE = zone("Australia/Melbourne", "UTC")
SOON, LATER = ((NOW + timedelta(days=days)).date() for days in (30, 90))
ROLES = ("resolver", "connector", "scheduler", "relay", "auditor")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)


@dataclass
class House:
    """A running pipeline, its application, and a shell beside it."""

    runtime: Runtime
    application: Application
    folder: Path

    async def start(self, *arguments: object) -> asyncio.subprocess.Process:
        """Start one command."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JML_OPERATOR": "nina",
            "CRM_TOKEN": TOKEN,
            "JML_KAFKA__BOOTSTRAP": self.runtime.bootstrap,
        }
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "orchestrator.cli", *map(str, arguments))
        return await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def jml(self, *arguments: object, stdin: str = "") -> Done:
        """Run one command to its end."""
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 90)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())

    async def call(self, *arguments: object, stdin: str = "") -> Done:
        """Run one command to its end in this process, which takes a fraction of the time."""

        def run_it() -> Done:
            out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.MonkeyPatch.context() as patch,
            ):
                patch.chdir(self.folder)
                patch.setattr(sys, "stdin", io.StringIO(stdin))
                patch.setenv("JML_OPERATOR", "nina")
                patch.setenv("JML_KAFKA__BOOTSTRAP", self.runtime.bootstrap)
                code = run([str(one) for one in arguments])
            return Done(code, *(one.buffer.getvalue().decode() for one in (out, err)))

        return await asyncio.to_thread(run_it)

    async def hires(self, person_id: str, *, kind: str = "contractor", engagement: str = "e1", **more: Any) -> None:
        """Somebody has joined, and has an account."""
        body = {
            "worker_id": person_id,
            "engagement_id": engagement,
            "kind": kind,
            "start_date": "2026-01-05",
            "attributes": {"user_name": person_id, "time_zone": "Australia/Melbourne"},
            **({"contract_end": SOON.isoformat()} if kind == "contractor" else {}),
            **more,
        }
        told = event("worker.joined", body, event_id=f"join-{person_id}-{engagement}", at=NOW - timedelta(hours=2))
        await self.runtime.publisher.publish([told])
        await eventually(lambda: self.application.active(person_id))

    async def ends(self, person_id: str) -> list[TimerView]:
        """The timers of the person's ends, without the warnings before them."""
        found = await SqlComing(self.runtime.database).timers(person_id)
        return [one for one in found if one.timer.kind == "contract_end"]

    async def end_of(self, person_id: str) -> datetime | None:
        """When the first engagement ends, as the store knows it."""
        person, _ = (await SqlComing(self.runtime.database).people([person_id]))[person_id]
        return spans(person, "UTC")[0].end

    async def subject(self, person_id: str) -> str:
        """How the audit log calls the person."""
        return (await SqlComing(self.runtime.database).subjects([person_id]))[person_id].id

    async def acted(self, action: str) -> dict[str, Any]:
        """The audit entry of an operator's action, once it is in the log."""

        async def look() -> dict[str, Any] | None:
            entries = [json.loads(one) for _, one in read_entries(self.folder / "audit")]
            found = [one for one in entries if one["kind"] == "operator_acted"]
            return next((one for one in found if one["details"]["action"] == action), None)

        found: dict[str, Any] = await eventually(look)
        return found


@asynccontextmanager
async def house(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: str = "", application: Application | None = None
) -> AsyncIterator[House]:
    """All that has to run; `settings` are further lines of the application's table. An `application` is served
    already, and the folder may be that of a house before."""
    monkeypatch.setenv("CRM_TOKEN", TOKEN)
    async with Application().served() if application is None else contextlib.nullcontext(application) as application:
        with embedded() as bootstrap:
            config = folder / "jml.toml"
            if not (folder / "audit.key").exists():
                write_key(KEY, folder / "audit.key")
            config.write_text(
                f"""
[kafka]
bootstrap = "{bootstrap}"
[store]
url = "sqlite+aiosqlite:///{folder}/jml.db"
[audit]
dir = "{folder}/audit"
key_file = "{folder}/audit.key"
[apps.crm]
base_url = "{application.base_url}"
auth = {{ token_env = "CRM_TOKEN" }}
timeout_seconds = 3
retry = {{ base_seconds = 0.5, max_seconds = 2 }}
allow_private = true
attributes = {{ userName = "person.user_name", externalId = "person.id" }}
{settings}
"""
            )
            database = Database(f"sqlite+aiosqlite:///{folder}/jml.db")
            await migrate(database)
            await database.close()
            async with opened(load_config(config)) as runtime:
                roles = [role(name)(runtime) for name in ROLES]
                async with running(runtime, roles) as failed:
                    yield House(runtime, application, folder)
                    assert not failed.done(), failed.result()


async def test_an_extension_moves_the_end_and_hr_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as here:
        await here.hires("4711")
        assert [one.timer.due for one in await here.ends("4711")] == [end_of(SOON, MELBOURNE)]
        done = await here.call("extend", "4711", "--until", LATER, "--reason", "signed", "--json")
        assert done.code == 0, done.err
        assert done.json["after"] == end_of(LATER, MELBOURNE).isoformat().replace("+00:00", "Z")
        assert [one.timer.due for one in await here.ends("4711") if not one.fired_at] == [end_of(LATER, MELBOURNE)]
        acted = await here.acted("extend_contract")
        assert (acted["actor"], acted["details"]["reason"]) == ("operator:nina", "signed")
        assert acted["subject"] == await here.subject("4711")

        async def shown() -> bool:
            timers = (await here.call("timers", "show", "4711", "--json")).json["timers"]
            return sorted(one["state"] for one in timers if one["kind"] == "contract_end") == ["cancelled", "open"]

        await eventually(shown)  # the log has it first, its index soon after
        again = {"worker_id": "4711", "engagement_id": "e1", "contract_end": SOON.isoformat()}
        told = event("worker.contract_changed", again, event_id="later", at=datetime.now(UTC))
        await here.runtime.publisher.publish([told])

        async def hr_won() -> bool:
            return await here.end_of("4711") == end_of(SOON, MELBOURNE)

        await eventually(hr_won)


async def _engagements(here: House, person_id: str, count: int) -> bool:
    found = await SqlComing(here.runtime.database).people([person_id])
    return person_id in found and len(found[person_id][0].engagements) == count


async def test_an_urgent_end_closes_everything_and_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two contracts, one of them with an end of its own far ahead: neither may keep the account open."""
    async with house(tmp_path, monkeypatch) as here:
        await here.hires("4711")
        await here.hires("4711", engagement="e2")
        left = {"worker_id": "4711", "engagement_id": "e1", "last_day": LATER.isoformat()}
        await here.runtime.publisher.publish([event("worker.left", left, event_id="left", at=NOW - timedelta(hours=1))])
        await eventually(lambda: _engagements(here, "4711", 2))
        wrong = await here.call("end", "4711", "--now", "--reason", "x", stdin="4712\n")
        assert wrong.code == 2
        assert "nothing was done" in wrong.err
        assert await here.application.active("4711") is True
        done = await here.call("end", "4711", "--now", "--reason", "dismissed", stdin="4711\n")
        assert done.code == 0, done.err
        assert "crm: read back, inactive" in done.out
        assert await here.application.active("4711") is False
        acted = await here.acted("end_person")
        assert (acted["details"]["events"], acted["details"]["reason"]) == (2, "dismissed")
        assert acted["subject"] == await here.subject("4711")
        again = await here.call("end", "4711", "--now", "--reason", "x", "--yes")
        assert again.code == 2
        assert "no engagement of 4711 runs" in again.err


@pytest.mark.parametrize(
    ("status", "words"), [(401, "crm is open still: the application is paused"), (400, "crm is open still: parked")]
)
async def test_what_is_open_after_the_time_out_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    async def refuses(request: Request) -> Response | None:
        return Response(status, b"{}") if request.method in ("PATCH", "GET") else None

    async with house(tmp_path, monkeypatch) as here:
        await here.hires("4711")
        here.application.behave = refuses
        done = await here.call("end", "4711", "--now", "--reason", "x", "--yes", "--timeout", 6)
        assert done.code == 1
        assert words in done.err
        assert "by hand" in done.err
        assert await here.application.active("4711") is True


async def test_ctrl_c_stops_the_waiting_and_not_the_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def is_down(request: Request) -> Response | None:
        return Response(503) if request.method == "PATCH" else None

    async with house(tmp_path, monkeypatch) as here:
        await here.hires("4711")
        here.application.behave = is_down
        process = await here.start("end", "4711", "--now", "--reason", "x", "--yes")
        assert process.stdout is not None
        while b"retrying" not in await asyncio.wait_for(process.stdout.readline(), 60):
            pass
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 130
        assert "goes on without us" in err.decode()
        assert "Traceback" not in err.decode()
        here.application.behave = None

        async def out() -> bool:
            return await here.application.active("4711") is False

        await eventually(out)
