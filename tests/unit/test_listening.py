"""The sockets that our own servers listen on."""

import socket

import pytest

from orchestrator.errors import UserError
from orchestrator.listening import listener


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_whoever_calls_a_free_port_is_heard(host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with listener(host, 0, "no advice") as server, socket.create_connection(server.getsockname()[:2]) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_an_address_that_cannot_be_had_is_named_with_what_to_do() -> None:
    with listener("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"^cannot listen on 127.0.0.1:{port}: Address already in use; try another$"
        ):
            listener("127.0.0.1", port, "try another")
    with pytest.raises(UserError, match=r"^cannot listen on no.such.host.invalid:1: .*; try another$"):
        listener("no.such.host.invalid", 1, "try another")
