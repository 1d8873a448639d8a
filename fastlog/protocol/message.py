"""What all messages share."""

from typing import ClassVar

import msgspec

# a UUID is its 16 bytes here; Kafka says "none" with zeros
ZERO_UUID = bytes(16)


class Request(msgspec.Struct, gc=False):
    """A request's body."""

    API_KEY: ClassVar[int]


class Response(msgspec.Struct, gc=False):
    """A response's body."""

    API_KEY: ClassVar[int]
