"""The records of groups are Kafka's, byte for byte, and come back from bytes as they were."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlog.errors import MalformedMessageError
from fastlog.state.records import (
    CommittedOffset,
    GroupMetadata,
    GroupValue,
    MemberValue,
    OffsetCommit,
    Record,
    decode,
    encode,
)
from fastlog.state.records.codec import decode_any
from fastlog.state.records.offset_commit import decode_plain

INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=30)
OFFSETS = st.builds(
    CommittedOffset, offset=INT64, leader_epoch=INT32, metadata=TEXT, commit_ms=INT64, expire_ms=st.just(-1)
)
MEMBERS = st.builds(
    MemberValue,
    member_id=TEXT,
    instance_id=st.none() | TEXT,
    client_id=TEXT,
    client_host=TEXT,
    rebalance_timeout_ms=st.integers(0, 2**31 - 1),
    session_timeout_ms=INT32,
    subscription=st.binary(max_size=20),
    assignment=st.binary(max_size=20),
)
GROUPS = st.builds(
    GroupValue,
    protocol_type=TEXT,
    generation=INT32,
    protocol=st.none() | TEXT,
    leader=st.none() | TEXT,
    since_ms=INT64,
    members=st.lists(MEMBERS, max_size=3).map(tuple),
)
RECORDS = st.builds(OffsetCommit, TEXT, TEXT, INT32, st.none() | OFFSETS) | st.builds(
    GroupMetadata, TEXT, st.none() | GROUPS
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert decode(*encode(record)) == record


@given(RECORDS, st.data())
def test_cut_and_changed_bytes_are_refused_or_read_but_never_worse(
    record: Record, data: st.DataObject
) -> None:
    key, value = encode(record)
    if value is None:
        return
    place = data.draw(st.integers(0, len(value) - 1))
    changed = bytearray(value)
    changed[place] ^= data.draw(st.integers(1, 255))
    for broken in (value[:place], bytes(changed)):
        with contextlib.suppress(MalformedMessageError):
            decode(key, broken)


@given(st.builds(OffsetCommit, TEXT, TEXT, INT32, OFFSETS), st.data())
def test_the_quick_way_to_an_offset_says_what_the_long_one_says(
    record: OffsetCommit, data: st.DataObject
) -> None:
    key, value = encode(record)
    assert value is not None
    assert decode_plain(key, value) == record
    for broken in (_changed(key, data), key):
        for damaged in (_changed(value, data), value):
            plain = decode_plain(broken, damaged)
            assert plain is None or plain == decode_any(broken, damaged)


def _changed(raw: bytes, data: st.DataObject) -> bytes:
    """Some other byte, and some bytes fewer or more."""
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(raw) + 3))
    return bytes(changed[:end]) + bytes(max(0, end - len(raw)))


# of Kafka's generated classes: OffsetCommitKey 1 and OffsetCommitValue 3, GroupMetadataKey 2 and GroupMetadataValue 3
def test_the_bytes_are_kafkas() -> None:
    committed = OffsetCommit("g", "t", 7, CommittedOffset(5, 3, "m", 1_000))
    assert encode(committed) == (
        b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x07",
        b"\x00\x03" + (5).to_bytes(8, "big") + b"\x00\x00\x00\x03\x00\x01m" + (1_000).to_bytes(8, "big"),
    )
    member = MemberValue("m", None, "c", "/h", 2, 1, b"s", b"")
    group = GroupMetadata("g", GroupValue("consumer", 1, "range", "m", -1, (member,)))
    assert encode(group) == (
        b"\x00\x02\x00\x01g",
        b"\x00\x03\x00\x08consumer\x00\x00\x00\x01\x00\x05range\x00\x01m" + b"\xff" * 8 + b"\x00\x00\x00\x01"
        b"\x00\x01m\xff\xff\x00\x01c\x00\x02/h\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01s\x00\x00\x00\x00",
    )
    assert encode(GroupMetadata("g", None))[1] is None


def test_an_expiry_of_its_own_takes_the_version_that_has_one() -> None:
    value = CommittedOffset(5, -1, "m", 1_000, 2_000)
    raw = encode(OffsetCommit("g", "t", 7, value))[1]
    assert raw is not None
    assert raw[:2] == b"\x00\x01"
    assert decode(encode(OffsetCommit("g", "t", 7, None))[0], raw) == OffsetCommit("g", "t", 7, value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x00\x00" + bytes(7) + b"\x05\x00\x01m" + bytes(7) + b"\x09", CommittedOffset(5, -1, "m", 9)),
        (b"\x00\x02" + bytes(7) + b"\x05\x00\x01m" + bytes(7) + b"\x09", CommittedOffset(5, -1, "m", 9)),
        # flexible: a length of one byte, one more than it is, and no tagged fields
        (
            b"\x00\x04" + bytes(7) + b"\x05" + bytes(3) + b"\x02\x02m" + bytes(7) + b"\x09\x00",
            CommittedOffset(5, 2, "m", 9),
        ),
    ],
    ids=["version 0", "version 2", "version 4"],
)
def test_other_versions_of_an_offset_are_read(value: bytes, expected: CommittedOffset) -> None:
    key = encode(OffsetCommit("g", "t", 0, None))[0]
    record = decode(key, value)
    assert record is not None
    assert record.value == expected


def test_other_versions_of_a_group_are_read() -> None:
    key = encode(GroupMetadata("g", None))[0]
    member = b"\x00\x01m\x00\x01c\x00\x01h\x00\x00\x00\x09\x00\x00\x00\x01s\x00\x00\x00\x01a"
    oldest = b"\x00\x00\x00\x01c\x00\x00\x00\x04\xff\xff\xff\xff\x00\x00\x00\x01" + member
    record = decode(key, oldest)
    assert record is not None
    assert isinstance(record.value, GroupValue)
    # the session's time-out was the rebalance's too
    assert record.value.members == (MemberValue("m", None, "c", "h", 9, 9, b"s", b"a"),)
    newest = (
        b"\x00\x04\x02c\x00\x00\x00\x04\x00\x00" + bytes(8) + b"\x02"
        b"\x02m\x00\x02c\x02h\x00\x00\x00\x08\x00\x00\x00\x09\x02s\x02a\x01\x00\x02xy\x00"
    )
    record = decode(key, newest)
    assert record is not None
    assert isinstance(record.value, GroupValue)
    assert record.value.members == (MemberValue("m", None, "c", "h", 8, 9, b"s", b"a"),)


@pytest.mark.parametrize(
    "value",
    [b"", b"\x00\x63", b"\x00\x03\x00\x01c" + bytes(16) + b"\x7f\xff\xff\xff"],
    ids=["empty", "99", "huge"],
)
def test_a_group_that_makes_no_sense_is_refused(value: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode(encode(GroupMetadata("g", None))[0], value)


def test_kinds_of_records_that_are_not_known_are_passed_over() -> None:
    # 17 is a group of Kafka Streams
    assert decode(b"\x00\x11\x00\x01g", b"whatever") is None
