"""A PostgreSQL server from Debian's package, with the durability of a real one: fsync stays on."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.services.server import LOOPBACK, Server, run

DEBIAN = Path("/usr/lib/postgresql")
ACCOUNT = "postgres"
"""The system account that Debian's package makes, and the superuser of each server made here."""

MAX_CONNECTIONS = 200
"""Several workers, each with a pool, beside the tests' own connections."""


class PostgresServer(Server):
    """One server on loopback where everybody is trusted."""

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast: open transactions are rolled back, not waited for
    kill_signal: ClassVar[signal.Signals] = signal.SIGQUIT  # immediate: no checkpoint, yet its shared memory is freed

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the maintenance database; tests take a database of their own."""
        return self._url_of("postgres")

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        run([_bin() / "createdb", *self._address, name], f"creating the database {name}")
        return self._url_of(name)

    @classmethod
    def missing(cls) -> str | None:
        if not (_bin() / "postgres").exists():
            return f"PostgreSQL's server is missing in {DEBIAN}: apt-get install postgresql"
        if os.geteuid() == 0 and ACCOUNT not in {account.pw_name for account in pwd.getpwall()}:
            return f"PostgreSQL does not run as root, and there is no account `{ACCOUNT}`: apt-get install postgresql"
        return None

    def _prepare(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        self._data.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self._data, ACCOUNT, ACCOUNT)
        arguments = ("--username", ACCOUNT, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
        run(_unprivileged([_bin() / "initdb", "--pgdata", self._data, *arguments]), "making PostgreSQL's data folder")

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": MAX_CONNECTIONS,
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        return _unprivileged([_bin() / "postgres", "-D", self._data, *options])

    def _answers(self) -> bool:
        return subprocess.run([_bin() / "pg_isready", "--quiet", *self._address], check=False).returncode == 0

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _address(self) -> list[str]:
        return ["--host", LOOPBACK, "--port", str(self.port), "--username", ACCOUNT]

    def _url_of(self, database: str) -> str:
        return f"postgresql+asyncpg://{ACCOUNT}@{LOOPBACK}:{self.port}/{database}"


def _bin() -> Path:
    """The programs of the newest PostgreSQL installed."""
    versions = [folder for folder in DEBIAN.glob("*") if (folder / "bin" / "postgres").exists()]
    return max(versions, key=lambda folder: float(folder.name), default=DEBIAN) / "bin"


def _unprivileged(command: Sequence[str | Path]) -> list[str | Path]:
    """Root becomes the `postgres` account, since PostgreSQL refuses to run as root.

    It keeps the capability to pass through folders that are closed to it: pytest's `tmp_path` lies in one.
    """
    if os.geteuid() != 0:
        return list(command)
    capability = "+dac_override"
    user = (f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups")
    return ["setpriv", *user, f"--inh-caps={capability}", f"--ambient-caps={capability}", "--", *command]
