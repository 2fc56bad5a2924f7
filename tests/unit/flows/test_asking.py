"""Questions of those who read everything: what is tried again, and what would only fail again."""

from dataclasses import dataclass
from datetime import datetime

import pytest

from orchestrator.errors import Ambiguous, ScimError, TooLarge
from orchestrator.flows.asking import MOST_FAILURES, Asking
from orchestrator.flows.calling import Caller
from orchestrator.ports import ApplicationHealth, ScimRequest, ScimResponse
from tests.unit.flows.fakes import NOW, FakeTransport


@dataclass
class Jumping:
    """A clock that is there at once."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    async def sleep_until(self, moment: datetime) -> None:
        self.at = moment


@pytest.mark.parametrize(
    ("error", "calls"), [(Ambiguous("no answer"), MOST_FAILURES), (TooLarge("larger than 16 bytes"), 1)]
)
async def test_what_would_fail_again_is_not_asked_again(error: ScimError, calls: int) -> None:
    async def fails(request: ScimRequest) -> ScimResponse:
        raise error

    async def nobody_cares(_: ApplicationHealth) -> None:
        return

    asking = Asking(Caller(FakeTransport(fails), Jumping(), 1, nobody_cares))
    with pytest.raises(type(error)):
        await asking(ScimRequest("GET", "/Groups/1"))
    assert asking.calls == calls
