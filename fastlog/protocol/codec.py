"""Bytes to messages and back, for every API and version of the table; the work is done natively.

A field that the version does not have gets its default when it is read and is left out when it is written. Bytes
fields are read as bytes; `records` are written from any buffer. Bytes that are not the message raise
MalformedMessageError, a version that the table does not have UnsupportedVersionError, and a value that its field
cannot hold TypeError or ValueError; all name the message and the field.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from fastlog.errors import UnsupportedVersionError
from fastlog.native._engine import ApiCodec
from fastlog.native._engine import decode_request_header as _decode_request_header
from fastlog.protocol.api import ApiKey

if TYPE_CHECKING:
    from fastlog.native._engine import Buffer
    from fastlog.protocol.message import Request, Response

__all__ = [
    "decode_request",
    "decode_request_header",
    "decode_response",
    "decode_response_frame",
    "encode_request",
    "encode_request_frame",
    "encode_request_parts",
    "encode_response",
    "encode_response_frame",
]


@cache
def _codec(key: int) -> ApiCodec:
    """The codec of one API; its messages are imported when they are first needed."""
    try:
        name = ApiKey(key).name.lower()
    except ValueError:
        raise UnsupportedVersionError(f"the API key {key} is not one of those that fastlog speaks") from None
    module = importlib.import_module(f"fastlog.protocol.messages.{name}")
    return ApiCodec(key, list(module.STRUCTS))


def decode_request_header(buffer: Buffer) -> tuple[int, int, int, str | None, int]:
    """(API key, version, correlation id, client id, where the body starts) of a request without its length.

    The key and the version may be ones that the table does not have.
    """
    return _decode_request_header(buffer)


def decode_request(key: int, version: int, body: Buffer, offset: int = 0) -> Any:
    """The request whose body fills `body` from `offset` to the end, as the API's request class."""
    return _codec(key).decode_request(version, body, offset)


def decode_response(key: int, version: int, body: Buffer, offset: int = 0) -> Any:
    """The response whose body fills `body` from `offset` to the end, as the API's response class."""
    return _codec(key).decode_response(version, body, offset)


def decode_response_frame(key: int, version: int, buffer: Buffer) -> tuple[int, Any]:
    """The correlation id and the response in `buffer`, which holds header and body without the length."""
    return _codec(key).decode_response_frame(version, buffer)


def encode_request(message: Request, version: int) -> bytes:
    """The request's body."""
    return _codec(message.API_KEY).encode_request(version, message)


def encode_response(message: Response, version: int) -> bytes:
    """The response's body."""
    return _codec(message.API_KEY).encode_response(version, message)


def encode_request_frame(message: Request, version: int, correlation_id: int, client_id: str | None) -> bytes:
    """The request with its header, without the length."""
    return _codec(message.API_KEY).encode_request_frame(version, message, correlation_id, client_id)


def encode_request_parts(
    message: Request, version: int, correlation_id: int, client_id: str | None
) -> list[Buffer]:
    """The same in parts, one after the other: records of 16 KiB and more are among them as given, not copied."""
    return _codec(message.API_KEY).encode_request_parts(version, message, correlation_id, client_id)


def encode_response_frame(key: int, version: int, correlation_id: int, message: Response) -> bytes:
    """The response to a request of API `key` and `version` with its header, without the length."""
    return _codec(key).encode_response_frame(version, message, correlation_id)
