"""Connections to applications: certificates are verified, and private addresses refused unless they are allowed.

A name is resolved once, the addresses are judged, and the connection goes to one of those that passed, under the
name's own SNI and Host: between the judgement and the connection nobody can lead the name elsewhere.
"""

import ipaddress
import socket
import ssl
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from orchestrator.errors import UserError

IDLE_SECONDS = 5.0
"""Shorter than any server's patience: a connection that it closes under a POST leaves an outcome to be settled."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


class PrivateAddress(OSError):
    """A host is inside a network where no connected application is expected."""


def is_private(address: str) -> bool:
    """Whether an address is anything but a public one: loopback, link-local (where clouds keep their metadata),
    private, shared, reserved, multicast; also when an IPv6 address only wraps it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_private(str(wrapped))
    return not ip.is_global or ip.is_multicast


def literal_is_private(host: str) -> bool:
    """The same for a host that may be a name: a name is judged when it is resolved."""
    try:
        return is_private(host.strip("[]"))
    except ValueError:
        return False


class GuardedResolver(AbstractResolver):
    """Resolves names to public addresses only."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses. Raises PrivateAddress when there are only others."""
        found = await self._resolver.resolve(host, port, family)
        public = [one for one in found if not is_private(one["host"])]
        if found and not public:
            raise PrivateAddress(f"{host} is at a private address")
        return public

    async def close(self) -> None:
        """Nothing to close."""


def session(tls: ssl.SSLContext, *, limit: int, allow_private: bool) -> aiohttp.ClientSession:
    """A session of at most `limit` connections. Needs a running loop."""
    resolver = None if allow_private else GuardedResolver()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=limit, resolver=resolver, keepalive_timeout=IDLE_SECONDS)
    )


def tls_context(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """A context that verifies certificates and names. Raises UserError for a file that holds no certificate or key."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        if cert_file is not None:
            context.load_cert_chain(str(cert_file), str(key_file) if key_file else None)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(one) for one in (ca_file, cert_file, key_file) if one)
        raise UserError(f"{files}: no certificate or key can be read from it ({type(error).__name__})") from None
    return context
