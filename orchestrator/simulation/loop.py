"""A machine room in one thread: simulated processes with an event loop each, in virtual time, ordered by a seed.

Within a process callbacks run first come, first served, as asyncio promises; which process runs next is drawn from a
seeded generator. So every interleaving that several real processes could have can happen here, none that one asyncio
loop could not, and the same seed gives the same run. Time jumps to the next timer when nobody has anything to do.

A killed process is SIGKILL: its steps are never run again, no `finally`, no drain. A frozen one is SIGSTOP: what
happens meanwhile (answers, timers) waits for it, and it goes on with all of it when it is woken.
"""

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    """One simulated operating system process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[_Handle] = deque()
        self.alive = True
        self.frozen = False
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return self.name


class Defect(Exception):
    """Something that must never happen in any run: an unhandled exception, or a run that does not end."""


_PROCESS: ContextVar[Process] = ContextVar("process")


def current_process() -> Process:
    """The process whose code is running."""
    return _PROCESS.get()


class _Handle:
    __slots__ = ("args", "callback", "cancelled_", "context", "process", "when_")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, process: Process, when: float
    ) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args = args
        self.context = context
        self.process = process
        self.when_ = when
        self.cancelled_ = False

    def cancel(self) -> None:
        """As `asyncio.Handle`."""
        self.cancelled_ = True
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """As `asyncio.Handle`."""
        return self.cancelled_

    def when(self) -> float:
        """As `asyncio.TimerHandle`."""
        return self.when_


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number: else the order of a set of tasks would depend on where they lie in memory."""

    number: int

    def __new__(cls, *_: Any, loop: "SimulationLoop", **__: Any) -> "_Task":
        task = super().__new__(cls)
        task.number = loop.next_task()
        return task

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _NoInputNoOutput(asyncio.AbstractEventLoop):
    """The rest of asyncio's interface (sockets, pipes, signals) raises NotImplementedError: there is no outside."""


_NoInputNoOutput.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


class SimulationLoop(_NoInputNoOutput):
    """The loop of all processes. `chance` decides what is left open."""

    def __init__(self, chance: random.Random, *, most_steps: int = 2_000_000) -> None:
        self.chance = chance
        self.steps = 0
        self.defects: list[str] = []
        self.room = Process("room")
        self._most_steps = most_steps
        self._now = 0.0
        self._timers: list[tuple[float, int, _Handle]] = []
        self._numbers = 0
        self._task_numbers = 0
        self._runnable: list[Process] = []
        self._processes = [self.room]
        self._closed = False

    # --- processes ------------------------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """A new process; `spawn` gives it something to do."""
        process = Process(name)
        self._processes.append(process)
        return process

    def spawn(self, process: Process, work: Coroutine[Any, Any, T], name: str = "") -> "asyncio.Task[T]":
        """Run a coroutine in a process."""
        context = copy_context()
        context.run(_PROCESS.set, process)
        return self.create_task(work, name=name or process.name, context=context)

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.alive = False
        process.frozen = False
        self._forget(process)

    def freeze(self, process: Process) -> None:
        """SIGSTOP."""
        process.frozen = True
        if process in self._runnable:
            self._runnable.remove(process)

    def wake(self, process: Process) -> None:
        """SIGCONT."""
        process.frozen = False
        if process.alive and process.ready and process not in self._runnable:
            self._runnable.append(process)

    def _forget(self, process: Process) -> None:
        process.ready.clear()
        if process in self._runnable:
            self._runnable.remove(process)

    # --- running --------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run everything until `work`, a task of the room itself, is done; then the room is closed."""
        try:
            return self.run_until(work)
        finally:
            self.close()

    def run_until(self, work: Coroutine[Any, Any, T]) -> T:
        """The same, and the room stays open."""
        events._set_running_loop(self)
        try:
            task = self.spawn(self.room, work, "main")
            while not task.done():
                self._step()
            return task.result()
        finally:
            events._set_running_loop(None)

    def _step(self) -> None:
        runnable = self._runnable
        if not runnable:
            self._advance()
            return
        self.steps += 1
        if self.steps > self._most_steps:
            raise Defect(f"{self.steps} steps and no end")
        index = int(self.chance.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[index]
        handle = process.ready.popleft()
        if not process.ready:
            runnable[index] = runnable[-1]
            runnable.pop()
        if handle.callback is not None:
            handle.context.run(handle.callback, *handle.args)

    def _advance(self) -> None:
        if not self._timers:
            raise Defect("everybody waits for ever")
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            handle = heapq.heappop(self._timers)[2]
            if handle.callback is not None:
                self._enqueue(handle)

    def _enqueue(self, handle: _Handle) -> None:
        process = handle.process
        if not process.alive:
            return
        process.ready.append(handle)
        if len(process.ready) == 1 and not process.frozen:
            self._runnable.append(process)

    def close(self) -> None:
        """Everybody is gone; nothing that they left half done may run when their memory is given back."""
        self._closed = True
        for process in self._processes:
            process.alive = False
            for task in process.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    coroutine = task.get_coro()
                    assert isinstance(coroutine, Generator | Coroutine)
                    try:
                        coroutine.close()
                    except RuntimeError:
                        continue  # it waits in a `finally`; the room is closed
            process.tasks.clear()

    # --- what asyncio asks of a loop --------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """As asyncio; the callback belongs to the process of its context."""
        context = copy_context() if context is None else context  # an empty one is false
        handle = _Handle(callback, args, context, context.get(_PROCESS, self.room), self._now)
        self._enqueue(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """As asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """As asyncio."""
        context = copy_context() if context is None else context  # an empty one is false
        handle = _Handle(callback, args, context, context.get(_PROCESS, self.room), when)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        """As asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[T]":
        """As asyncio. Tasks are kept to the end: a dead process must not be collected, its `finally` would run."""
        task = _Task(coro, loop=self, name=name or "task", context=context)
        process = (copy_context() if context is None else context).get(_PROCESS, self.room)
        process.tasks.append(task)
        if len(process.tasks) > 256:
            process.tasks = [one for one in process.tasks if not one.done()]
        return task

    def next_task(self) -> int:
        """Numbers for tasks."""
        self._task_numbers += 1
        return self._task_numbers

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Whatever nobody handled is a defect, unless it is of somebody who is dead."""
        if self._closed:
            return
        error = context.get("exception")
        self.defects.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    def is_running(self) -> bool:
        """As asyncio."""
        return not self._closed

    def is_closed(self) -> bool:
        """As asyncio."""
        return self._closed

    def get_debug(self) -> bool:
        """As asyncio."""
        return False
