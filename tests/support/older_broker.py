"""A way to a broker on which it seems to be an older one: it offers lower versions. And one sees what it is asked."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from fastlog.protocol import codec
from fastlog.protocol.api import ApiKey

LENGTH = struct.Struct(">i")
HEADER = struct.Struct(">hhi")


class OlderBroker:
    """A proxy before a broker, which has to advertise `address`; `highest` has the versions that are offered."""

    def __init__(self, highest: Mapping[int, int]) -> None:
        self._highest = highest
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int | None = None
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        #: how often each request came, by API key and version
        self.asked: Counter[tuple[int, int]] = Counter()

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def versions(self, api_key: int) -> set[int]:
        """The versions in which a request came."""
        return {version for key, version in self.asked if key == api_key}

    def begin(self, port: int) -> Self:
        """Lets clients through to the broker's port."""
        self._port = port
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def close(self) -> None:
        """Ends all connections."""
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._port))
                with self._lock:
                    self._open += [client, broker]
                greetings: dict[int, int] = {}
                for work, source, target in (
                    (self._forward, client, broker),
                    (self._answer, broker, client),
                ):
                    threading.Thread(target=work, args=(source, target, greetings), daemon=True).start()

    def _forward(self, client: socket.socket, broker: socket.socket, greetings: dict[int, int]) -> None:
        for frame in _frames(client, broker):
            api_key, version, correlation_id = HEADER.unpack_from(frame)
            self.asked[api_key, version] += 1
            if api_key == ApiKey.API_VERSIONS:
                greetings[correlation_id] = version
            broker.sendall(LENGTH.pack(len(frame)) + frame)

    def _answer(self, broker: socket.socket, client: socket.socket, greetings: dict[int, int]) -> None:
        for frame in _frames(broker, client):
            version = greetings.pop(int.from_bytes(frame[:4], "big"), None)
            answer = frame if version is None else self._older(frame, version)
            with contextlib.suppress(OSError):  # it may have gone meanwhile
                client.sendall(LENGTH.pack(len(answer)) + answer)

    def _older(self, frame: bytes, version: int) -> bytes:
        correlation_id, response = codec.decode_response_frame(ApiKey.API_VERSIONS, version, frame)
        offered = [self._lowered(one) for one in response.api_keys]
        older = msgspec.structs.replace(response, api_keys=offered)
        encoded: bytes = codec.encode_response_frame(ApiKey.API_VERSIONS, version, correlation_id, older)
        return encoded

    def _lowered(self, offered: Any) -> Any:
        highest = min(offered.max_version, self._highest.get(offered.api_key, offered.max_version))
        return msgspec.structs.replace(offered, max_version=highest)


def _frames(source: socket.socket, target: socket.socket) -> Any:
    """What comes, frame by frame; with its end the other side's connection ends too."""
    try:
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            while len(head := stream.read(LENGTH.size)) == LENGTH.size:
                yield stream.read(LENGTH.unpack(head)[0])
    finally:
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
