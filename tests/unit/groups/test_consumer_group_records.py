"""The records of groups of the consumer protocol are Kafka's, byte for byte, and come back as they were."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlog.errors import MalformedMessageError
from fastlog.state.records import (
    ClassicMember,
    ConsumerMember,
    ConsumerMemberValue,
    Current,
    CurrentValue,
    GroupEpoch,
    GroupEpochValue,
    Record,
    Regex,
    RegexValue,
    Target,
    TargetEpoch,
    TargetEpochValue,
    decode,
    encode,
)

TOPIC_ID = bytes.fromhex("00000000000000010000000000000002")
MEMBER = ConsumerMemberValue("i", None, "c", "/h", ("t", "u"), "", 45_000, "range")
CLASSIC = ConsumerMemberValue(
    None, None, "c", "/h", ("t", "u"), "", 45_000, None, ClassicMember(10_000, (("range", b"\1\2"),))
)
HEX_TARGET = "000002000000000000000100000000000000020300000000000000020000"
HEX_CURRENT = (
    "000000000007000000060102000000000000000100000000000000020300000000000000020100090300000005000000070100"
)
HEX_CLASSIC = (
    "000000000263032f680302740275010000afc8000100110100002710020672616e67650301020000",
    "000500016700016d",
)
# written by the classes of Kafka 4.3.1 from the same values
KAFKAS: dict[str, tuple[Record, str, str]] = {
    "epoch": (
        GroupEpoch("g", GroupEpochValue(7, 81985529216486895)),
        "0003000167",
        "0000000000070100080123456789abcdef",
    ),
    "epoch without a hash": (GroupEpoch("g", GroupEpochValue(7)), "0003000167", "00000000000700"),
    "member": (
        ConsumerMember("g", "m", MEMBER),
        "000500016700016d",
        "00000269000263032f680302740275010000afc80672616e676500",
    ),
    "classic member": (ConsumerMember("g", "m", CLASSIC), HEX_CLASSIC[1], HEX_CLASSIC[0]),
    "target epoch": (
        TargetEpoch("g", TargetEpochValue(7, 1_700_000_000_000)),
        "0006000167",
        "0000000000070100080000018bcfe56800",
    ),
    "target": (
        Target("g", "m", frozenset({(TOPIC_ID, 0), (TOPIC_ID, 2)})),
        "000700016700016d",
        HEX_TARGET,
    ),
    "current": (
        Current("g", "m", CurrentValue(7, 6, 1, {(TOPIC_ID, 0): 5, (TOPIC_ID, 2): 7}, {})),
        "000800016700016d",
        HEX_CURRENT,
    ),
    "regex": (
        Regex("g", "t.*", RegexValue(("t",), 3, 1_700_000_000_000)),
        "00100001670003742e2a",
        "000002027400000000000000030000018bcfe5680000",
    ),
}


@pytest.mark.parametrize("name", KAFKAS)
def test_the_bytes_are_kafkas(name: str) -> None:
    record, key, value = KAFKAS[name]
    assert encode(record) == (bytes.fromhex(key), bytes.fromhex(value))
    assert decode(bytes.fromhex(key), bytes.fromhex(value)) == record


@pytest.mark.parametrize("name", KAFKAS)
def test_a_tombstone_is_the_record_without_a_value(name: str) -> None:
    key = bytes.fromhex(KAFKAS[name][1])
    gone = decode(key, None)
    assert gone is not None
    assert gone.value is None
    assert encode(gone) == (key, None)


def test_partition_counts_of_kafka_before_4_1_are_passed_over() -> None:
    assert decode(bytes.fromhex("0004000167"), bytes.fromhex("00000100")) is None


def test_epochs_that_are_not_told_are_unknown() -> None:
    # as Kafka before 4.3 wrote it: no tag with epochs
    value = bytes.fromhex("00000000000700000006010200000000000000010000000000000002020000000000") + b"\1\0"
    record = decode(bytes.fromhex("000800016700016d"), value)
    assert isinstance(record, Current)
    assert record.value is not None
    assert record.value.assigned == {(TOPIC_ID, 0): -1}


INT32, INT64, TEXT = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.text(max_size=20)
PARTITIONS = st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2**31 - 1))
EPOCHS = st.dictionaries(PARTITIONS, INT32, max_size=5)
CLASSICS = st.builds(
    ClassicMember, INT32, st.lists(st.tuples(TEXT, st.binary(max_size=300)), max_size=3).map(tuple)
)
MEMBERS = st.builds(
    ConsumerMemberValue,
    instance_id=st.none() | TEXT,
    rack_id=st.none() | TEXT,
    client_id=TEXT,
    client_host=TEXT,
    topics=st.lists(TEXT, max_size=3).map(tuple),
    regex=st.none() | TEXT,
    rebalance_timeout_ms=INT32,
    assignor=st.none() | TEXT,
    classic=st.none() | CLASSICS,
)
RECORDS = (
    st.builds(GroupEpoch, TEXT, st.builds(GroupEpochValue, INT32, INT64))
    | st.builds(ConsumerMember, TEXT, TEXT, MEMBERS)
    | st.builds(TargetEpoch, TEXT, st.builds(TargetEpochValue, INT32, INT64))
    | st.builds(Target, TEXT, TEXT, st.frozensets(PARTITIONS, max_size=5))
    | st.builds(
        Current, TEXT, TEXT, st.builds(CurrentValue, INT32, INT32, st.integers(0, 127), EPOCHS, EPOCHS)
    )
    | st.builds(Regex, TEXT, TEXT, st.builds(RegexValue, st.lists(TEXT, max_size=3).map(tuple), INT64, INT64))
)


@settings(deadline=None)
@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert decode(*encode(record)) == record


@settings(deadline=None)
@given(RECORDS, st.data())
def test_cut_and_changed_bytes_are_refused_or_read_but_never_worse(
    record: Record, data: st.DataObject
) -> None:
    key, value = encode(record)
    assert value is not None
    place = data.draw(st.integers(0, len(value) - 1))
    changed = bytearray(value)
    changed[place] ^= data.draw(st.integers(1, 255))
    for broken in (value[:place], bytes(changed)):
        with contextlib.suppress(MalformedMessageError):
            decode(key, broken)
