"""How a command between brokers and its answer lie on the wire: Kafka's headers around a message.

A command: int16 api key, int16 version, int32 correlation id, the sender's cluster id where Kafka has the client id (a
string), the message. Its answer: int32 correlation id, int16 error code, string for a person, the message or nothing.
Other listeners, and brokers that know no commands, so answer them as they answer any request that they do not serve.
A notice: the cluster id, a NUL, the message; whoever listens to one cluster hears no other.

The cluster id is in all of them because an address outlives a broker: another cluster may listen there next.
"""

from __future__ import annotations

import struct

from fastlog.broker.peers.messages import Answer, decode, encode
from fastlog.errors import MalformedMessageError

#: no key of Kafka's, which end far below
PEER_COMMAND = 32000
VERSION = 0

_KEY = struct.Struct(">h")
_HEADER = struct.Struct(">hhih")
_ANSWER = struct.Struct(">ihh")
# of the text for a person, which may name every partition of a request
_TEXT_BYTES_MAX = 4096


def is_command(frame: bytes | memoryview) -> bool:
    """Whether a request, or its first part, is a command between brokers."""
    return len(frame) >= _KEY.size and _KEY.unpack_from(frame)[0] == PEER_COMMAND


def encode_command(correlation_id: int, cluster_id: str, command: object) -> bytes:
    """The request, of a broker of that cluster."""
    sender = cluster_id.encode()
    return _HEADER.pack(PEER_COMMAND, VERSION, correlation_id, len(sender)) + sender + encode(command)


def decode_command_header(frame: bytes | memoryview) -> tuple[int, int, str, int]:
    """Version, correlation id, the sender's cluster id, where the message begins. Raises MalformedMessageError."""
    if len(frame) < _HEADER.size:
        raise MalformedMessageError(f"a command between brokers has {len(frame)} bytes, its header has more")
    _, version, correlation_id, length = _HEADER.unpack_from(frame)
    start = _HEADER.size + max(length, 0)
    if length < -1 or start > len(frame):
        raise MalformedMessageError(f"the cluster id of a command between brokers has {length} bytes")
    return version, correlation_id, bytes(frame[_HEADER.size : start]).decode(errors="replace"), start


def encode_answer(correlation_id: int, answer: Answer) -> bytes:
    """The response."""
    text = answer.message.encode()[:_TEXT_BYTES_MAX]
    body = b"" if answer.body is None else encode(answer.body)
    return _ANSWER.pack(correlation_id, answer.code, len(text)) + text + body


def decode_correlation_id(frame: bytes | memoryview) -> int:
    """What the response is the response to. Raises MalformedMessageError."""
    if len(frame) < _ANSWER.size:
        raise MalformedMessageError(f"an answer between brokers has {len(frame)} bytes, its header has more")
    return int(_ANSWER.unpack_from(frame)[0])


def decode_answer(frame: bytes | memoryview) -> Answer:
    """What a response says; its correlation id has been read. Raises MalformedMessageError."""
    _, code, length = _ANSWER.unpack_from(frame)
    end = _ANSWER.size + length
    if length < 0 or end > len(frame):
        raise MalformedMessageError(f"the text of an answer between brokers has {length} bytes")
    # cut in the middle of a character, perhaps
    text = bytes(frame[_ANSWER.size : end]).decode(errors="ignore")
    body = decode(memoryview(frame)[end:]) if len(frame) > end else None
    return Answer(code=code, message=text, body=body)


def notice_prefix(cluster_id: str) -> bytes:
    """What notices of that cluster begin with, and those of no other."""
    return cluster_id.encode() + b"\0"
