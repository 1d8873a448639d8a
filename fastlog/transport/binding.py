"""Addresses that ZeroMQ sockets listen at."""

from __future__ import annotations

import errno
import socket
from typing import Any

import zmq


class BindError(OSError):
    """The address cannot be listened at."""


def bind(listening: zmq.Socket[Any], name: str, host: str, port: int) -> tuple[str, int]:
    """Takes the address of the listener `name`; its endpoint as libzmq calls it, and the port. Raises BindError.

    An empty host is every interface, port 0 one that is free.
    """
    shown = f"{name}://{host or '*'}:{port}"
    try:
        address = _numeric(host, port)
        if ":" in address:
            listening.set(zmq.IPV6, 1)
            address = f"[{address}]"
        listening.bind(f"tcp://{address}:{port or '*'}")
    except (zmq.ZMQError, OSError) as error:
        reason = error.strerror or str(error)
        raise BindError(
            f"cannot listen at {shown}: {reason}; choose another address, or stop who uses it"
        ) from error
    endpoint = listening.get_string(zmq.LAST_ENDPOINT)
    return endpoint, int(endpoint.rpartition(":")[2])


def _numeric(host: str, port: int) -> str:
    """The address that libzmq takes: it resolves no host names when it binds."""
    if not host:
        return "*"
    found = address_info(host, port or None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0])


def resolved(host: str, port: int) -> str:
    """The endpoint to connect to, in numbers; blocks as getaddrinfo does, and raises its OSError.

    libzmq would try a name that does not resolve for ever, without a word.
    """
    address = look_up_host(host, port)
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def look_up_host(host: str, port: int) -> str:
    """The address of a host, in numbers; as `resolved`."""
    found = address_info(host, port, type=socket.SOCK_STREAM)
    # IPv4 first: libzmq tries one address only, and loopback listeners are on 127.0.0.1 more often than on ::1
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def is_numeric(host: str) -> bool:
    """Whether a host is an address, which needs no look-up."""
    try:
        address_info(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True


def address_info(host: str, port: int | None, **hints: int) -> list[tuple[Any, ...]]:
    """As getaddrinfo, but its only error is OSError: one for a name that cannot be one has that too.

    Others write the names that brokers look up, and no such name may end whoever tries it.
    """
    try:
        return list(socket.getaddrinfo(host, port, **hints))
    except (UnicodeError, OverflowError) as error:
        raise OSError(errno.EINVAL, f"{host!r} is no name of a host: {error}") from error
