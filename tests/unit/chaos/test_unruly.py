"""Applications that misbehave write down the truth."""

import asyncio
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.chaos import faults
from orchestrator.chaos.evidence import Deed, deeds
from orchestrator.chaos.faults import Unruly
from orchestrator.demo.servers.plain import Plain, Request, Response
from tests.unit.chaos.good_run import NEW, OUT


class _Picks(random.Random):
    """Chooses one fault whenever it may happen."""

    wanted = ""

    def random(self) -> float:
        return 0.0

    def choice(self, options: Any) -> Any:
        return self.wanted if self.wanted in options else "" if "500" in options else options[0]


class _Broken:
    """The server with one fault switched on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, unique: bool = True) -> None:
        monkeypatch.setattr(faults, "HANG_SECONDS", 0.2)
        monkeypatch.setattr(faults, "SLOW_START_SECONDS", 0.0)
        self._deeds = folder / "app.deeds.jsonl"
        control = folder / "on"
        control.touch()
        self._plain = Plain()
        self._unruly = Unruly(self._plain, self._deeds, control, "token", "1", unique=unique)
        self._picks = _Picks()
        monkeypatch.setattr(self._unruly, "_chance", self._picks)

    def ask(self, fault: str, method: str, path: str, body: Any = None, caller: str = "token/c-1.1") -> Response:
        """One request while that fault is on."""
        self._picks.wanted = fault
        return asyncio.run(self._ask(method, path, body, caller))

    async def _ask(self, method: str, path: str, body: Any, caller: str) -> Response:
        headers = [(b"authorization", f"Bearer {caller}".encode())]
        request = Request(method, path, {}, headers, orjson.dumps(body) if body else b"", "http://x/scim/v2")
        return await self._unruly(request)

    @property
    def deeds(self) -> list[Deed]:
        return deeds(self._deeds)

    def users(self) -> int:
        return len(self._plain.directory.users.rows)


USER = {"userName": "w1", "externalId": "W1", "active": True, "title": "Title 0"}
DEACTIVATE = {"Operations": [{"op": "replace", "path": "active", "value": False}]}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Broken:
    return _Broken(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("commit then time out", 201), ("500 after commit", 500), ("409 without scimType", 409), ("", 201)],
)
def test_a_create_that_happened_is_written_down_whatever_was_answered(broken: _Broken, fault: str, status: int) -> None:
    answer = broken.ask(fault, "POST", "/Users", USER)
    assert (answer.status, broken.users()) == (status, 1)
    (deed,) = broken.deeds
    assert (deed.person, deed.before, deed.after, deed.fault) == ("W1", None, NEW, fault)
    assert (deed.caller, deed.status, deed.changed) == ("c-1.1", status, True)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("500", 500), ("503", 503), ("hang", 503), ("html page", 503), ("html page for success", 200), ("404 once", 404)],
)
def test_a_change_that_did_not_happen_is_written_down_as_none(broken: _Broken, fault: str, status: int) -> None:
    user = orjson.loads(broken.ask("", "POST", "/Users", USER).body)["id"]
    assert broken.ask(fault, "PATCH", f"/Users/{user}", DEACTIVATE).status == status
    deed = broken.deeds[-1]
    assert (deed.before, deed.after, deed.person, deed.fault, deed.changed) == (NEW, NEW, "W1", fault, False)


def test_faults_that_would_need_a_person_are_bounded(broken: _Broken) -> None:
    user = orjson.loads(broken.ask("", "POST", "/Users", USER).body)["id"]
    for fault, body in (("404 once", USER), ("200 without effect", DEACTIVATE)):
        broken.ask(fault, "PATCH", f"/Users/{user}", DEACTIVATE)
        assert broken.deeds[-1].fault == fault
        broken.ask(fault, "PATCH", f"/Users/{user}", body)
        assert broken.deeds[-1].fault == ""
    assert broken.deeds[-1].after == OUT


@pytest.mark.parametrize(("fault", "header"), [("429 seconds", True), ("429 date", True), ("429 absent", False)])
def test_a_wish_to_wait_is_written_down_with_its_instant(broken: _Broken, fault: str, header: bool) -> None:
    answer = broken.ask(fault, "GET", "/Users")
    (deed,) = broken.deeds
    assert answer.status == 429
    assert any(name == b"retry-after" for name, _ in answer.headers) is header
    assert (deed.allowed_at is not None and 0 < deed.allowed_at - deed.at <= 3) is header


def test_false_as_text(broken: _Broken) -> None:
    user = orjson.loads(broken.ask("", "POST", "/Users", USER | {"active": False}).body)["id"]
    assert orjson.loads(broken.ask("False as text", "GET", f"/Users/{user}").body)["active"] == "False"
    assert orjson.loads(broken.ask("", "GET", f"/Users/{user}").body)["active"] is False


def test_a_stranger_is_refused(broken: _Broken) -> None:
    assert broken.ask("", "POST", "/Users", USER, caller="guessed").status == 401
    assert broken.users() == 0
