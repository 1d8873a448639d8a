"""ZMTP 3.1 by hand (RFC 37): what no ZeroMQ library would send."""

from __future__ import annotations

import socket
import struct

# signature, version, the NULL mechanism, not a server
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
READY = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
MORE, LONG = 1, 2


def frame(body: bytes, *, more: bool = False, claim: int | None = None) -> bytes:
    """A frame of a message; `claim` is the size that it says it has."""
    size = len(body) if claim is None else claim
    if size < 256:
        return bytes([MORE if more else 0, size]) + body
    return bytes([LONG | (MORE if more else 0)]) + struct.pack(">Q", size) + body


class ZmtpConnection:
    """A DEALER after its handshake, of which only the socket is there."""

    def __init__(self, port: int, *, seconds: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self.socket.sendall(GREETING)
        self._receive(len(GREETING))
        self.socket.sendall(b"\x04" + bytes([len(READY)]) + READY)
        _, size = self._receive(2)
        self._receive(size)

    def __enter__(self) -> ZmtpConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def receive_message(self) -> bytes:
        """The only frame of the next message; EOFError where the broker closed the connection."""
        flags, size = self._receive(2)
        if flags & LONG:
            size = struct.unpack(">Q", bytes([size]) + self._receive(7))[0]
        return self._receive(size)

    def ping(self, count: int) -> None:
        """Sends heartbeats and reads their answers."""
        # time to live of 0, no context
        ping, pong = b"\x04\x07\x04PING\0\0", b"\x04\x05\x04PONG"
        self.socket.sendall(ping * count)
        assert self._receive(len(pong) * count) == pong * count

    def is_closed(self) -> bool:
        """Waits until the broker closed the connection; false when it stays open."""
        try:
            self.receive_message()
        except (EOFError, ConnectionError):
            return True
        except TimeoutError:
            return False
        return False

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data
