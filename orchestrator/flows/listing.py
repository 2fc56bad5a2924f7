"""Everything an application holds, page by page, in bounded memory: 100,000 accounts cost their ids and one page.

A page is believed by the rows that came, never by what was asked for: servers cap `count`, ignore it, or ignore
`startIndex`. Rows move while one reads: every page begins with the last row of the page before it, and where that is
another one, the list has shifted and is read again for the rows that slipped through.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal

from orchestrator.domain.scim_read import Page, scim_type
from orchestrator.errors import CursorLost, Rejected, Unavailable
from orchestrator.flows.application import Application
from orchestrator.ports import ScimRequest, ScimResponse

Send = Callable[[ScimRequest], Awaitable[ScimResponse]]

PASSES = 3
"""A list that shifts under every reading is read so often; after that it counts as incomplete."""


class Listing:
    """One reading of all users or groups: iterate once, then ask `complete`.

    Each row comes once, as SCIM 2.0 names it. Whoever concludes from an absence has to ask `complete` first. `skipped`
    counts rows that nobody could read. Raises what `send` raises, Unavailable for an answer that is no list, and
    Rejected for one with the dialect's placeholder.
    """

    def __init__(
        self,
        send: Send,
        application: Application,
        kind: Literal["Users", "Groups"] = "Users",
        *,
        page_size: int | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        self._send = send
        self._application = application
        self._path = application.found.users if kind == "Users" else application.found.groups
        self._size = page_size or application.page_size
        self._query = dict(query or {})
        self._seen: set[str] = set()
        self.complete = False
        self.skipped = 0
        self.calls = 0
        self.total: int | None = None
        """How many rows the application says there are, for those who show progress."""

    @property
    def received(self) -> int:
        """How many rows have come."""
        return len(self._seen)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """The rows."""
        read = self._by_cursor if self._application.capabilities.cursor else self._by_index
        for _ in range(PASSES):
            self.skipped = 0
            self.complete = True  # until something says otherwise
            async for row in read():
                self._must_be_real(row)
                if row["id"] not in self._seen:
                    self._seen.add(row["id"])
                    yield row
            if self.complete:
                return

    def _must_be_real(self, row: Mapping[str, Any]) -> None:
        dialect = self._application.dialect
        if dialect.placeholder is not None and row.get("userName") == dialect.placeholder:
            raise Rejected(f"{dialect.title} shows a made-up row in place of its users: {dialect.note}")

    async def _by_index(self) -> AsyncIterator[dict[str, Any]]:
        """RFC 7644, section 3.4.2.4."""
        start, last, first_total = 1, "", None
        found: set[str] = set()
        while True:
            page = await self._page({"startIndex": str(start), "count": str(self._size)})
            new = [row for row in page.rows if row["id"] not in found]
            found.update(row["id"] for row in new)
            first_total = page.total if first_total is None else first_total
            if last:
                shifted = not page.rows or page.rows[0]["id"] != last
                self.complete = self.complete and not shifted
            elif page.total != first_total:
                self.complete = False  # it has grown or shrunk, and nothing says where
            for row in new:
                yield row
            self.skipped += page.skipped
            if not new:
                if page.total is not None and len(found) + self.skipped < page.total:
                    self.complete = False  # the application shows the same page whatever is asked
                return
            # Some count the page and call it the total: a full first page is not believed, nor less than was seen.
            suspicious = start == 1 and page.received == self._size
            if page.total is not None and not suspicious and len(found) <= page.total <= start - 1 + page.received:
                return
            # One row of overlap shows whether the list has moved; a row that nobody can read shows nothing.
            overlap = 1 if self._application.overlaps and page.received > 1 and page.ends_legibly else 0
            last = page.rows[-1]["id"] if overlap else ""
            start += page.received - overlap

    async def _by_cursor(self) -> AsyncIterator[dict[str, Any]]:
        """RFC 9865: the application remembers where we are, so nothing can shift; it may forget it, too."""
        cursor, known = "", set[str]()
        while True:
            try:
                page = await self._page({"cursor": cursor, "count": str(self._size)})
            except CursorLost:
                if not cursor:
                    raise
                self.complete = False  # it is read from the start, and what came already comes once
                return
            for row in page.rows:
                yield row
            self.skipped += page.skipped
            if page.cursor is None:
                return
            if page.cursor in known:
                raise Unavailable("the application leads its list in a circle (the same cursor twice)")
            known.add(page.cursor)
            cursor = page.cursor

    async def _page(self, where: Mapping[str, str]) -> Page:
        self.calls += 1
        answer = await self._send(ScimRequest("GET", self._path, query={**where, **self._query}))
        page = self._application.page(answer)
        if page is None:
            if answer.status == 404 and self.calls == 1:
                raise Rejected(f"the application does not know {self._path} (404): check base_url")
            kind = scim_type(answer.body)
            raise Unavailable(
                f"the application answered a list with {answer.status}{f' {kind[:40]}' if kind else ''} and no list"
            )
        self.total = page.total
        return page


def users(
    send: Send,
    application: Application,
    *,
    attributes: tuple[str, ...] = (),
    excluded: tuple[str, ...] = (),
    page_size: int | None = None,
) -> Listing:
    """All users, with `attributes` only, or without `excluded`, where the application knows these parameters
    (RFC 7644, section 3.9)."""
    return Listing(send, application, query=_narrowed(attributes, excluded), page_size=page_size)


def groups(send: Send, application: Application, *, members: bool = False) -> Listing:
    """All groups, without their members unless they are wanted."""
    return Listing(send, application, "Groups", query=_narrowed((), () if members else ("members",)))


def _narrowed(attributes: tuple[str, ...], excluded: tuple[str, ...]) -> dict[str, str]:
    if attributes:
        return {"attributes": ",".join(attributes)}
    return {"excludedAttributes": ",".join(excluded)} if excluded else {}
