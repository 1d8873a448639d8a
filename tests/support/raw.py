"""Requests sent as they are, over TCP and over ZeroMQ, without a client library in between."""

from __future__ import annotations

import itertools
import socket
import struct
from typing import TYPE_CHECKING, Any

import zmq

from fastlog.protocol.codec import decode_response_frame, encode_request_frame

if TYPE_CHECKING:
    from types import TracebackType

    from fastlog.protocol.message import Request


class RawTcp:
    """One TCP connection."""

    def __init__(self, host: str, port: int, *, seconds: float = 10.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=seconds)
        self._numbers = itertools.count(1)

    def __enter__(self) -> RawTcp:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send_frame(self, frame: bytes) -> None:
        """Sends header and body behind their length."""
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive_frame(self) -> bytes:
        """One answer's header and body; EOFError when the broker closed the connection."""
        (length,) = struct.unpack(">i", self._receive(4))
        return self._receive(length)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise EOFError
            data += more
        return data

    def send(self, request: Request, version: int) -> int:
        """Sends a request; its correlation id."""
        number = next(self._numbers)
        self.send_frame(encode_request_frame(request, version, number, "raw"))
        return number

    def ask(self, request: Request, version: int) -> Any:
        """The response to a request."""
        number = self.send(request, version)
        found, response = decode_response_frame(request.API_KEY, version, self.receive_frame())
        assert found == number
        return response


class RawZmq:
    """One DEALER socket."""

    def __init__(self, endpoint: str, *, seconds: float = 10.0) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVTIMEO, int(seconds * 1000))
        self.socket.connect(endpoint)
        self._numbers = itertools.count(1)

    def __enter__(self) -> RawZmq:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        self.context.term()

    def send(self, request: Request, version: int, *, frames: int = 1) -> int:
        """Sends a request, cut into some frames; its correlation id."""
        number = next(self._numbers)
        whole = encode_request_frame(request, version, number, "raw")
        step = -(-len(whole) // frames)
        self.socket.send_multipart([whole[at : at + step] for at in range(0, len(whole), step)])
        return number

    def receive(self, api_key: int, version: int) -> tuple[int, Any]:
        """Correlation id and response of the next answer; zmq.Again when none comes in time."""
        return decode_response_frame(api_key, version, self.socket.recv())

    def ask(self, request: Request, version: int, *, frames: int = 1) -> Any:
        """The response to a request."""
        number = self.send(request, version, frames=frames)
        found, response = self.receive(request.API_KEY, version)
        assert found == number
        return response
