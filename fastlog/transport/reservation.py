"""A TCP port that is ours before anybody listens at it."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastlog.transport.binding import BindError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def reserved(name: str, host: str, port: int) -> Iterator[int]:
    """Holds the address of the listener `name`, 0 for any free port, and answers the port; raises BindError.

    Clients that come are refused meanwhile. Who listens there next does so before this ends, with SO_REUSEADDR.
    """
    with _hold(name, host, port) as held:
        yield int(held.getsockname()[1])


def _hold(name: str, host: str, port: int) -> socket.socket:
    failed = OSError("the host name has no address")
    try:
        # every interface is one of IPv4, as the engine has it
        found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)  # noqa: S104
    except OSError as error:
        found, failed = [], error
    for family, _, _, _, address in found:
        held = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(address)
        except OSError as error:
            held.close()
            failed = error
        else:
            return held
    raise BindError(
        f"cannot listen at {name}://{host or '*'}:{port}: {failed.strerror or failed}; "
        "choose another address, or stop who uses it"
    ) from failed
