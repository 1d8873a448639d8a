"""fastlog and Apache Kafka asked the same: CreateTopics, DeleteTopics, CreatePartitions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import pytest

from fastlog.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from fastlog.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.pair import Pair, Side, plain

VERSIONS = range(2, 8)
BAD_NAMES = ["../x", ".", "..", "", "a/b", "a b", "x" * 250, "ü"]


def creatable(
    name: str,
    partitions: int = 1,
    replication: int = 1,
    assignments: Mapping[int, list[int]] | None = None,
    configs: Mapping[str, str | None] | None = None,
) -> CreatableTopic:
    rows = [CreatableReplicaAssignment(index, brokers) for index, brokers in (assignments or {}).items()]
    settings = [CreatableTopicConfig(key, value) for key, value in (configs or {}).items()]
    return CreatableTopic(name, partitions, replication, rows, settings)


def create(
    pair: Pair, version: int, *topics: CreatableTopic, validate_only: bool = False, but: str = ""
) -> None:
    """Compares the answers, settings apart: which there are is compared with the settings."""
    message = CreateTopicsRequest(list(topics), 10_000, validate_only)
    answers = pair.both(message, version)
    for answer in answers:
        for topic in answer.topics:
            topic.configs = topic.configs and []
    pair.check(message, version, answers, but=but)


def described(pair: Pair, name: str) -> list[tuple[int, int]]:
    """Error and number of partitions on both sides."""
    wanted = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    found = [answer.topics[0] for answer in pair.both(wanted, 12)]
    return [(topic.error_code, len(topic.partitions)) for topic in found]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_is_created(pair: Pair, topic_name: str, version: int) -> None:
    create(pair, version, creatable(topic_name, 3, configs={"retention.ms": "1000"}))
    pair.wait_for(topic_name, 3)
    create(pair, version, creatable(topic_name))


@pytest.mark.parametrize("version", VERSIONS)
def test_creation_is_only_validated(pair: Pair, topic_name: str, version: int) -> None:
    but = "create topics/id of a topic that is not made" if version == 7 else ""
    create(pair, version, creatable(topic_name, 3), validate_only=True, but=but)
    create(pair, version, creatable("../x"), creatable(topic_name, -7), validate_only=True)
    assert described(pair, topic_name) == [(3, 0)] * 2


@pytest.mark.parametrize("version", VERSIONS)
def test_defaults_for_partitions_and_replicas(pair: Pair, topic_name: str, version: int) -> None:
    create(pair, version, creatable(topic_name, -1, -1))
    create(pair, version, creatable(f"{topic_name}-2", -1, 1), creatable(f"{topic_name}-3", 2, -1))


WRONG = {
    "no partitions": creatable("x", 0),
    "minus two partitions": creatable("x", -2),
    "no replicas": creatable("x", 1, 0),
    "minus two replicas": creatable("x", 1, -2),
    "more replicas than brokers": creatable("x", 1, 2),
    "32767 replicas": creatable("x", 1, 32_767),
    "nothing right": creatable("", 0, 0),
    "unknown setting": creatable("x", configs={"no.such.setting": "1"}),
    "setting that is no number": creatable("x", configs={"retention.ms": "soon"}),
    "setting out of range": creatable("x", configs={"retention.ms": "-2"}),
    "setting without a value": creatable("x", configs={"retention.ms": None}),
    "broker's setting": creatable("x", configs={"log.retention.ms": "1000"}),
    "unknown cleanup policy": creatable("x", configs={"cleanup.policy": "shred"}),
    "empty cleanup policy": creatable("x", configs={"cleanup.policy": ""}),
    "segment of one byte": creatable("x", configs={"segment.bytes": "1"}),
    "partitions and assignment": creatable("x", 1, -1, {0: [1]}),
    "replicas and assignment": creatable("x", -1, 1, {0: [1]}),
    "assignment with a gap": creatable("x", -1, -1, {0: [1], 2: [1]}),
    "assignment from 1": creatable("x", -1, -1, {1: [1]}),
    "assignment to an unknown broker": creatable("x", -1, -1, {0: [9]}),
    "assignment of a broker twice": creatable("x", -1, -1, {0: [1, 1]}),
    "assignment to nobody": creatable("x", -1, -1, {0: []}),
    "assignment of uneven sizes": creatable("x", -1, -1, {0: [1], 1: []}),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("validate_only", [False, True])
def test_a_topic_is_not_created_with(pair: Pair, topic_name: str, case: str, validate_only: bool) -> None:
    wanted = WRONG[case]
    topic = CreatableTopic(
        wanted.name and topic_name,
        wanted.num_partitions,
        wanted.replication_factor,
        wanted.assignments,
        wanted.configs,
    )
    create(pair, 6, topic, validate_only=validate_only, but=f"create topics/{case}")


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names(pair: Pair, name: str) -> None:
    create(pair, 7, creatable(name))


def test_names_that_metrics_cannot_tell_apart(pair: Pair, topic_name: str) -> None:
    create(pair, 7, creatable(f"{topic_name}.a_b"))
    create(pair, 7, creatable(f"{topic_name}_a.b"))


@pytest.mark.parametrize("version", VERSIONS)
def test_right_and_wrong_topics_in_one_request(pair: Pair, topic_name: str, version: int) -> None:
    names = [f"{topic_name}-{number}" for number in range(3)]
    create(
        pair, version, creatable(names[0]), creatable(names[1], 0), creatable(names[2], 2), creatable("a b")
    )
    create(
        pair,
        version,
        creatable(f"{topic_name}-x"),
        creatable(f"{topic_name}-x"),
        creatable(f"{topic_name}-y"),
    )
    assert described(pair, f"{topic_name}-x") == [(3, 0)] * 2
    create(pair, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_replicas_are_assigned_by_hand(pair: Pair, topic_name: str, version: int) -> None:
    create(pair, version, creatable(topic_name, -1, -1, {1: [1], 0: [1], 2: [1]}))
    pair.wait_for(topic_name, 3)


@pytest.mark.parametrize("validate_only", [False, True])
def test_too_many_partitions_in_one_request(pair: Pair, topic_name: str, validate_only: bool) -> None:
    topics = [creatable(f"{topic_name}-{count}", count) for count in (6_000, 4_001, -1)]
    create(pair, 7, *topics, validate_only=validate_only)
    assert [described(pair, topic.name)[0][0] for topic in topics] == [3, 3, 3]
    create(pair, 7, creatable(topic_name, 10_001), creatable("../x"), validate_only=validate_only)
    pair.topic(topic_name)
    more = [CreatePartitionsTopic(name, 9_999, None) for name in (topic_name, f"{topic_name}-absent")]
    # one more would be 44 here; Kafka 4.3.1 answers -1, and its controller then fails for a while
    grow(pair, 3, *more, validate_only=True)


@pytest.mark.parametrize("version", range(1, 7))
def test_topics_are_deleted_by_name(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)
    names = [topic_name, "no-such-topic", "../x", ""]
    states = [DeleteTopicState(name=name) for name in names]
    wanted = DeleteTopicsRequest(topics=states, topic_names=names, timeout_ms=10_000)
    pair.same(wanted, version)
    pair.same(wanted, version)
    pair.same(DeleteTopicsRequest(), version)


@pytest.mark.parametrize("version", range(1, 7))
def test_a_topic_is_deleted_twice_in_one_request(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)
    states = [DeleteTopicState(name=topic_name)] * 2
    pair.same(
        DeleteTopicsRequest(topics=states, topic_names=[topic_name] * 2, timeout_ms=10_000),
        version,
    )
    assert described(pair, topic_name) == [(0, 1)] * 2


def test_topics_are_deleted_by_id(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)

    def delete(side: Side, *, name: str | None = None) -> DeleteTopicsRequest:
        topic_id = side.notes.setdefault(topic_name, pair.topic_id(side, topic_name))
        states = [DeleteTopicState(name=name, topic_id=topic_id)]
        states.append(DeleteTopicState(name=None, topic_id=uuid.UUID(int=77).bytes))
        return DeleteTopicsRequest(topics=states, timeout_ms=10_000)

    pair.same(lambda side: delete(side, name=topic_name), 6)
    pair.same(delete, 6)
    pair.same(delete, 6)


def test_a_topic_is_deleted_by_id_and_name_in_one_request(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)

    def delete(side: Side) -> DeleteTopicsRequest:
        by_id = DeleteTopicState(name=None, topic_id=pair.topic_id(side, topic_name))
        return DeleteTopicsRequest(topics=[by_id, DeleteTopicState(name=topic_name)], timeout_ms=10_000)

    pair.same(delete, 6)


def test_neither_name_nor_id(pair: Pair) -> None:
    pair.same(DeleteTopicsRequest(topics=[DeleteTopicState(name=None)], timeout_ms=10_000), 6)


def grow(pair: Pair, version: int, *topics: CreatePartitionsTopic, validate_only: bool = False) -> None:
    pair.same(CreatePartitionsRequest(list(topics), 10_000, validate_only), version)


@pytest.mark.parametrize("version", range(4))
def test_partitions_are_added(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name, 2)
    grow(pair, version, CreatePartitionsTopic(topic_name, 5, None), validate_only=True)
    assert described(pair, topic_name) == [(0, 2)] * 2
    for count in (2, 1, 0, -1):
        grow(pair, version, CreatePartitionsTopic(topic_name, count, None))
    grow(pair, version, CreatePartitionsTopic(topic_name, 3, None))
    pair.wait_for(topic_name, 3)
    by_hand = [CreatePartitionsAssignment([1]), CreatePartitionsAssignment([1])]
    grow(pair, version, CreatePartitionsTopic(topic_name, 5, by_hand))
    pair.wait_for(topic_name, 5)


@pytest.mark.parametrize(
    "rows", [[], [[1]], [[1], [1], [1]], [[9], [1]], [[1, 1], [1]], [[], []], [[1, 2], [2, 1]]]
)
def test_assignments_of_new_partitions(pair: Pair, topic_name: str, rows: list[list[int]]) -> None:
    pair.topic(topic_name)
    assignments = [CreatePartitionsAssignment(row) for row in rows]
    grow(pair, 3, CreatePartitionsTopic(topic_name, 3, assignments))


@pytest.mark.parametrize("version", range(4))
def test_partitions_of_what_is_not_there(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)
    missing = [CreatePartitionsTopic(name, 5, None) for name in ("no-such-topic", "../x", "")]
    grow(pair, version, *missing)
    twice = CreatePartitionsTopic(topic_name, 5, None)
    grow(pair, version, twice, twice)
    grow(pair, version)


def test_the_comparison_ignores_the_order_of_topics() -> None:
    both = [[creatable("a"), creatable("b")], [creatable("b"), creatable("a")]]
    left, right = (plain(CreateTopicsRequest(topics)) for topics in both)
    assert left == right
