"""fastlog and Apache Kafka asked what no good client asks: each item has its error, and nothing is changed.

Deletes of Kafka's own topics and thousands of millions of partitions go to a Kafka of these tests' own: its controller
fails for a moment after some of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastlog.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastlog.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess, wait_until
from tests.support.pair import Pair

TOPIC, BROKER, GROUP = 2, 4, 32
SET, APPEND = 0, 2
OK, UNKNOWN_TOPIC, INVALID_REQUEST, POLICY_VIOLATION, UNKNOWN_LEADER_EPOCH = 0, 3, 42, 44, 75
OFFSETS, TRANSACTIONS, METADATA = "__consumer_offsets", "__transaction_state", "__cluster_metadata"
THOUSAND_MILLION = 10**9
MEMORY_BYTES = 32 << 20
PATIENCE_SECONDS = 60.0
# a Kafka starts among them
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, BrokerProcess]]:
    """A Kafka that may be damaged, and a broker whose memory may be looked at."""
    kafka = KafkaServer(tmp_path_factory.mktemp("kafka"))
    ours = BrokerProcess(tmp_path_factory.mktemp("bad-input") / "data").start()
    made = Pair(kafka.port, ours.tcp_port)
    yield made, ours
    made.close()
    kafka.stop()
    assert ours.stop() == 0, ours.log()


def partitions(pair: Pair, name: str) -> list[int]:
    """How many partitions a topic has on each side; 0 without a topic."""
    wanted = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    return [len(answer.topics[0].partitions) for answer in pair.both(wanted, 12)]


# --- how many partitions ---


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("version", [2, 7])
def test_topics_of_a_thousand_million_partitions(
    apart: tuple[Pair, BrokerProcess], topic_name: str, version: int, validate_only: bool
) -> None:
    pair, ours = apart
    before = ours.rss_bytes()
    names = [topic_name, f"{topic_name}-good"]
    topics = [
        CreatableTopic(name, count, 1) for name, count in zip(names, (THOUSAND_MILLION, 1), strict=True)
    ]
    answers = pair.same(CreateTopicsRequest(topics, 10_000, validate_only), version)
    assert {it.error_code for it in answers[1].topics} == {POLICY_VIOLATION}
    assert [partitions(pair, name) for name in names] == [[0, 0]] * 2
    assert ours.rss_bytes() - before < MEMORY_BYTES


@pytest.mark.parametrize("validate_only", [True, False])
@pytest.mark.parametrize("version", [0, 3])
def test_a_topic_is_to_grow_to_a_thousand_million_partitions(
    apart: tuple[Pair, BrokerProcess], topic_name: str, version: int, validate_only: bool
) -> None:
    pair, ours = apart
    good = pair.topic(f"{topic_name}-good")
    pair.topic(topic_name, 2)
    before = ours.rss_bytes()
    counts = [CreatePartitionsTopic(topic_name, THOUSAND_MILLION, None), CreatePartitionsTopic(good, 2, None)]
    wanted = CreatePartitionsRequest(counts, 10_000, validate_only)
    pair.same(wanted, version, but="create partitions/a thousand million")
    assert partitions(pair, topic_name) == [2, 2]
    assert partitions(pair, good) == [1, 1]
    assert ours.rss_bytes() - before < MEMORY_BYTES


# --- Kafka's own topics ---


@pytest.mark.parametrize("version", [2, 7])
@pytest.mark.parametrize("validate_only", [False, True])
def test_the_topic_of_the_cluster_s_metadata_is_not_made(
    pair: Pair, version: int, validate_only: bool
) -> None:
    wanted = CreatableTopic(METADATA, 1, 1)
    answers = pair.same(CreateTopicsRequest([wanted, wanted], 10_000, validate_only), version)
    answers += pair.same(CreateTopicsRequest([wanted], 10_000, validate_only), version)
    assert {it.error_code for answer in answers for it in answer.topics} == {INVALID_REQUEST}
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=METADATA)], allow_auto_topic_creation=True)
    for answer in pair.same(asked, 12):
        assert answer.topics[0].error_code == UNKNOWN_TOPIC
    assert partitions(pair, METADATA) == [0, 0]


@pytest.mark.parametrize("name", [TRANSACTIONS, METADATA])
def test_topics_of_kafkas_that_are_not_there(apart: tuple[Pair, BrokerProcess], name: str) -> None:
    # where others produce in transactions, Kafka's is there
    pair, _ = apart
    for version in (1, 6):
        wanted = DeleteTopicsRequest([DeleteTopicState(name=name)], [name], timeout_ms=10_000)
        pair.same(wanted, version)
    pair.same(CreatePartitionsRequest([CreatePartitionsTopic(name, 70, None)], 10_000, False), 3)


def test_the_topic_of_transactions_is_deleted(apart: tuple[Pair, BrokerProcess]) -> None:
    """A broker without transactions has none of its own accord; a client may have made one, here as there."""
    pair, _ = apart
    pair.topic(TRANSACTIONS)
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=TRANSACTIONS)], allow_auto_topic_creation=False)
    for answer in pair.same(asked, 12):
        assert answer.topics[0].is_internal
    wanted = DeleteTopicsRequest([DeleteTopicState(name=TRANSACTIONS)], timeout_ms=10_000)
    assert [it.responses[0].error_code for it in pair.same(wanted, 6)] == [OK, OK]
    wait_until("it is gone", lambda: partitions(pair, TRANSACTIONS) == [0, 0], seconds=PATIENCE_SECONDS)


def test_the_topic_of_groups_neither_grows_nor_goes(
    apart: tuple[Pair, BrokerProcess], topic_name: str
) -> None:
    pair, _ = apart
    pair.topic(topic_name)
    asked = FindCoordinatorRequest(coordinator_keys=["g"])

    def is_found() -> bool:
        return all(answer.coordinators[0].error_code == OK for answer in pair.both(asked, 4))

    wait_until("coordinators are found, whose topic is made", is_found, seconds=PATIENCE_SECONDS)
    assert partitions(pair, OFFSETS) == [50, 50]
    counts = [CreatePartitionsTopic(OFFSETS, 51, None), CreatePartitionsTopic(topic_name, 2, None)]
    pair.same(CreatePartitionsRequest(counts, 10_000, False), 3, but="create partitions/of groups")
    assert partitions(pair, OFFSETS)[1] == 50
    assert partitions(pair, topic_name)[1] == 2
    states = [DeleteTopicState(name=OFFSETS), DeleteTopicState(name=topic_name)]
    pair.same(DeleteTopicsRequest(states, timeout_ms=10_000), 6, but="delete topics/of groups")
    wait_until("the other is gone", lambda: partitions(pair, topic_name) == [0, 0], seconds=PATIENCE_SECONDS)
    assert partitions(pair, OFFSETS)[1] == 50


# --- settings ---


def described(pair: Pair, version: int, *resources: DescribeConfigsResource, but: str = "") -> list[Any]:
    return pair.same(DescribeConfigsRequest(list(resources), False, False), version, but=but)


@pytest.mark.parametrize("version", range(1, 5))
def test_a_resource_twice_in_one_question(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)
    once = DescribeConfigsResource(TOPIC, topic_name, ["retention.ms"])
    other = DescribeConfigsResource(TOPIC, topic_name, ["segment.ms"])
    absent = DescribeConfigsResource(TOPIC, f"{topic_name}-absent", None)
    but = "configs/described twice"
    described(pair, version, once, other)
    described(pair, version, once, once, but=but)
    described(pair, version, once, once, other, absent, but=but)
    described(pair, version, absent, absent, but=but)
    described(pair, version, DescribeConfigsResource(TOPIC, topic_name, ["retention.ms"] * 2))


BAD_SETTINGS = {
    "out of range": AlterableConfig("segment.bytes", SET, "1"),
    "far out of range": AlterableConfig("retention.ms", SET, str(10**30)),
    "below the least": AlterableConfig("retention.ms", SET, "-2"),
    "no number": AlterableConfig("retention.ms", SET, "soon"),
    "a fraction": AlterableConfig("retention.ms", SET, "1.5"),
    "no truth value": AlterableConfig("preallocate", SET, "perhaps"),
    "no such choice": AlterableConfig("cleanup.policy", SET, "shred"),
    "no such codec": AlterableConfig("compression.type", SET, "rar"),
    "unknown": AlterableConfig("no.such.setting", SET, "1"),
    "a broker's": AlterableConfig("log.retention.ms", SET, "1"),
    "no value": AlterableConfig("retention.ms", SET, None),
    "appended to a number": AlterableConfig("retention.ms", APPEND, "1"),
    "appended nonsense": AlterableConfig("cleanup.policy", APPEND, "shred"),
}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("version", [0, 1])
def test_bad_settings_beside_good_ones(
    pair: Pair, topic_name: str, version: int, validate_only: bool
) -> None:
    """In one request: a topic for each, whose good change fails too, and one whose changes are all good."""
    good = AlterableConfig("max.message.bytes", SET, "777777")
    changes = {f"{topic_name}-{number}": [good, bad] for number, bad in enumerate(BAD_SETTINGS.values())}
    changes[f"{topic_name}-good"] = [good, AlterableConfig("retention.ms", SET, "5000")]
    for name in changes:
        pair.topic(name)
    changes[f"{topic_name}-absent"] = [good]
    resources = [AlterConfigsResource(TOPIC, name, configs) for name, configs in changes.items()]
    resources += [
        AlterConfigsResource(99, "x", [good]),
        AlterConfigsResource(BROKER, "many", [AlterableConfig("log.retention.ms", SET, "1")]),
        AlterConfigsResource(GROUP, topic_name, [AlterableConfig("consumer.session.timeout.ms", SET, "1")]),
    ]
    for answer in pair.same(IncrementalAlterConfigsRequest(resources, validate_only), version):
        codes = {it.resource_name: it.error_code for it in answer.responses}
        assert [name for name, code in codes.items() if code == OK] == [f"{topic_name}-good"]
    keys = ["max.message.bytes", "retention.ms", "segment.bytes", "cleanup.policy", "compression.type"]
    changed = []
    for name in changes:
        _, fastlog = described(pair, 4, DescribeConfigsResource(TOPIC, name, keys))
        changed += [(name, it.value) for it in fastlog.results[0].configs if it.value in ("777777", "5000")]
    expected = [] if validate_only else [(f"{topic_name}-good", value) for value in ("777777", "5000")]
    assert sorted(changed) == sorted(expected)


# --- epochs from the future ---


@pytest.mark.parametrize("epoch", [1, 7, 2**31 - 1])
def test_epochs_from_the_future_beside_the_present_one(pair: Pair, topic_name: str, epoch: int) -> None:
    pair.topic(topic_name, 2)
    for version in (4, 11):
        wanted = [ListOffsetsPartition(0, epoch, -1), ListOffsetsPartition(1, 0, -1)]
        answers = pair.same(ListOffsetsRequest(-1, 0, [ListOffsetsTopic(topic_name, wanted)]), version)
        rows = {it.partition_index: it.error_code for it in answers[1].topics[0].partitions}
        assert rows == {0: UNKNOWN_LEADER_EPOCH, 1: OK}
    for version in (9, 12, 18):
        wanted_too = [
            FetchPartition(number, current_leader_epoch=now, fetch_offset=0, partition_max_bytes=1000)
            for number, now in enumerate((epoch, 0))
        ]
        asked = FetchRequest(topics=[FetchTopic(topic=topic_name, partitions=wanted_too)], max_bytes=1000)
        answers = pair.same(asked, version)
        rows = {it.partition_index: it.error_code for it in answers[1].responses[0].partitions}
        assert rows == {0: UNKNOWN_LEADER_EPOCH, 1: OK}
    for version in (2, 3, 4):
        # of the present leader one may ask where any epoch ends
        each = [OffsetForLeaderPartition(0, epoch, 0), OffsetForLeaderPartition(1, 0, epoch)]
        answers = pair.same(
            OffsetForLeaderEpochRequest(-1, [OffsetForLeaderTopic(topic_name, each)]), version
        )
        rows = {it.partition: (it.error_code, it.end_offset) for it in answers[1].topics[0].partitions}
        assert rows == {0: (UNKNOWN_LEADER_EPOCH, -1), 1: (OK, -1)}
