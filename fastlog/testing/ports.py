"""Ports of 127.0.0.1 for servers that are ended and started again where they were.

They lie below those that the system gives to connections: one of these might have the port when its server comes back.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from pathlib import Path

HOST = "127.0.0.1"
FIRST = 15_000
#: below this the system gives no port to a connection, unless somebody has set it otherwise
END = 32_768
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: so far apart processes begin that were started one after the other; 35 of them share no port for long
APART = 509
# each port is given once, until all were
_numbers = itertools.count(os.getpid() * APART)


def free_ports(count: int) -> list[int]:
    """Ports at which nobody listens now."""
    end = min(END, _first_of_connections())
    if end < FIRST + APART:
        return _ports_of_connections(count)
    found: list[int] = []
    for number in itertools.islice(_numbers, end - FIRST):
        port = FIRST + number % (end - FIRST)
        if not is_taken(HOST, port):
            found.append(port)
        if len(found) == count:
            return found
    return _ports_of_connections(count)


def is_taken(host: str, port: int) -> bool:
    """Whether something on this machine listens there."""
    with socket.socket() as probe:
        # as servers do: what is left of connections that are over does not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _first_of_connections() -> int:
    try:
        return int(RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return END


def _ports_of_connections(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
