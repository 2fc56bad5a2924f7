"""What other processes and operators say of applications, read for all lanes of a process at once.

One statement for any number of applications, and none while no lane listens; see decision 0026 for what it can promise.
"""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from orchestrator.errors import StoreUnavailable
from orchestrator.ports import ApplicationHealth, ConvergeStore

log = structlog.get_logger()

WATCH_SECONDS = 0.5
"""How often a process looks at what others have said of its applications."""

END_SECONDS = 2.0
"""How long a look that is under way may take to end. It is not cut off: a driver that is cancelled in mid-statement may
keep whoever waits for it."""

Obey = Callable[[ApplicationHealth], None]


class HealthWatch:
    """Shared by the lanes of a process: each one listens from its start to its end."""

    def __init__(self, store: ConvergeStore) -> None:
        self._store = store
        self._listeners: dict[str, Obey] = {}
        self._watching: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def listen(self, app: str, obey: Obey) -> ApplicationHealth | None:
        """From now on `obey` is told what is known of the application, again and again; returns what is known now.

        Raises StoreUnavailable; then nobody listens.
        """
        health = (await self._store.load_health([app])).get(app)
        self._listeners[app] = obey
        if self._watching is None:
            self._ended = asyncio.Event()
            self._watching = asyncio.create_task(self._watch(self._ended), name="watch applications")
        return health

    async def leave(self, app: str) -> None:
        """The lane has ended. With the last one the watch ends too."""
        self._listeners.pop(app, None)
        if not self._listeners and self._watching is not None:
            watching, self._watching = self._watching, None
            self._ended.set()
            await asyncio.wait([watching], timeout=END_SECONDS)
            watching.cancel()

    async def _watch(self, ended: asyncio.Event) -> None:
        failing = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await ended.wait()
            if ended.is_set():
                return
            try:
                known = await self._store.load_health(list(self._listeners))
            except StoreUnavailable as error:
                if not failing:
                    log.warning("health_not_read", reason=error.code)
                failing = True
                continue
            failing = False
            for app, health in known.items():
                if (obey := self._listeners.get(app)) is not None:
                    obey(health)
