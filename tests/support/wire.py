"""Kafka's bytes by hand, right and wrong, so that bad-input tests owe nothing to our own codec."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

from tests.support.samples import BASE_TIMESTAMP_MS

PRODUCE, FETCH, METADATA, API_VERSIONS, CREATE_TOPICS = 0, 1, 3, 18, 19
ANSWER_SECONDS = 10.0


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum, slow and plain."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(number: int) -> bytes:
    """A zigzag varint, as records use it."""
    rest = (number << 1) ^ (number >> 63)
    rest &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def string(text: str | None) -> bytes:
    """A nullable STRING: two bytes of length."""
    return b"\xff\xff" if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def record(offset_delta: int, value: bytes, key: bytes | None = None) -> bytes:
    """One record of a batch, without headers."""
    keyed = varint(-1) if key is None else varint(len(key)) + key
    body = b"\0" + varint(0) + varint(offset_delta) + keyed + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


@dataclass
class Batch:
    """A record batch whose every field can be wrong; None means what would be right."""

    records: list[bytes] = field(default_factory=lambda: [record(0, b"v")])
    payload: bytes | None = None
    attributes: int = 0
    base_timestamp: int = BASE_TIMESTAMP_MS
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    magic: int = 2
    count: int | None = None
    last_offset_delta: int | None = None
    batch_length: int | None = None
    crc: int | None = None

    def encode(self) -> bytes:
        """The bytes, with the checksum over what is there."""
        count = len(self.records) if self.count is None else self.count
        last = count - 1 if self.last_offset_delta is None else self.last_offset_delta
        times = (self.base_timestamp, self.base_timestamp)
        producer = (self.producer_id, self.producer_epoch, self.base_sequence)
        summed = struct.pack(">hiqqqhii", self.attributes, last, *times, *producer, count)
        summed += b"".join(self.records) if self.payload is None else self.payload
        crc = crc32c(summed) if self.crc is None else self.crc
        length = len(summed) + 9 if self.batch_length is None else self.batch_length
        return struct.pack(">qiibI", 0, length, -1, self.magic, crc) + summed


def request(
    api_key: int, version: int, body: bytes, *, correlation_id: int = 7, client_id: str | None = "t"
) -> bytes:
    """A request with header version 1, without its length prefix."""
    return struct.pack(">hhi", api_key, version, correlation_id) + string(client_id) + body


def produce_request(topic: str, records: bytes | None, *, acks: int = -1, partition: int = 0) -> bytes:
    """Produce version 7 with one partition."""
    size = struct.pack(">i", -1) if records is None else struct.pack(">i", len(records)) + records
    body = string(None) + struct.pack(">hi", acks, 10_000)
    body += struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, partition) + size
    return request(PRODUCE, 7, body)


def produce_error(answer: bytes) -> int:
    """The error code of the only partition in a Produce version 7 answer."""
    position = 4 + 4
    (length,) = struct.unpack_from(">h", answer, position)
    position += 2 + length + 4 + 4
    (code,) = struct.unpack_from(">h", answer, position)
    return int(code)


class RawConnection:
    """A TCP connection that sends what it is told."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        self.socket.settimeout(ANSWER_SECONDS)

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def send_frame(self, frame: bytes) -> None:
        """Sends `frame` behind its length."""
        self.send(struct.pack(">i", len(frame)) + frame)

    def receive_frame(self) -> bytes | None:
        """The next answer without its length; None when the broker closed the connection."""
        size = self._receive(4)
        return None if size is None else self._receive(struct.unpack(">i", size)[0])

    def ask(self, frame: bytes) -> bytes | None:
        """Sends a frame and waits for the answer; None when the broker closed the connection."""
        self.send_frame(frame)
        return self.receive_frame()

    def is_closed(self) -> bool:
        """Waits until the broker closed the connection; false when it answers or stays silent instead."""
        try:
            return self.receive_frame() is None
        except TimeoutError:
            return False

    def _receive(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not piece:
                return None
            data += piece
        return data
