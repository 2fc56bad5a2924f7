"""The network between one role and one peer, as a TCP proxy on loopback that can be cut.

A cut is silent or loud. In a silent one nothing passes and nobody is told, and what was on its way arrives when the
link is whole again: a call that its sender has given up may take effect then. A loud one breaks every connection and
refuses new ones.
"""

import asyncio
from contextlib import suppress
from typing import cast

SILENT, LOUD = "silent", "loud"


class Link:
    """One way to a peer: whoever calls `port` on loopback gets to `host`:`to`."""

    def __init__(self, host: str, to: int) -> None:
        self._host, self._to = host, to
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._whole = asyncio.Event()
        self._whole.set()
        self._loud = False
        self.port = 0

    async def open(self) -> None:
        """Listen on a port of our own."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self), "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self, how: str) -> None:
        """Let nothing pass until `heal`."""
        self._whole.clear()
        self._loud = how == LOUD
        for end in list(self._ends):
            end.abort() if self._loud else end.flow()

    def heal(self) -> None:
        """Let everything pass again."""
        self._loud = False
        self._whole.set()
        for end in list(self._ends):
            end.flow()

    def close(self) -> None:
        """End it, with every connection through it."""
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.abort()

    @property
    def whole(self) -> bool:
        """Whether anything passes."""
        return self._whole.is_set()

    async def dial(self, near: "_End") -> None:
        """The second half of a connection; through a silent cut nobody gets anywhere."""
        await self._whole.wait()
        try:
            await asyncio.get_running_loop().create_connection(lambda: _End(self, near), self._host, self._to)
        except OSError:
            near.abort()

    def joined(self, end: "_End") -> bool:
        """A connection begins; False where it is refused."""
        self._ends.add(end)
        return not self._loud

    def left(self, end: "_End") -> None:
        """It is over."""
        self._ends.discard(end)


class _End(asyncio.Protocol):
    """One of the two connections that make one: what it receives the other one sends."""

    def __init__(self, link: Link, other: "_End | None" = None) -> None:
        self._link, self._other = link, other
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._full = False
        self._held = bytearray()
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._link.joined(self):
            self.abort()
        elif self._other is None:
            self._dialling = asyncio.create_task(self._link.dial(self))
        elif self._other._transport is None or self._other._transport.is_closing():
            self.abort()
        else:
            self._other._other = self
            self._other.flow()
        self.flow()

    def data_received(self, data: bytes) -> None:
        if self._passes and not self._held:
            self._write(data)
        else:
            self._held += data  # reading stops, which may take effect later

    def pause_writing(self) -> None:
        self._full = True
        if self._other is not None:
            self._other.flow()

    def resume_writing(self) -> None:
        self._full = False
        if self._other is not None:
            self._other.flow()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.left(self)
        if self._dialling is not None:
            self._dialling.cancel()
        if self._other is not None and self._other._transport is not None:
            self._other._transport.close()  # after what is still to be written

    @property
    def _passes(self) -> bool:
        """Whether there is somebody to send to, and the link is whole."""
        return self._link.whole and self._other is not None

    def _write(self, data: bytes) -> None:
        if self._other is not None and self._other._transport is not None:
            self._other._transport.write(data)

    def flow(self) -> None:
        """Send what was held, and read only where the other end can take it."""
        if self._passes and self._held:
            self._write(bytes(self._held))
            self._held.clear()
        wanted = self._passes and self._other is not None and not self._other._full
        if self._transport is None or wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        with suppress(RuntimeError):  # it is closing already
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def abort(self) -> None:
        """End both halves at once, as a reset does."""
        for end in (self, self._other):
            if end is not None and end._transport is not None:
                end._transport.abort()
