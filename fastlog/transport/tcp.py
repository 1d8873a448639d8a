"""A non-blocking TCP connection to a Kafka listener: every message has a length of four bytes before it."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from fastlog.transport.channel import Bytes, ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTH = struct.Struct(">i")
RECEIVE_BYTES = 64 * 1024
#: a broker's answer is no larger than this: Kafka's default for what one request may carry
MESSAGE_BYTES_MAX = 104_857_600


class TcpChannel:
    """A Channel over TCP. Names are resolved (blocking, as getaddrinfo does) in the constructor."""

    def __init__(self, host: str, port: int) -> None:
        """Starts to connect to the first address of `host`; raises ConnectionLostError where there is none."""
        self.address = f"{host}:{port}"
        self.connected = False
        self._outgoing: deque[memoryview] = deque()
        self._incoming = bytearray()
        #: whether there may be something to read; poll(2) tells when there is again
        self._unread = True
        self._addresses = self._resolve(host, port)
        self._socket = self._start()

    def __repr__(self) -> str:
        return f"<TcpChannel {self.address}{'' if self.connected else ' connecting'}>"

    def descriptors(self) -> Sequence[tuple[int, int]]:
        """See Channel."""
        events = select.POLLIN
        if self._outgoing or not self.connected:
            events |= select.POLLOUT
        return [(self._socket.fileno(), events)]

    def noticed(self, ready: Sequence[int]) -> None:
        """See Channel."""
        if self._socket.fileno() in ready:
            self._unread = True

    def advance(self) -> None:
        """See Channel."""
        if not self.connected:
            self._finish_connecting()
        if self.connected and self._outgoing:
            self._flush()

    def send(self, *parts: Bytes) -> None:
        """See Channel."""
        views = [memoryview(part).cast("B") for part in parts]
        self._outgoing.append(memoryview(LENGTH.pack(sum(map(len, views)))))
        self._outgoing.extend(views)
        if self.connected:
            self._flush()

    def receive(self) -> list[Bytes]:
        """See Channel."""
        if not self.connected:
            return []
        ended = False
        while self._unread:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                self._unread = False
                break
            except OSError as error:
                raise self._lost(f"broke: {error.strerror or error}") from error
            if not data:
                ended = True
                break
            self._incoming += data
            self._unread = len(data) == RECEIVE_BYTES
        messages = self._split()
        if ended and not messages:
            raise self._lost("was closed by the broker")
        return messages

    def pending(self) -> bool:
        """See Channel."""
        return False

    def backlog(self) -> int:
        """See Channel."""
        return len(self._outgoing)

    def close(self) -> None:
        """See Channel."""
        self.connected = False
        self._outgoing.clear()
        self._socket.close()

    def _resolve(self, host: str, port: int) -> deque[tuple[socket.AddressFamily, tuple[str | int, ...]]]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._lost(
                f"could not be made: the name does not resolve ({error.strerror or error})"
            ) from error
        return deque((family, address) for family, _, _, _, address in found)  # type: ignore[misc]

    def _start(self) -> socket.socket:
        family, address = self._addresses.popleft()
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            if self._addresses:
                return self._start()
            raise self._lost(f"could not be made: {os.strerror(code)}")
        return sock

    def _finish_connecting(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        if not poller.poll(0):
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            self.connected = True
            return
        self._socket.close()
        if not self._addresses:
            raise self._lost(f"could not be made: {os.strerror(code)}")
        self._socket = self._start()

    def _flush(self) -> None:
        while self._outgoing:
            try:
                sent = self._socket.sendmsg(list(self._outgoing)[:16])
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise self._lost(f"broke: {error.strerror or error}") from error
            self._drop_sent(sent)

    def _drop_sent(self, sent: int) -> None:
        while sent:
            first = self._outgoing[0]
            if sent < len(first):
                self._outgoing[0] = first[sent:]
                return
            sent -= len(first)
            self._outgoing.popleft()

    def _split(self) -> list[Bytes]:
        messages: list[Bytes] = []
        start, end = 0, len(self._incoming)
        while end - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._incoming, start)
            if not 0 <= length <= MESSAGE_BYTES_MAX:
                raise self._lost(f"gave an answer that is not Kafka's (its length would be {length})")
            if end - start - LENGTH.size < length:
                break
            start += LENGTH.size
            messages.append(bytes(memoryview(self._incoming)[start : start + length]))
            start += length
        if start:
            del self._incoming[:start]
        return messages

    def _lost(self, what: str) -> ConnectionLostError:
        return ConnectionLostError(f"the connection to {self.address} {what}")
