"""What both servers share: a process on loopback that can be started, hurt, and found again by another interpreter."""

import contextlib
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil

LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below the ports that Linux hands to outgoing connections.

A client that keeps dialling a dead server on one of those can be given that very port, connect to itself,
and keep the restarted server from binding.
"""

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class ServiceError(Exception):
    """One line for whoever runs the tests: what is missing or went wrong, and what to do."""


class Server(ABC):
    """One server process with everything it writes in `folder`.

    The process outlives this object, and even its interpreter, until it is stopped: `folder` remembers its port and
    its process id. A second object over the same folder is the same server.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    kill_signal: ClassVar[signal.Signals] = signal.SIGKILL
    ports_needed: ClassVar[int] = 1

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder.absolute()
        self._wanted_port = port
        self._child: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """The sentence that says what this machine lacks to run the server; None when it lacks nothing."""

    @abstractmethod
    def _prepare(self) -> None:
        """Bring the folder into the state that the server expects; called before each start."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command of the server; its arguments must name the folder, by which the process is recognised."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether a client would be served now."""

    @property
    def log(self) -> Path:
        """Where the server's own words go; appended to over restarts."""
        return self.folder / f"{self.name}.log"

    @property
    def port(self) -> int:
        """The port, the same for the life of the folder, so that clients find a restarted server."""
        try:
            return int(self._port_file.read_text())
        except FileNotFoundError:
            raise ServiceError(f"{self.name} has no port before its first start") from None

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process() is not None

    def start(self) -> None:
        """Start the server unless it runs already, and return once it answers."""
        if not self.running:
            if missing := self.missing():
                raise ServiceError(missing)
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._port_file.exists():
                self._port_file.write_text(str(self._wanted_port or free_port(self.ports_needed)))
            self._prepare()
            self._spawn(self._command())
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it in good order; nothing happens when it does not run."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as a crash would: nothing is flushed, no client is told."""
        self._end(self.kill_signal)

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same folder and port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: its connections stay open and nobody answers, as on a machine that hangs."""
        if process := self._process():
            process.suspend()  # first, so that no new child slips away
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.suspend()

    def resume(self) -> None:
        """Let a paused server go on where it was."""
        _resume(self._family())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _port_file(self) -> Path:
        return self.folder / "port"

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def _process(self) -> psutil.Process | None:
        """The live process of this folder; the arguments are compared because process ids are used again."""
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            ours = any(argument.startswith(f"{self.folder}/") for argument in process.cmdline())
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, psutil.Error):
            return None

    def _family(self) -> list[psutil.Process]:
        """The process, then its children: PostgreSQL serves each connection in one."""
        process = self._process()
        return [process, *process.children(recursive=True)] if process else []

    def _spawn(self, command: Sequence[str | Path]) -> None:
        """In a session of its own, so that Ctrl-C in the terminal ends the tests and they end the server."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        self._pid_file.write_text(str(self._child.pid))

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            # A child is asked itself: while it becomes the server, the system shows no arguments to know it by.
            if not self.running and (self._child is None or self._child.poll() is not None):
                raise ServiceError(f"{self.name} ended while it started: {self._last_words()} (all of it: {self.log})")
            if time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                raise ServiceError(f"{self.name} did not answer within {START_SECONDS:.0f} s; see {self.log}")
            time.sleep(0.05)

    def _end(self, how: signal.Signals) -> None:
        family = self._family()
        if not family:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family[0].send_signal(how)
        _resume(family)  # a paused process hears nothing but SIGKILL
        _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=STOP_SECONDS)
        if self._child is not None:
            self._child.poll()  # psutil has waited for it; this only tells the object
        self._pid_file.unlink(missing_ok=True)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _resume(family: Sequence[psutil.Process]) -> None:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def free_port(count: int = 1) -> int:
    """The first of `count` neighbouring ports on loopback that nobody listens on."""
    while True:
        first = random.randrange(FIRST_PORT, LAST_PORT)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.create_server((LOOPBACK, port)))
            return first


def run(command: Sequence[str | Path], doing: str) -> None:
    """Run a tool to its end; what it printed becomes the error if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{doing} failed: {' '.join((done.stderr or done.stdout).split())}")
