"""The event loop of processes that keep a core busy: uvloop, with streams that end the way asyncio's do.

A peer may close a connection while somebody is about to write to it. asyncio drops what is written; uvloop raises
RuntimeError, which clients that were written for asyncio do not expect. In aiokafka (issue 1038) it ends the task that
happened to write, in silence where that one keeps the cluster's metadata or the group's membership, and what depends on
it waits for ever. A connection that is gone is an OSError, and those it knows.
"""

import asyncio
from collections.abc import Callable
from typing import Any

try:
    import uvloop
except ImportError:  # there is none for this platform

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """A loop of Python's own."""
        return asyncio.new_event_loop()

else:

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """A loop of uvloop's, whose streams raise ConnectionResetError when the peer is gone."""
        return _Loop()

    class _Loop(uvloop.Loop):
        async def create_connection(  # type: ignore[override]  # whatever uvloop takes
            self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **options: Any
        ) -> tuple[Any, asyncio.BaseProtocol]:
            """Only streams are written to by others than their protocol."""
            transport, protocol = await super().create_connection(protocol_factory, *args, **options)
            if isinstance(protocol, asyncio.StreamReaderProtocol):
                return _StreamTransport(transport), protocol
            return transport, protocol


class _StreamTransport:
    """A transport as `asyncio.StreamWriter` uses one."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send. Raises ConnectionResetError when the connection is closed."""
        try:
            self._transport.write(data)
        except RuntimeError as error:
            if not self._transport.is_closing():
                raise
            raise ConnectionResetError(str(error)) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
