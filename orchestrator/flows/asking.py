"""Questions to an application from outside of its lanes: whoever reads everything it holds, beside the connectors."""

from datetime import timedelta
from typing import NamedTuple

from orchestrator.domain.outcome import classify
from orchestrator.errors import RateLimited, TooLarge, Transient
from orchestrator.flows.application import Application
from orchestrator.flows.calling import Caller
from orchestrator.ports import ScimRequest, ScimResponse

SHARE = 0.25
"""The part of the application's budget that a reader takes. The connectors notice it by the answers alone."""
MOST_FAILURES = 5
"""So often in a row a question may fail before whoever asks is told."""
MOST_WAITS = 20
"""So often in a row an application may ask us to wait."""


class Reader(NamedTuple):
    """How to ask an application: `ask` waits and tries again as needed."""

    ask: "Asking"
    application: Application


class Asking:
    """Sends questions, which may be repeated: it waits when the application asks for it, and tries again."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.calls = 0

    async def __call__(self, request: ScimRequest) -> ScimResponse:
        """The answer, 404 and 409 included. Raises ScimError when trying again does not help."""
        failures = waits = 0
        while True:
            self.calls += 1
            clock = self._caller.clock
            try:
                answer = await self._caller.look(request, urgent=False)
                error = classify(answer.status, answer.body, answer.headers, clock.now())
                if error is None:
                    return answer
                raise error
            except RateLimited as limited:
                waits += 1
                if waits > MOST_WAITS:
                    raise
                await clock.sleep_until(limited.not_before)
            except TooLarge:
                raise
            except Transient:
                failures += 1
                if failures >= MOST_FAILURES:
                    raise
                await clock.sleep_until(clock.now() + timedelta(seconds=2 ** (failures - 1) / 2))
