"""Addresses, paths and values of znodes, and requests, without a ZooKeeper."""

from __future__ import annotations

import subprocess
import sys
from uuid import UUID

import msgspec
import pytest
from kazoo.exceptions import BadVersionError, NoNodeError, RolledBackError, RuntimeInconsistency

from fastlog.cluster.zookeeper.fields import COUNTED_MAX, TEXT_MAX, number_in
from fastlog.cluster.zookeeper.operations import (
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    Check,
    Create,
    MultiRead,
    Put,
    Remove,
    in_batches,
    refusal,
    size_bytes,
)
from fastlog.cluster.zookeeper.paths import Paths, parse_address
from fastlog.cluster.zookeeper.znodes import (
    BrokerZnode,
    ClusterZnode,
    ControllerEpochZnode,
    ControllerZnode,
    DeletionZnode,
    PartitionZnode,
    ProducerIdsZnode,
    TopicIdZnode,
    TopicZnode,
    decode,
    decode_topic,
    encode,
    from_state,
    to_state,
    what_is_wrong,
    with_assignment,
)
from fastlog.ports import CorruptStoreError, PartitionState, StoreError

STATE = PartitionState(replicas=(1, 2), leader=1, leader_epoch=0, isr=(1, 2), isr_epochs=(5, 6))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h:2181", ("h:2181", "/fastlog")),
        ("h:2181/", ("h:2181", "/fastlog")),
        ("a:1,b:2,c:3/x/y", ("a:1,b:2,c:3", "/x/y")),
        ("[::1]:2181/x/", ("[::1]:2181", "/x")),
    ],
)
def test_an_address_is_servers_and_a_root(text: str, expected: tuple[str, str]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "h", "h:", ":2181", "h:0", "h:99999", "h:x", "a:1,,b:2", "a:1/x//y", "a:1/.."]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_address(text)


def test_a_state_is_written_as_the_design_says_and_read_back() -> None:
    path = Paths().partition("orders", 3)
    assert path == "/fastlog/brokers/topics/orders/partitions/3"
    data = from_state(STATE, 9, path)
    assert msgspec.json.decode(data) == {
        "leader": 1,
        "leader_epoch": 0,
        "isr": [[1, 5], [2, 6]],
        "elr": [],
        "recovering": False,
        "controller_epoch": 9,
    }
    topic = TopicZnode(topic_id=UUID(int=1), partitions={0: (1, 2)})
    assert to_state(data, 0, topic, 0, path) == STATE


def test_topics_name_only_what_is_not_empty() -> None:
    topic = with_assignment(TopicZnode(topic_id=UUID(int=1), partitions={}), {0: STATE})
    assert msgspec.json.decode(encode(topic, "")) == {
        "topic_id": str(UUID(int=1)),
        "partitions": {"0": [1, 2]},
    }
    moving = msgspec.structs.replace(STATE, replicas=(1, 2, 3), adding=(3,), removing=(1,))
    moved = with_assignment(topic, {0: moving})
    assert (moved.partitions, moved.adding, moved.removing) == ({0: (1, 2, 3)}, {0: (3,)}, {0: (1,)})
    assert with_assignment(moved, {0: STATE}) == topic
    assert decode_topic(encode(moved, ""), "/topics/orders") == moved


@pytest.mark.parametrize(
    "change",
    [
        {"leader": 3},
        {"isr": (1, 3)},
        {"isr": (1, 1)},
        {"elr": (4,)},
        {"adding": (4,)},
        {"adding": (1, 1)},
        {"removing": (2, 2)},
        {"last_known_elr": (1, 1)},
        {"replicas": (1, 2, 2)},
        {"leader_epoch": -1},
        {"isr_epochs": (5,)},
    ],
)
def test_a_state_that_cannot_be_is_not_written(change: dict[str, object]) -> None:
    assert what_is_wrong(STATE) == ""
    with pytest.raises(StoreError, match="/p is not written"):
        from_state(msgspec.structs.replace(STATE, **change), 1, "/p")


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"endpoints":{"A":["h"]}}', b"null"])
def test_garbage_names_its_path(data: bytes) -> None:
    with pytest.raises(CorruptStoreError, match="/fastlog/brokers/ids/7 holds garbage"):
        decode(data, BrokerZnode, Paths().broker(7))


ID = f'"{UUID(int=1)}"'
OUT_OF_BOUNDS = {
    "a port that no socket takes": (
        BrokerZnode,
        '{"endpoints":{"A":["h",PORT]},"incarnation":ID,"clean_start":true}',
    ),
    "a host of any length": (
        BrokerZnode,
        '{"endpoints":{"A":["HUGE",1]},"incarnation":ID,"clean_start":true}',
    ),
    "a rack of any length": (
        BrokerZnode,
        '{"endpoints":{},"incarnation":ID,"clean_start":true,"rack":"HUGE"}',
    ),
    "a controller that no broker can be": (ControllerZnode, '{"broker":-1,"broker_epoch":1}'),
    "the controller's broker epoch": (ControllerZnode, '{"broker":1,"broker_epoch":LARGE}'),
    "an epoch after which none fits": (ControllerEpochZnode, f'{{"epoch":{COUNTED_MAX + 1}}}'),
    "an epoch of no type": (ControllerEpochZnode, '{"epoch":LARGE}'),
    "a replica that no broker can be": (TopicZnode, '{"topic_id":ID,"partitions":{"0":[-1]}}'),
    "a replica of no type": (TopicZnode, '{"topic_id":ID,"partitions":{"0":[LARGE]}}'),
    "a partition of no type": (TopicZnode, '{"topic_id":ID,"partitions":{"LARGE":[1]}}'),
    "a replica to be added": (TopicZnode, '{"topic_id":ID,"partitions":{"0":[1]},"adding":{"0":[LARGE]}}'),
    "a topic's id that is none": (TopicZnode, '{"topic_id":"x","partitions":{"0":[1]}}'),
    "a leader": (PartitionZnode, '{"leader":-2,"leader_epoch":0,"isr":[],"elr":[],REST}'),
    "a leader epoch": (PartitionZnode, '{"leader":1,"leader_epoch":LARGE,"isr":[[1,1]],"elr":[],REST}'),
    "an epoch of a member": (PartitionZnode, '{"leader":1,"leader_epoch":0,"isr":[[1,LARGE]],"elr":[],REST}'),
    "an eligible leader": (PartitionZnode, '{"leader":1,"leader_epoch":0,"isr":[[1,1]],"elr":[LARGE],REST}'),
    "a count of deleted partitions": (DeletionZnode, '{"topic":"t","partitions":LARGE}'),
    "a path instead of a deleted topic": (DeletionZnode, '{"topic":"../../etc","partitions":1}'),
    "a path instead of a topic": (TopicIdZnode, '{"topic":"a/b"}'),
    "a name of any length": (TopicIdZnode, '{"topic":"HUGE"}'),
    "producer ids": (ProducerIdsZnode, '{"next":LARGE}'),
    "producer ids below 0": (ProducerIdsZnode, '{"next":-1}'),
    "digits without end": (ProducerIdsZnode, '{"next":DIGITS}'),
    "a cluster without a name": (ClusterZnode, '{"id":"","format":1}'),
    "arrays without end": (ClusterZnode, '{"x":NESTED'),
}


def spelled(text: str) -> bytes:
    """With what would not fit into the table."""
    for word, meant in {
        "PORT": "70000",
        "LARGE": str(10**20),
        "HUGE": "x" * (TEXT_MAX + 1),
        "DIGITS": "9" * 5_000,
        "NESTED": "[" * 100_000,
        "REST": '"recovering":false,"controller_epoch":1',
        ":ID": f":{ID}",
    }.items():
        text = text.replace(word, meant)
    return text.encode()


@pytest.mark.parametrize("case", OUT_OF_BOUNDS)
def test_what_fits_no_type_is_garbage(case: str) -> None:
    kind, text = OUT_OF_BOUNDS[case]
    with pytest.raises(CorruptStoreError, match="/fastlog/p holds garbage"):
        decode(spelled(text), kind, "/fastlog/p")


def test_the_id_of_no_topic_and_a_name_that_is_none_are_no_topics() -> None:
    data = encode(TopicZnode(topic_id=UUID(int=0), partitions={0: (1,)}), "")
    with pytest.raises(CorruptStoreError, match="/topics/orders has the topic id of no topic"):
        decode_topic(data, "/topics/orders")
    good = encode(TopicZnode(topic_id=UUID(int=1), partitions={0: (1,)}), "")
    for name in ("my topic", "x" * 250):
        with pytest.raises(CorruptStoreError, match="is no topic's"):
            decode_topic(good, f"/topics/{name}")


@pytest.mark.parametrize(
    "name", ["", "-1", "01", "+1", " 1", "1_0", "\u0661", "\u00b2", "2147483648", "9" * 5_000]
)
def test_a_broker_and_a_partition_have_one_name(name: str) -> None:
    assert number_in(name) is None
    assert [number_in(each) for each in ("0", "7", "2147483647")] == [0, 7, 2147483647]


def test_operations_are_packed_into_transactions_within_both_bounds() -> None:
    fence = Check("/e", 3)
    many = [Create(f"/{index}") for index in range(250)]
    batches = in_batches(many, beside=[fence])
    assert [len(each) for each in batches] == [100, 100, 53]
    assert all(each[0] == fence for each in batches)
    assert [each for batch in batches for each in batch[1:]] == many
    large = [Put(f"/{index}", b"x" * 400_000, 0) for index in range(5)]
    batches = in_batches(large, beside=[fence])
    assert [len(each) for each in batches] == [3, 3, 2]
    assert all(sum(map(size_bytes, each)) <= TRANSACTION_BYTES_MAX for each in batches)
    assert in_batches([], beside=[fence]) == []
    assert OPERATIONS_MAX == 100


def test_a_refusal_names_the_operation_that_was_refused() -> None:
    operations = [Check("/a", 1), Put("/b", b"", 2), Remove("/c")]
    failed = [RolledBackError(), BadVersionError(), RuntimeInconsistency()]
    refused = refusal(operations, failed)
    assert refused is not None
    assert (refused.index, refused.operation, type(refused.cause)) == (1, operations[1], BadVersionError)
    assert refusal(operations, [True, object(), True]) is None


def test_many_reads_are_one_request_in_zookeepers_bytes() -> None:
    request = MultiRead(["/a", "/bc"])
    assert request.type == 22
    op = "00000004 00 ffffffff"
    assert request.serialize() == bytes.fromhex(
        f"{op} 00000002 2f61 00 {op} 00000003 2f6263 00 ffffffff 01 ffffffff"
    )
    stat = "".join(f"{number:016x}" for number in (1, 2, 3, 4)) + "00000005" * 3
    stat += f"{6:016x} 00000001 00000000 {7:016x}"
    answer = bytes.fromhex(
        f"{op} 00000001 78 {stat} ffffffff 00 ffffff9b ffffff9b {op} ffffffff {stat} ffffffff 01 ffffffff"
    )
    value, missing, empty = MultiRead.deserialize(answer, 0)
    assert isinstance(value, tuple)
    assert (value[0], value[1].czxid, value[1].version, value[1].ephemeralOwner) == (b"x", 1, 5, 6)
    assert isinstance(missing, NoNodeError)
    assert isinstance(empty, tuple)
    assert empty[0] == b""


def test_a_single_node_never_imports_kazoo() -> None:
    code = (
        "import sys, fastlog.broker.broker, fastlog.cluster.local, fastlog.cli; print('kazoo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
