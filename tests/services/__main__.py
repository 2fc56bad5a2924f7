"""`python -m tests.services up|down --folder DIR`: both servers in the background, for a whole test run.

`up` prints shell lines for `eval`, and nothing else, on standard output.
"""

import argparse
import shlex
import sys
from pathlib import Path

from tests.services import KafkaServer, PostgresServer, ServiceError


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


def down(folder: Path) -> None:
    """Stop what runs; the data stays in the folder."""
    for server in _servers(folder):
        server.stop()


def _servers(folder: Path) -> tuple[KafkaServer, PostgresServer]:
    return KafkaServer(folder / "kafka"), PostgresServer(folder / "postgres")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--folder", type=Path, required=True, help="where the servers keep their data and logs")
    arguments = parser.parse_args()
    try:
        (up if arguments.action == "up" else down)(arguments.folder)
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
