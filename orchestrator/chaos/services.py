"""Broker and database as a run may hurt them: by commands of whoever owns them.

A run does not know how a broker was started: by an init system, in a container, by a test. So a small TOML file says
where the two are, and for each the commands that hurt and heal it:

    kafka = "localhost:9092"
    store = "postgresql+asyncpg://jml@localhost/postgres"

    [broker]
    kill = "docker kill kafka"
    start = "docker start kafka"
    pause = "docker pause kafka"
    resume = "docker unpause kafka"

    [database]
    kill = "pg_ctl -D data -m immediate stop"
    start = "pg_ctl -D data -w start"

`kill` and `pause` each need their counterpart; what is left out is not done. `start` returns when the service answers.
"""

import asyncio
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from orchestrator.errors import UserError

COMMAND_SECONDS = 120.0

Words = Annotated[str, StringConstraints(min_length=1)]


class Service(BaseModel):
    """One of the two, and how it is hurt. Commands are words as in a shell; no shell runs them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kill: Words | None = None
    start: Words | None = None
    pause: Words | None = None
    resume: Words | None = None

    @model_validator(mode="after")
    def _heals_what_it_hurts(self) -> Self:
        if (self.kill is None) != (self.start is None) or (self.pause is None) != (self.resume is None):
            raise ValueError("kill needs start, and pause needs resume")
        return self


class Services(BaseModel):
    """Where broker and database are, and how they are hurt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kafka: str | None = None
    store: str | None = None
    broker: Service = Service()
    database: Service = Service()


def load_services(path: Path) -> Services:
    """Read the file. Raises UserError."""
    try:
        return Services.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise UserError(f"--services {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"--services {path}: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError(f"--services {path}: {problems}") from None


async def order(command: str) -> None:
    """Run one of the commands to its end. Raises UserError when it fails, because then nobody knows what runs."""
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise UserError(f"the command {command!r} of --services cannot run: {error.strerror}") from None
    try:
        _, said = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise UserError(f"the command {command!r} of --services did not end in {COMMAND_SECONDS:.0f} s") from None
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise UserError(f"the command {command!r} of --services failed ({process.returncode}): {last}")
