"""`python -m tests.services up|down --folder DIR`: both servers in the background, for a whole test run.

`up` prints shell lines for `eval`, and nothing else, on standard output. It also writes `DIR/services.toml`, with which
`jml chaos run --services` finds both and hurts them by `kill`, `start`, `pause` and `resume` of this command.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from tests.services import KafkaServer, PostgresServer, ServiceError

HURT = ("kill", "start", "pause", "resume")


def up(folder: Path) -> None:
    """Start what does not run yet; leave nothing behind if one of the two cannot."""
    kafka, postgres = _servers(folder)
    for server in (kafka, postgres):
        if missing := server.missing():
            raise ServiceError(missing)
    try:
        kafka.start()
        postgres.start()
    except BaseException:
        down(folder)
        raise
    for variable, value in (("JML_TEST_KAFKA", kafka.bootstrap), ("JML_TEST_POSTGRES", postgres.url)):
        sys.stdout.write(f"export {variable}={shlex.quote(value)}\n")
    (folder / "services.toml").write_text(controls(folder))


def controls(folder: Path) -> str:
    """What `jml chaos run --services` reads: where the servers are, and the commands that hurt and heal them."""
    kafka, postgres = _servers(folder)
    there = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable]
    lines = [f"kafka = {json.dumps(kafka.bootstrap)}", f"store = {json.dumps(postgres.url)}"]
    for service, server in (("broker", kafka), ("database", postgres)):
        lines.append(f"[{service}]")
        for action in HURT:
            words = [*there, "-m", "tests.services", action, server.name, "--folder", str(folder.absolute())]
            lines.append(f"{action} = {json.dumps(shlex.join(words))}")
    return "\n".join(lines) + "\n"


def down(folder: Path) -> None:
    """Stop what runs; the data stays in the folder."""
    for server in _servers(folder):
        server.stop()


def _servers(folder: Path) -> tuple[KafkaServer, PostgresServer]:
    return KafkaServer(folder / "kafka"), PostgresServer(folder / "postgres")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("action", choices=["up", "down", *HURT])
    parser.add_argument("server", nargs="?", choices=["kafka", "postgres"], help="which of them, for the other actions")
    parser.add_argument("--folder", type=Path, required=True, help="where the servers keep their data and logs")
    arguments = parser.parse_args()
    try:
        if arguments.action in HURT:
            chosen = [one for one in _servers(arguments.folder) if arguments.server in (None, one.name)]
            for server in chosen:
                getattr(server, arguments.action)()
        else:
            (up if arguments.action == "up" else down)(arguments.folder)
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
