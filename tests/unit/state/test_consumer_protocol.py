"""The bytes that members of a group tell each other."""

from __future__ import annotations

import pytest

from fastlog.errors import MalformedMessageError
from fastlog.state.assignors import (
    ASSIGNORS,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)

WHOLE = Subscription(
    topics=("a", "b"),
    user_data=b"xyz",
    owned_partitions=(("a", 0), ("a", 2), ("b", 1)),
    generation_id=7,
    rack_id="r1",
)


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        (0, {"topics", "user_data"}),
        (1, {"topics", "user_data", "owned_partitions"}),
        (2, {"topics", "user_data", "owned_partitions", "generation_id"}),
        (3, {"topics", "user_data", "owned_partitions", "generation_id", "rack_id"}),
    ],
)
def test_each_version_carries_what_it_has(version: int, kept: set[str]) -> None:
    data = encode_subscription(WHOLE, version)
    assert data[:2] == version.to_bytes(2, "big")
    got = decode_subscription(data)
    nothing = Subscription(topics=())
    for name in Subscription.__slots__:
        assert getattr(got, name) == getattr(WHOLE if name in kept else nothing, name), name


def test_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    data = b"\x00\x09" + encode_subscription(WHOLE)[2:] + b"more"
    assert decode_subscription(data) == WHOLE
    assert decode_assignment(b"\x00\x09" + encode_assignment(WHOLE.owned_partitions)[2:] + b"more")


@pytest.mark.parametrize("version", range(4))
def test_assignments_go_there_and_back(version: int) -> None:
    data = encode_assignment(WHOLE.owned_partitions, b"user", version)
    assert decode_assignment(data) == list(WHOLE.owned_partitions)
    assert decode_assignment(b"") == []


def test_what_is_cut_short_is_refused() -> None:
    for whole, decode in (
        (encode_subscription(WHOLE), decode_subscription),
        (encode_assignment(WHOLE.owned_partitions), decode_assignment),
    ):
        for end in range(1, len(whole)):
            with pytest.raises(MalformedMessageError):
                decode(whole[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        b"\x00\x00\x7f\xff\xff\xff",
        b"\x00\x00\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x01\x00\x02\xff\xfe\xff\xff\xff\xff",
    ],
    ids=["version -1", "two billion topics", "minus one topic", "no UTF-8"],
)
def test_claims_are_not_believed(data: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="subscription"):
        decode_subscription(data)


@pytest.mark.parametrize("user_data", [None, b"", b"\x01", b"\xff" * 40, b"\x00\x00\x00\x01\x00\x05abc"])
@pytest.mark.parametrize("name", ["sticky", "cooperative-sticky"])
def test_user_data_that_cannot_be_read_is_passed_over(name: str, user_data: bytes | None) -> None:
    subscription = Subscription(topics=("t",), user_data=user_data)
    assert ASSIGNORS[name].assign({"t": 2}, {"m": subscription}) == {"m": [("t", 0), ("t", 1)]}
