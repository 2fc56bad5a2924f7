"""Sockets that our own servers listen on, taken before anything starts that would have to be stopped again."""

import socket

from orchestrator.errors import UserError

BACKLOG = 1024


def listener(host: str, port: int, advice: str) -> socket.socket:
    """Listen on an address; port 0 takes a free one. `advice` says what to do where the port is taken.

    Raises UserError when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while attempting")[0]  # the address is named already
        raise UserError(f"cannot listen on {host}:{port}: {reason}; {advice}") from error
