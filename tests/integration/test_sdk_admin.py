"""Our admin client against whole brokers: an Apache Kafka, and ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlog import Admin, Producer
from fastlog.client.versions import SPOKEN
from fastlog.errors import (
    ConfigError,
    InvalidConfigError,
    InvalidPartitionsError,
    InvalidTopicError,
    KafkaError,
    NotReachableError,
    OffsetOutOfRangeError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from fastlog.protocol.api import ApiKey
from tests.support.zookeeper_proxy import Proxy


@pytest.fixture(params=["kafka", "broker"], ids=["kafka", "ours"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).bootstrap)


@pytest.fixture
def admin(bootstrap: str) -> Iterator[Admin]:
    with Admin(bootstrap) as client:
        yield client


def eventually(wanted: Callable[[], bool]) -> None:
    """Brokers learn of a change some milliseconds after it was answered."""
    deadline = time.monotonic() + 10
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def known(admin: Admin, topic: str) -> bool:
    try:
        return all(partition.leader >= 0 for partition in admin.describe_topic(topic).partitions)
    except UnknownTopicOrPartitionError:
        return False


def test_a_description_tells_the_durability(admin: Admin, topic_name: str) -> None:
    admin.create_topic(topic_name)
    eventually(lambda: known(admin, topic_name))
    if "fastlog.durability" not in admin.describe_configs(topic=topic_name):
        assert admin.describe_topic(topic_name).durability is None, "Kafka has no such setting"
        return
    assert admin.describe_topic(topic_name).durability == "os"
    admin.alter_configs({"fastlog.durability": "fsync"}, topic=topic_name)
    assert admin.describe_topic(topic_name).durability == "fsync"


def test_a_topic_is_created_described_listed_extended_and_deleted(admin: Admin, topic_name: str) -> None:
    made = admin.create_topic(topic_name, partitions=3, configs={"retention.ms": "3600000"})
    assert (made.name, made.partition_count, made.replication_factor) == (topic_name, 3, 1)
    eventually(lambda: known(admin, topic_name))
    described = admin.describe_topic(topic_name)
    assert described.topic_id == made.topic_id
    assert [partition.partition for partition in described.partitions] == [0, 1, 2]
    assert all(
        partition.isr == partition.replicas == (partition.leader,) for partition in described.partitions
    )
    assert any(entry.name == topic_name and entry.partition_count == 3 for entry in admin.list_topics())
    admin.create_partitions(topic_name, 5)
    eventually(lambda: len(admin.describe_topic(topic_name).partitions) == 5)
    admin.delete_topic(topic_name)
    eventually(lambda: not known(admin, topic_name))


def test_a_topic_is_deleted_by_its_id_and_not_the_next_one_of_its_name(admin: Admin, topic_name: str) -> None:
    first = admin.create_topic(topic_name)
    eventually(lambda: known(admin, topic_name))
    admin.delete_topic(topic_id=first.topic_id)
    eventually(lambda: not known(admin, topic_name))
    second = admin.create_topic(topic_name)
    eventually(lambda: known(admin, topic_name))
    with pytest.raises(UnknownTopicIdError, match=first.topic_id):
        admin.delete_topic(topic_id=first.topic_id)
    assert admin.describe_topic(topic_name).topic_id == second.topic_id


def test_a_broker_that_knows_no_topic_ids_is_named_when_one_is_deleted_by_its_id(
    admin: Admin, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SPOKEN, ApiKey.DELETE_TOPICS, (1, 5))
    made = admin.create_topic(topic_name)
    eventually(lambda: known(admin, topic_name))
    with pytest.raises(UnsupportedVersionError, match="delete it by its name"):
        admin.delete_topic(topic_id=made.topic_id)
    admin.delete_topic(topic_name)
    eventually(lambda: not known(admin, topic_name))


def test_validate_only_creates_nothing(admin: Admin, topic_name: str) -> None:
    admin.create_topic(topic_name, partitions=1, validate_only=True)
    assert not known(admin, topic_name)


def test_settings_are_described_changed_and_reset(admin: Admin, topic_name: str) -> None:
    admin.create_topic(topic_name, partitions=1, configs={"retention.ms": "3600000"})
    eventually(lambda: known(admin, topic_name))

    def setting(name: str) -> tuple[str | None, str]:
        entry = admin.describe_configs(topic=topic_name, keys=[name])[name]
        return entry.value, entry.source

    assert setting("retention.ms") == ("3600000", "topic")
    admin.alter_configs({"max.message.bytes": "70000", "retention.ms": None}, topic=topic_name)
    eventually(lambda: setting("max.message.bytes") == ("70000", "topic"))
    assert setting("retention.ms") == ("604800000", "default")
    assert "cleanup.policy" in admin.describe_configs(topic=topic_name)
    assert admin.describe_configs(broker=1)


def test_settings_of_a_group(admin: Admin, topic_name: str) -> None:
    key = "consumer.heartbeat.interval.ms"

    def setting() -> tuple[str | None, str]:
        entry = admin.describe_configs(group=topic_name, keys=[key])[key]
        return entry.value, entry.source

    assert setting() == ("5000", "default")
    admin.alter_configs({key: "7000"}, group=topic_name)
    eventually(lambda: setting() == ("7000", "group"))
    with pytest.raises(InvalidConfigError, match=key):
        admin.alter_configs({key: "1"}, group=topic_name)
    admin.alter_configs({key: None}, group=topic_name)
    eventually(lambda: setting() == ("5000", "default"))


def test_offsets_are_listed_by_name_and_by_time(admin: Admin, bootstrap: str, topic_name: str) -> None:
    admin.create_topic(topic_name, partitions=1)
    now = int(time.time() * 1000)
    with Producer(bootstrap) as producer:
        for number in range(10):
            producer.send(
                topic_name, b"x", timestamp_ms=now - 10_000 + number * 1000 - (5000 if number == 9 else 0)
            )
    place = (topic_name, 0)

    def offset(spec: object) -> int:
        return admin.list_offsets({place: spec})[place].offset  # type: ignore[dict-item]

    assert [offset("earliest"), offset("latest"), offset("max-timestamp")] == [0, 10, 8]
    assert [offset(now - 10_000), offset(now - 7_500), offset(now + 60_000)] == [0, 3, -1]
    assert admin.list_offsets({place: now - 7_500})[place].timestamp_ms == now - 7_000
    assert admin.delete_records({place: 4}) == {place: 4}
    assert offset("earliest") == 4
    with pytest.raises(OffsetOutOfRangeError, match=topic_name):
        admin.delete_records({place: 99})


def test_the_cluster_is_described(admin: Admin, bootstrap: str) -> None:
    cluster = admin.describe_cluster()
    assert cluster.cluster_id
    assert [f"{broker.host}:{broker.port}" for broker in cluster.brokers] == [bootstrap]
    assert cluster.controller_id in {broker.node_id for broker in cluster.brokers}


@pytest.fixture
def unheard(bootstrap: str) -> Iterator[tuple[Admin, Proxy]]:
    """An Admin whose connection goes through a proxy; what is lost there it asks the broker itself again."""
    proxy = Proxy(bootstrap)
    with Admin(proxy.address) as client:
        client.list_topics()
        yield client, proxy
    proxy.close()


def test_a_topic_whose_creation_was_not_answered_is_created(
    unheard: tuple[Admin, Proxy], topic_name: str
) -> None:
    client, proxy = unheard
    proxy.lose_answers = True
    made = client.create_topic(topic_name, partitions=2, configs={"retention.ms": "1234"})
    assert proxy.lost_bytes
    assert (made.name, made.partition_count, made.replication_factor) == (topic_name, 2, 1)
    assert made.topic_id == client.describe_topic(topic_name).topic_id
    with pytest.raises(TopicAlreadyExistsError):
        client.create_topic(topic_name, partitions=2, configs={"retention.ms": "1234"})


@pytest.mark.parametrize("wanted", [{"partitions": 3}, {"configs": {"retention.ms": "5"}}])
def test_another_topic_that_is_there_is_not_taken_for_the_one_that_was_asked_for(
    unheard: tuple[Admin, Proxy], topic_name: str, wanted: dict[str, Any]
) -> None:
    client, proxy = unheard
    client.create_topic(topic_name, partitions=2)
    proxy.lose_answers = True
    with pytest.raises(TopicAlreadyExistsError):
        client.create_topic(topic_name, **wanted)
    assert proxy.lost_bytes


def test_a_topic_whose_deletion_was_not_answered_is_deleted(
    unheard: tuple[Admin, Proxy], topic_name: str
) -> None:
    client, proxy = unheard
    client.create_topic(topic_name)
    eventually(lambda: known(client, topic_name))
    proxy.lose_answers = True
    client.delete_topic(topic_name)
    assert proxy.lost_bytes
    with pytest.raises(UnknownTopicOrPartitionError):
        client.delete_topic(topic_name)


def test_refusals_say_what_was_tried_and_where(admin: Admin, bootstrap: str, topic_name: str) -> None:
    admin.create_topic(topic_name, partitions=2)
    eventually(lambda: known(admin, topic_name))
    calls: list[tuple[Callable[[], object], type[KafkaError]]] = [
        (lambda: admin.create_topic(topic_name), TopicAlreadyExistsError),
        (lambda: admin.create_topic("../x"), InvalidTopicError),
        (lambda: admin.create_topic(f"{topic_name}-0", partitions=0), InvalidPartitionsError),
        (lambda: admin.describe_topic("nowhere"), UnknownTopicOrPartitionError),
        (lambda: admin.delete_topic("nowhere"), UnknownTopicOrPartitionError),
        (lambda: admin.create_partitions(topic_name, 1), InvalidPartitionsError),
        (lambda: admin.alter_configs({"no.such.key": "1"}, topic=topic_name), InvalidConfigError),
        (lambda: admin.list_offsets({(topic_name, 9): "latest"}), UnknownTopicOrPartitionError),
    ]
    for call, kind in calls:
        with pytest.raises(kind) as caught:
            call()
        assert len(str(caught.value)) > len(kind.name) + 10
    with pytest.raises(
        OffsetOutOfRangeError, match=f"deleting the records before offset 99 of {topic_name}-0"
    ):
        admin.delete_records({(topic_name, 0): 99})
    with pytest.raises(OffsetOutOfRangeError, match='which `list_offsets` tells as "latest", or -1 for it'):
        admin.delete_records({(topic_name, 0): 99})
    admin.alter_configs({"cleanup.policy": "compact"}, topic=topic_name)

    def why_not() -> str:
        try:
            admin.delete_records({(topic_name, 0): -1})
        except PolicyViolationError as error:
            return str(error)
        return ""

    eventually(lambda: "cleanup.policy is not delete" in why_not())
    with (
        Admin(bootstrap, request_timeout_ms=500) as impatient,
        pytest.raises(
            UnknownTopicOrPartitionError, match=r"of nowhere-0: there is no such topic; `list_topics`"
        ),
    ):
        impatient.list_offsets({("nowhere", 0): "latest"})
    with pytest.raises(UnknownTopicOrPartitionError, match="the topic has 2 partitions, from 0 on"):
        admin.list_offsets({(topic_name, 9): "latest"})


def test_what_makes_no_sense_is_refused_here(admin: Admin) -> None:
    for call in (
        lambda: admin.list_offsets({("t", 0): "newest"}),  # type: ignore[dict-item]
        lambda: admin.list_offsets({("t", 0): -7}),
        admin.describe_configs,
        lambda: admin.alter_configs({}, topic="t", broker=1),
        lambda: Admin("nowhere"),
        admin.delete_topic,
        lambda: admin.delete_topic("t", topic_id="AAAAAAAAAAAAAAAAAAAAAQ"),
        lambda: admin.delete_topic(topic_id="orders"),
        lambda: admin.delete_topic(topic_id="A" * 22),
        lambda: admin.delete_topic(topic_id="?" * 22),
    ):
        with pytest.raises(ConfigError):
            call()


def test_an_unreachable_cluster_is_named() -> None:
    with (
        Admin("127.0.0.1:1", bootstrap_timeout_ms=300) as admin,
        pytest.raises(NotReachableError, match=r"within 300 ms: .* 127\.0\.0\.1:1 .* refused"),
    ):
        admin.list_topics()
