"""Topics through the control APIs: created, grown, deleted; each step may be the last one before a kill -9."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastlog.broker.data_plane import TopicLogs
from fastlog.broker.topic_directory import NewTopic
from fastlog.errors import KafkaError, KafkaStorageError
from fastlog.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from fastlog.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
)
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.control_plane import ControlPlane, Crash


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(tmp_path)


def creatable(name: str, *, partitions: int = 1, factor: int = 1, **configs: str) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=factor,
        configs=[
            CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()
        ],
    )


def create(
    plane: ControlPlane, *topics: CreatableTopic, validate_only: bool = False
) -> list[CreatableTopicResult]:
    answer = plane.ask(CreateTopicsRequest(topics=list(topics), validate_only=validate_only))
    return list(answer.topics)


def test_a_created_topic_is_stored_open_published_and_answered(plane: ControlPlane) -> None:
    (result,) = create(plane, creatable("orders", partitions=3, retention_ms="1000"))
    assert (result.error_code, result.error_message) == (0, None)
    assert (result.num_partitions, result.replication_factor) == (3, 1)
    assert result.topic_id == plane.topics.named("orders").topic_id.bytes
    shown = {config.name: (config.value, config.config_source) for config in result.configs or ()}
    assert shown["retention.ms"] == ("1000", 1)
    assert shown["segment.bytes"] == ("1073741824", 5)
    assert [topic.name for topic in plane.store.topics()] == ["orders"]
    assert [settings.retention_ms for settings in plane.data_plane.open.values()] == [1000] * 3
    assert len(plane.published["orders"].partitions) == 3


def test_minus_one_takes_the_broker_s_defaults(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, {"num.partitions": "4"})
    (result,) = create(plane, creatable("orders", partitions=-1, factor=-1))
    assert (result.error_code, result.num_partitions, result.replication_factor) == (0, 4, 1)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "ü", "x" * 250, "a\n"])
def test_bad_names_are_refused(plane: ControlPlane, name: str) -> None:
    (result,) = create(plane, creatable(name))
    assert result.error_code == 17
    assert plane.store.topics() == []


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (creatable("t", partitions=0), 37),
        (creatable("t", partitions=-2), 37),
        (creatable("t", factor=0), 38),
        (creatable("t", factor=2), 38),
        (creatable("t", factor=32767), 38),
        (creatable("t", partitions=10_001), 44),
        (creatable("t", partitions=1_000_000_000), 44),
        (creatable("t", no_such_key="1"), 40),
        (creatable("t", segment_bytes="5"), 40),
        (
            CreatableTopic(
                name="t", num_partitions=1, replication_factor=1, configs=[CreatableTopicConfig("a", None)]
            ),
            40,
        ),
    ],
)
def test_what_cannot_be_made_is_refused(plane: ControlPlane, topic: CreatableTopic, code: int) -> None:
    (result,) = create(plane, topic)
    assert result.error_code == code
    assert result.error_message
    assert plane.store.topics() == []
    assert plane.data_plane.directories == {}


def test_each_topic_is_answered_alone(plane: ControlPlane) -> None:
    results = create(
        plane, creatable("good"), creatable("bad", partitions=0), creatable("twice"), creatable("twice")
    )
    assert {result.name: result.error_code for result in results} == {"good": 0, "bad": 37, "twice": 42}
    assert len(results) == 3


def test_too_many_partitions_together_are_refused_as_a_whole(plane: ControlPlane) -> None:
    results = create(plane, creatable("one", partitions=6_000), creatable("two", partitions=4_001))
    assert {result.name: result.error_code for result in results} == {"one": 44, "two": 44}
    assert plane.store.topics() == []
    create(plane, creatable("orders"), creatable("clicks"))
    wanted = [CreatePartitionsTopic(name, 5_002, None) for name in ("orders", "clicks", "absent")]
    grown = plane.ask(CreatePartitionsRequest(wanted, 1000, False))
    assert {result.name: result.error_code for result in grown.results} == dict.fromkeys(
        ("orders", "clicks", "absent"), 44
    )


def test_validate_only_changes_nothing(plane: ControlPlane) -> None:
    (result,) = create(plane, creatable("orders", partitions=2), validate_only=True)
    assert (result.error_code, result.num_partitions, result.topic_id) == (0, 2, bytes(16))
    assert plane.store.topics() == []
    (result,) = create(plane, creatable("orders", partitions=0), validate_only=True)
    assert result.error_code == 37


def test_no_topic_is_called_as_kraft_s_log(plane: ControlPlane) -> None:
    (result,) = create(plane, creatable("__cluster_metadata"))
    assert (result.error_code, plane.store.topics()) == (42, [])


def test_a_name_that_is_taken_or_collides(plane: ControlPlane) -> None:
    create(plane, creatable("a.b"))
    assert [result.error_code for result in create(plane, creatable("a.b"), creatable("a_b"))] == [36, 17]


@pytest.mark.parametrize(
    ("rows", "partitions", "code"),
    [
        ({0: [1], 1: [1]}, -1, 0),
        ({0: [1]}, 1, 42),
        ({0: [1], 2: [1]}, -1, 39),
        ({0: [9]}, -1, 39),
        ({0: [1, 1]}, -1, 39),
        ({0: []}, -1, 39),
    ],
)
def test_replicas_may_be_assigned(
    plane: ControlPlane, rows: dict[int, list[int]], partitions: int, code: int
) -> None:
    assignments = [CreatableReplicaAssignment(index, brokers) for index, brokers in rows.items()]
    topic = CreatableTopic(
        name="t", num_partitions=partitions, replication_factor=-1, assignments=assignments
    )
    (result,) = create(plane, topic)
    assert result.error_code == code


def delete(plane: ControlPlane, *names: str) -> list[int]:
    answer = plane.ask(DeleteTopicsRequest(topic_names=list(names)), version=5)
    return [result.error_code for result in answer.responses]


def test_a_deleted_topic_is_gone(plane: ControlPlane) -> None:
    create(plane, creatable("orders", partitions=2))
    assert delete(plane, "orders", "absent") == [0, 3]
    assert plane.store.topics() == []
    assert plane.store.deletions() == []
    assert plane.data_plane.directories == {}
    assert plane.published == {}


def test_topics_are_deleted_by_id(plane: ControlPlane) -> None:
    create(plane, creatable("orders"))
    topic_id = plane.topics.named("orders").topic_id.bytes
    states = [
        DeleteTopicState(name=None, topic_id=topic_id),
        DeleteTopicState(name=None, topic_id=b"\1" * 16),
        DeleteTopicState(name="orders", topic_id=topic_id),
        DeleteTopicState(name=None),
    ]
    answers = [plane.ask(DeleteTopicsRequest(topics=[state])).responses[0] for state in states]
    assert [answer.error_code for answer in answers] == [0, 100, 42, 42]
    assert answers[0].name == "orders"


def test_deletion_may_be_switched_off(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, {"delete.topic.enable": "false"})
    create(plane, creatable("orders"))
    assert delete(plane, "orders") == [73]
    assert "orders" in plane.published


def test_a_recreated_topic_has_a_new_id_and_none_of_the_old_settings(plane: ControlPlane) -> None:
    create(plane, creatable("orders", retention_ms="5"))
    before = plane.topics.named("orders").topic_id
    delete(plane, "orders")
    create(plane, creatable("orders"))
    assert plane.topics.named("orders").topic_id != before
    assert plane.configs.topic_overrides("orders") == {}


def grow(
    plane: ControlPlane, name: str, count: int, rows: list[list[int]] | None = None, **options: bool
) -> int:
    assignments = None if rows is None else [CreatePartitionsAssignment(row) for row in rows]
    topic = CreatePartitionsTopic(name=name, count=count, assignments=assignments)
    answer = plane.ask(CreatePartitionsRequest(topics=[topic], **options))
    return int(answer.results[0].error_code)


def test_partitions_are_added(plane: ControlPlane) -> None:
    create(plane, creatable("orders"))
    assert grow(plane, "orders", 3) == 0
    assert len(plane.published["orders"].partitions) == 3
    assert len(plane.data_plane.open) == 3
    assert grow(plane, "orders", 4, [[1]]) == 0
    assert grow(plane, "orders", 5, validate_only=True) == 0
    assert len(plane.store.topics()[0].partitions) == 4


@pytest.mark.parametrize(
    ("name", "count", "rows", "code"),
    [
        ("orders", 1, None, 37),
        ("orders", 0, None, 37),
        ("orders", 20_000, None, 44),
        ("orders", 1_000_000_000, None, 44),
        ("absent", 3, None, 3),
        ("orders", 3, [[1]], 39),
        ("orders", 2, [[7]], 39),
    ],
)
def test_partitions_that_cannot_be_added(
    plane: ControlPlane, name: str, count: int, rows: list[list[int]] | None, code: int
) -> None:
    create(plane, creatable("orders"))
    assert grow(plane, name, count, rows) == code
    assert len(plane.store.topics()[0].partitions) == 1


def test_topics_of_one_request_fail_alone_and_are_answered_in_its_order(plane: ControlPlane) -> None:
    create(plane, creatable("taken"))
    wanted = ["a.b", "taken", "orders", "a_b", "bad name", "clicks"]
    results = create(plane, *(creatable(name) for name in wanted))
    assert [it.name for it in results] == wanted
    assert [it.error_code for it in results] == [0, 36, 0, 17, 17, 0]
    assert sorted(plane.published) == ["a.b", "clicks", "orders", "taken"]
    plane.restart()
    assert sorted(plane.published) == ["a.b", "clicks", "orders", "taken"]
    assert len(plane.data_plane.open) == 4


def test_where_one_of_many_logs_cannot_be_made_the_others_are(plane: ControlPlane) -> None:
    made = plane.data_plane.open_topics

    def fails(topics: Sequence[TopicLogs]) -> list[KafkaError | None]:
        return [
            KafkaStorageError("no room") if topic[0] == "orders" else error
            for topic, error in zip(topics, made(topics), strict=True)
        ]

    plane.data_plane.open_topics = fails
    results = create(plane, *(creatable(name) for name in ("views", "orders", "clicks")))
    assert [it.error_code for it in results] == [0, KafkaStorageError.code, 0]
    assert sorted(plane.published) == ["clicks", "views"]
    assert sorted(topic for topic, _ in plane.data_plane.directories) == ["clicks", "views"]


def test_a_kill_before_the_logs_of_many_topics_are_made(plane: ControlPlane) -> None:
    plane.data_plane.dies_before = "open_topics"
    with pytest.raises(Crash):
        plane.topics.create_all([NewTopic(name="orders"), NewTopic(name="clicks", partition_count=3)])
    plane.restart()
    assert {name: len(it.partitions) for name, it in plane.published.items()} == {"clicks": 3, "orders": 1}
    assert len(plane.data_plane.open) == 4


def test_where_the_metadata_cannot_be_stored_none_of_many_topics_is_made(plane: ControlPlane) -> None:
    create(plane, creatable("taken"))
    plane.store.close()
    results = create(plane, *(creatable(name) for name in ("orders", "clicks")))
    assert [it.error_code for it in results] == [KafkaStorageError.code] * 2
    plane.restart()
    assert sorted(plane.published) == ["taken"]


def test_a_kill_between_the_steps_of_a_creation(plane: ControlPlane) -> None:
    plane.data_plane.dies_before = "open_topics"
    with pytest.raises(Crash):
        plane.topics.create("orders", partition_count=2)
    plane.restart()
    assert len(plane.data_plane.open) == 2
    assert set(plane.data_plane.directories.values()) == {plane.topics.named("orders").topic_id.bytes}
    assert len(plane.published["orders"].partitions) == 2


def test_a_topic_whose_logs_cannot_be_made_leaves_nothing(plane: ControlPlane) -> None:
    made = plane.data_plane.open_topics

    def fails(topics: Sequence[TopicLogs]) -> list[KafkaError | None]:
        made([(topic, topic_id, led[:1], settings) for topic, topic_id, led, settings in topics])
        return [KafkaStorageError("no room")] * len(topics)

    plane.data_plane.open_topics = fails
    (result,) = create(plane, creatable("orders", partitions=2))
    assert (result.error_code, result.error_message) == (KafkaStorageError.code, "no room")
    assert (plane.published, plane.data_plane.directories, plane.store.topics()) == ({}, {}, [])
    plane.data_plane.open_topics = made
    (result,) = create(plane, creatable("orders", partitions=2))
    assert result.error_code == 0
    assert len(plane.data_plane.open) == 2


def test_a_kill_between_the_steps_of_a_deletion(plane: ControlPlane) -> None:
    topic = plane.topics.create("orders", partition_count=2)
    plane.data_plane.dies_before = "delete_topics"
    with pytest.raises(Crash):
        plane.topics.delete(topic)
    plane.restart()
    assert plane.data_plane.directories == {}
    assert plane.published == {}
    assert plane.store.deletions() == []
    plane.topics.create("orders", partition_count=1)
    plane.restart()
    assert len(plane.data_plane.directories) == 1


def commits(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced from now on: the calls of the store that change something."""
    made: list[str] = []
    for name in ("create_topics", "delete_topics", "forget_deletions"):
        call = getattr(plane.store, name)

        def noted(*arguments: object, name: str = name, call: Callable[..., object] = call) -> object:
            made.append(name)
            return call(*arguments)

        monkeypatch.setattr(plane.store, name, noted)
    return made


def codes_of(answers: Sequence[Any]) -> list[list[int]]:
    return [
        [it.error_code for it in (*getattr(answer, "topics", ()), *getattr(answer, "responses", ()))]
        for answer in answers
    ]


def creating(*names: str, validate_only: bool = False) -> CreateTopicsRequest:
    return CreateTopicsRequest(topics=[creatable(name) for name in names], validate_only=validate_only)


def test_creations_that_come_together_share_a_sync(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commits(plane, monkeypatch)
    answers = plane.ask_together(creating("a"), creating("b", "c"), creating("bad name"), creating("d"))
    assert codes_of(answers) == [[0], [0, 0], [17], [0]]
    assert [topic.name for topic in answers[1].topics] == ["b", "c"]
    assert made == ["create_topics"]
    assert sorted(plane.published) == ["a", "b", "c", "d"]
    plane.restart()
    assert sorted(plane.published) == ["a", "b", "c", "d"]


def test_what_creations_that_come_together_both_name_is_made_once(plane: ControlPlane) -> None:
    answers = plane.ask_together(
        creating("a", "x.y"),
        creating("a", "b"),
        creating("x_y"),
        creating("new", validate_only=True),
        creating("new"),
    )
    assert codes_of(answers) == [[0, 0], [36, 0], [17], [0], [0]]
    assert sorted(plane.published) == ["a", "b", "new", "x.y"]


def test_where_creations_that_come_together_cannot_be_stored_each_is_told(plane: ControlPlane) -> None:
    plane.store.close()
    answers = plane.ask_together(creating("a"), creating("b"))
    assert codes_of(answers) == [[KafkaStorageError.code]] * 2
    plane.restart()
    assert plane.published == {}


def test_deletions_that_come_together_share_their_syncs(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(plane, *(creatable(name) for name in "abcd"))
    made = commits(plane, monkeypatch)
    by_id = DeleteTopicState(name=None, topic_id=plane.topics.named("c").topic_id.bytes)
    answers = plane.ask_together(
        DeleteTopicsRequest(topics=[DeleteTopicState(name="a"), DeleteTopicState(name="b")]),
        DeleteTopicsRequest(topics=[by_id, DeleteTopicState(name="absent")]),
    )
    assert codes_of(answers) == [[0, 0], [0, 3]]
    assert made == ["delete_topics", "forget_deletions"]
    assert sorted(plane.published) == ["d"]
    assert sorted(plane.data_plane.directories) == [("d", 0)]
    plane.restart()
    assert sorted(plane.published) == ["d"]


def test_what_deletions_that_come_together_both_name_is_gone_for_the_second(plane: ControlPlane) -> None:
    create(plane, creatable("a"), creatable("b"))
    topic_id = plane.topics.named("a").topic_id.bytes
    answers = plane.ask_together(
        DeleteTopicsRequest(topics=[DeleteTopicState(name="a")]),
        DeleteTopicsRequest(topics=[DeleteTopicState(name=None, topic_id=topic_id)]),
        DeleteTopicsRequest(topics=[DeleteTopicState(name="a"), DeleteTopicState(name="b")]),
    )
    assert codes_of(answers) == [[0], [100], [3, 0]]


def test_where_one_of_many_topics_is_not_put_away_the_next_start_does_it(plane: ControlPlane) -> None:
    create(plane, creatable("a"), creatable("b"))
    put_away = plane.data_plane.delete_topics

    def fails(topics: Sequence[tuple[str, bytes]]) -> list[int | KafkaError]:
        rest = put_away([it for it in topics if it[0] != "a"])
        return [KafkaStorageError("no room") if name == "a" else rest.pop(0) for name, _ in topics]

    plane.data_plane.delete_topics = fails
    assert delete(plane, "a", "b") == [KafkaStorageError.code, 0]
    assert [it.name for it in plane.store.deletions()] == ["a"]
    plane.data_plane.delete_topics = put_away
    plane.restart()
    assert (plane.store.deletions(), plane.data_plane.directories, plane.published) == ([], {}, {})


def test_a_kill_between_the_steps_of_a_deletion_of_many_topics(plane: ControlPlane) -> None:
    create(plane, creatable("a", partitions=2), creatable("b"), creatable("c"))
    plane.data_plane.dies_before = "delete_topics"
    with pytest.raises(Crash):
        plane.topics.delete_all([plane.topics.named("a"), plane.topics.named("b")])
    plane.restart()
    assert sorted(plane.data_plane.directories) == [("c", 0)]
    assert sorted(plane.published) == ["c"]
    assert plane.store.deletions() == []


def test_a_kill_between_the_steps_of_a_growth(plane: ControlPlane) -> None:
    plane.topics.create("orders")
    plane.data_plane.dies_before = "open_topics"
    with pytest.raises(Crash):
        plane.topics.grow("orders", 3)
    plane.restart()
    assert len(plane.data_plane.open) == 3


def test_a_log_that_does_not_open_does_not_keep_the_others_from_being_served(plane: ControlPlane) -> None:
    plane.topics.create("orders")
    plane.data_plane.fails_with = KafkaStorageError("damaged")
    plane.restart()
    assert sorted(plane.published) == ["orders"]
    assert plane.data_plane.open == {}


def test_a_fault_of_the_broker_is_answered_and_logged(plane: ControlPlane) -> None:
    plane.data_plane.fails_with = OSError("disk on fire")
    (result,) = create(plane, creatable("orders"))
    assert result.error_code == -1
    assert "its log has the reason" in (result.error_message or "")


def metadata(plane: ControlPlane, *names: str, allow: bool = True) -> None:
    topics = [MetadataRequestTopic(name=name) for name in names]
    assert plane.ask(MetadataRequest(topics=topics, allow_auto_topic_creation=allow)) is None


def test_metadata_creates_absent_topics_where_both_sides_allow_it(plane: ControlPlane) -> None:
    create(plane, creatable("orders"))
    metadata(plane, "orders", "clicks", "../x", "clicks")
    assert sorted(plane.published) == ["clicks", "orders"]
    metadata(plane, "views", allow=False)
    assert sorted(plane.published) == ["clicks", "orders"]


def test_topics_that_one_request_of_metadata_creates_share_a_sync(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commits(plane, monkeypatch)
    metadata(plane, "a", "b", "../x", "c")
    assert sorted(plane.published) == ["a", "b", "c"]
    assert made == ["create_topics"]


def test_metadata_does_not_create_topics_by_the_ten_thousands(plane: ControlPlane) -> None:
    metadata(plane, *(f"t{number}" for number in range(10_001)))
    assert plane.published == {}


def test_metadata_creates_nothing_where_the_broker_forbids_it(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, {"auto.create.topics.enable": "false"})
    metadata(plane, "clicks")
    assert plane.published == {}
