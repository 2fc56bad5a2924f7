"""A connected application on the package scim2-server: strict, by the book, validated by pydantic at every step.

Its memory storage indexes unique values, and on first use any string attribute that a search compares with `eq`,
so 10,000 users cost no scan. A search that joins comparisons with `and` still walks every user (80 ms of them).

Habits: PATCH answers 204; members leave only by `members[value eq "x"]`, a list in `value` is refused; a member need
not exist, and a deleted user stays a member; unknown attributes are refused with 400; "False" is read as false. It
copies and validates the whole group on every PATCH: about 50 ms at 1,000 members, growing with them, and nothing
else is served meanwhile. That is the library's way, and a slow application is worth having, so it is left alone.
"""

import asyncio
from typing import cast

from scim2_server.applications.asgi import ASGIApplication
from scim2_server.memory import AsyncInMemoryStorage
from scim2_server.utils import load_default_provider

from .asgi import App, Receive, Scope, Send

_ROOT_PATH = "/scim"  # the library adds the /v2 itself


class SerialStorage(AsyncInMemoryStorage):
    """The library's memory storage with one operation at a time.

    A PATCH reads, changes and writes the whole resource. Nothing awaits in between today, and a lost race would
    answer 412 for no fault of the client; the lock makes member changes safe whatever the library awaits tomorrow.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()

    def operation(self) -> asyncio.Lock:
        return self._turn


def application() -> App:
    """Return an empty application with users, the enterprise extension and groups."""
    # The library's types say dict where ASGI says mapping.
    library = cast(App, ASGIApplication(SerialStorage(), load_default_provider()))

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        # So that the locations it hands out lie below our base path.
        await library({**scope, "root_path": _ROOT_PATH}, receive, send)

    return mounted
