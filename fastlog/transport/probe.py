"""Whether somebody listens at an address."""

from __future__ import annotations

import errno
import select
import socket
import time

from fastlog.transport.binding import address_info


def refuses(host: str, port: int, timeout_s: float) -> bool | None:
    """True: the host is up, and nobody listens there. False: somebody does. None: neither is known.

    Only a refusal is evidence: it means a living kernel without that listener, while silence may be the network's.
    A name of several addresses refuses where all of them do. Blocks for `timeout_s` at most, name resolution aside.
    """
    try:
        found = address_info(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    deadline = time.monotonic() + timeout_s
    answers = [
        _refused(family, address, deadline)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found)
    ]
    if False in answers:
        return False
    return True if all(answers) else None


def _refused(family: int, address: tuple[object, ...], deadline: float) -> bool | None:
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(address)
        if code == errno.EINPROGRESS:
            poller = select.poll()
            poller.register(probe, select.POLLOUT)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            # a connection on loopback may have met itself, where its own port happens to be the one that is asked for
            return bool(probe.getsockname() == probe.getpeername())
        return True if code == errno.ECONNREFUSED else None
