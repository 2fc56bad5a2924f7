"""One connected application of a chaos run, in a process of its own.

It serves on a socket that its parent opened: requests that come before it is up wait, and no address has to be told.
"""

import argparse
import os
import socket
from pathlib import Path

import uvicorn

from orchestrator.chaos.faults import EVERYTHING, SLOW_SECONDS, Habit, Unruly
from orchestrator.demo.servers.directory import USER, Table
from orchestrator.demo.servers.journal import Journal
from orchestrator.demo.servers.plain import Plain

TOKENS_ENV = "JML_CHAOS_TOKENS"


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.chaos.server", description=__doc__)
    parser.add_argument("name", help="the application, by which its files are called")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--folder", type=Path, required=True, help="where its journals go")
    parser.add_argument("--control", type=Path, required=True, help="faults happen while this file exists")
    parser.add_argument("--seed", required=True, help="of the faults")
    parser.add_argument("--not-unique", action="store_true", help="accept a second account of the same name")
    parser.add_argument("--rate", type=float, help="share of the requests in which something goes wrong")
    parser.add_argument("--slow", type=float, default=SLOW_SECONDS, help="seconds that a slow answer takes")
    parser.add_argument("--only", action="append", default=[], help="a fault; without any, all of them happen")
    given = parser.parse_args(arguments)
    plain = Plain(behave=lambda request: unruly(request))
    if given.not_unique:
        # Here nothing but the orchestrator's own care keeps a repeated POST from making a second account.
        plain.directory.users = Table(USER._replace(unique=False))
    unruly = Unruly(
        plain,
        given.folder / f"{given.name}.deeds.jsonl",
        given.control,
        os.environ[TOKENS_ENV],
        given.seed,
        unique=not given.not_unique,
        habit=EVERYTHING if given.rate is None else Habit.of(*given.only, rate=given.rate, slow=given.slow),
    )
    app = Journal(plain, given.folder / f"{given.name}.journal.jsonl")
    config = uvicorn.Config(
        app, access_log=False, lifespan="off", log_level="warning", timeout_keep_alive=75, timeout_graceful_shutdown=5
    )
    with socket.socket(fileno=given.fd) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
