"""kio's messages beside ours: random ones of any API and version, and the same message as ours.

kio has a class for each version, made by other people from Kafka's schemas, so it says which fields a version has.
It wraps durations, times, error codes and UUIDs; ours are plain numbers and bytes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import importlib
import io
import types
import typing
from typing import Any

from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.serial import entity_writer
from kio.serial._introspect import classify_field, get_field_tag, is_optional

from fastlog.protocol.api import VERSIONS, ApiKey
from fastlog.protocol.message import ZERO_UUID

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LIST_MAX = 3

# fields that Kafka 4.4 names otherwise than 4.3, from which kio is made: (struct, kio's name) to ours
RENAMED = {("TxnOffsetCommitRequest", "generation_id"): "generation_id_or_member_epoch"}


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def after(milliseconds: int) -> dt.datetime:
    return EPOCH + dt.timedelta(milliseconds=milliseconds)


# from kio's name of a type: random values of kio's
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int8": signed(8),
    "int16": signed(16),
    "int32": signed(32),
    "int64": signed(64),
    "uint16": st.integers(0, 2**16 - 1),
    "string": st.text(max_size=12),
    "bytes": st.binary(max_size=12),
    "records": st.binary(max_size=12),
    "uuid": st.none() | st.uuids(),
    "error_code": st.sampled_from(ErrorCode),
    "timedelta_i32": signed(32).map(lambda ms: dt.timedelta(milliseconds=ms)),
    # a float inside a timedelta keeps no more than about 52 bits
    "timedelta_i64": signed(44).map(lambda ms: dt.timedelta(milliseconds=ms)),
    "datetime_i64": st.integers(0, 2**40).map(after),
}


def plain(value: Any, kafka_type: str) -> Any:
    """One of kio's values, not an array or a struct, as ours."""
    if kafka_type == "uuid":
        return ZERO_UUID if value is None else value.bytes
    if kafka_type.startswith("datetime"):
        return -1 if value is None else round((value - EPOCH) / dt.timedelta(milliseconds=1))
    if value is None:
        return None
    if kafka_type == "error_code":
        return value.value
    if kafka_type.startswith("timedelta"):
        return round(value / dt.timedelta(milliseconds=1))
    return value


def attribute(struct: type, field: dataclasses.Field[Any]) -> str:
    """Our name of kio's field: kio leaves the unit out where the type has it."""
    if (struct.__name__, field.name) in RENAMED:
        return RENAMED[struct.__name__, field.name]
    kafka_type = field.metadata.get("kafka_type", "")
    return f"{field.name}_ms" if kafka_type.startswith(("timedelta", "datetime")) else field.name


def field_strategy(field: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    kind = classify_field(field)
    kafka_type = field.metadata.get("kafka_type")
    value = VALUES[kafka_type] if kafka_type else entities(kind.type_)
    if kind.is_array:
        value = st.lists(value, max_size=LIST_MAX).map(tuple)
    # kio writes no null in a tagged field but where that is the default, which is not written at all
    if is_optional(field) and (get_field_tag(field) is None or field.default is None):
        return st.none() | value
    return value


@functools.cache
def entities(kind: type) -> st.SearchStrategy[Any]:
    """Random messages or structs of kio's class."""
    fields = dataclasses.fields(kind)
    return st.deferred(lambda: st.builds(kind, **{field.name: field_strategy(field) for field in fields}))


@functools.cache
def inner_class(ours: type, name: str) -> type:
    """The struct class inside our field's annotation."""
    annotation = typing.get_type_hints(ours)[name]
    while typing.get_args(annotation):
        (annotation,) = (arg for arg in typing.get_args(annotation) if arg is not types.NoneType)
    assert isinstance(annotation, type)
    return annotation


def mirror(value: Any, ours: type) -> Any:
    """kio's message or struct as one of our class `ours`; a field that ours does not have is an error."""
    arguments = {}
    for field in dataclasses.fields(value):
        name, content = attribute(type(value), field), getattr(value, field.name)
        kafka_type = field.metadata.get("kafka_type")
        if isinstance(content, tuple):
            arguments[name] = [
                plain(item, kafka_type) if kafka_type else mirror(item, inner_class(ours, name))
                for item in content
            ]
        elif kafka_type:
            arguments[name] = plain(content, kafka_type)
        else:
            arguments[name] = None if content is None else mirror(content, inner_class(ours, name))
    return ours(**arguments)


def kio_bytes(value: Any) -> bytes:
    """What kio writes for one of its own messages."""
    buffer = io.BytesIO()
    entity_writer(type(value))(buffer, value)
    return buffer.getvalue()


def kio_class(key: ApiKey, version: int, direction: str) -> type | None:
    """kio's class of a request or response; none where kio does not know the version yet."""
    try:
        module = importlib.import_module(f"kio.schema.{key.name.lower()}.v{version}.{direction}")
    except ModuleNotFoundError:
        return None
    (found,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and item.__name__.lower() == f"{key.name.replace('_', '')}{direction}".lower()
    )
    return found


def our_class(key: ApiKey, direction: str) -> type:
    """Our class of a request or response."""
    module = importlib.import_module(f"fastlog.protocol.messages.{key.name.lower()}")
    (found,) = (
        item
        for item in module.STRUCTS
        if item.__name__.lower().endswith(direction) and hasattr(item, "API_KEY")
    )
    assert isinstance(found, type)
    return found


def all_versions() -> list[tuple[ApiKey, int]]:
    """Every API with every version of our table."""
    return [(key, version) for key in ApiKey for version in range(VERSIONS[key][0], VERSIONS[key][1] + 1)]
