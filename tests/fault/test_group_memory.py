"""Whoever makes up groups and members fills what groups may hold, and no more; the groups that are there go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame
from fastlog.protocol.message import Request
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.raw import RawTcp

MIB = 1 << 20
BOUND = 8 * MIB
WINDOW = 200


@pytest.fixture
def node(make_broker: MakeBroker) -> BrokerProcess:
    broker = make_broker(
        settings={"fastlog.groups.memory.bytes": str(BOUND), "group.initial.rebalance.delay.ms": "0"}
    )
    create_topic(broker.bootstrap, "t", 2)
    return broker


def ask_all(broker: BrokerProcess, requests: Iterator[Request], key: ApiKey, version: int) -> list[int]:
    """Sends all, many at a time; the error codes."""
    codes = []
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        waiting = 0
        for request in requests:
            raw.send(request, version)
            waiting += 1
            if waiting == WINDOW:
                codes += [code(raw.receive_frame(), key, version) for _ in range(waiting)]
                waiting = 0
        codes += [code(raw.receive_frame(), key, version) for _ in range(waiting)]
    return codes


def code(frame: bytes, key: ApiKey, version: int) -> int:
    response = decode_response_frame(key, version, frame)[1]
    if key is ApiKey.JOIN_GROUP:
        return int(response.error_code)
    return int(response.topics[0].partitions[0].error_code)


def joins(count: int, metadata_bytes: int) -> Iterator[Request]:
    protocols = [JoinGroupRequestProtocol("range", bytes(metadata_bytes))]
    for number in range(count):
        yield JoinGroupRequest(
            f"group-{number}",
            session_timeout_ms=1_800_000,
            rebalance_timeout_ms=1_800_000,
            protocol_type="consumer",
            protocols=protocols,
        )


def commits(count: int, metadata_bytes: int) -> Iterator[Request]:
    for number in range(count):
        row = OffsetCommitRequestPartition(0, number, committed_metadata="m" * metadata_bytes)
        yield OffsetCommitRequest(f"group-{number}", topics=[OffsetCommitRequestTopic("t", partitions=[row])])


def commit(broker: BrokerProcess, group_id: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group_id})
    try:
        consumer.commit(offsets=[TopicPartition("t", 1, offset)], asynchronous=False)
    finally:
        consumer.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("requests", "key", "version", "refused"),
    [
        # Kafka's GROUP_MAX_SIZE_REACHED, and POLICY_VIOLATION
        (joins(30_000, 30), ApiKey.JOIN_GROUP, 5, 81),
        (joins(3_000, 20_000), ApiKey.JOIN_GROUP, 3, 81),
        (commits(30_000, 0), ApiKey.OFFSET_COMMIT, 7, 44),
        (commits(6_000, 4_000), ApiKey.OFFSET_COMMIT, 7, 44),
    ],
    ids=["member ids", "large members", "commits", "large commits"],
)
def test_made_up_groups_do_not_fill_the_memory(
    node: BrokerProcess, requests: Iterator[Request], key: ApiKey, version: int, refused: int
) -> None:
    commit(node, "honest", 1)
    before = node.rss_bytes()
    codes = ask_all(node, requests, key, version)
    assert codes[-1000:] == [refused] * 1000
    # what is held, and what came meanwhile: the window's requests, Python's arenas
    assert node.rss_bytes() - before < 3 * BOUND
    commit(node, "honest", 2)
    with pytest.raises(KafkaException, match="POLICY_VIOLATION"):
        commit(node, "newcomer", 1)
    told = [line for line in node.log().splitlines() if "fastlog.groups.memory.bytes" in line]
    assert 1 <= len(told) < 60
