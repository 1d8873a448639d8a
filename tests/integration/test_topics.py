"""Topics, settings and records through real clients, over restarts and kills."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from fastlog.broker.api import APIS
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import encode_response
from fastlog.protocol.messages import alter_configs, incremental_alter_configs
from fastlog.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from fastlog.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from fastlog.protocol.messages.api_versions import ApiVersionsRequest
from fastlog.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from fastlog.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from fastlog.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.delete_groups import DeleteGroupsRequest
from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.describe_cluster import DescribeClusterRequest
from fastlog.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from fastlog.protocol.messages.describe_groups import DescribeGroupsRequest
from fastlog.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from fastlog.protocol.messages.describe_producers import DescribeProducersRequest
from fastlog.protocol.messages.describe_producers import TopicRequest as ProducersTopic
from fastlog.protocol.messages.describe_quorum import DescribeQuorumRequest
from fastlog.protocol.messages.describe_quorum import PartitionRequest as QuorumPartition
from fastlog.protocol.messages.describe_quorum import TopicRequest as QuorumTopic
from fastlog.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest, TopicRequest
from fastlog.protocol.messages.elect_leaders import ElectLeadersRequest
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.heartbeat import HeartbeatRequest
from fastlog.protocol.messages.init_producer_id import InitProducerIdRequest
from fastlog.protocol.messages.join_group import JoinGroupRequest
from fastlog.protocol.messages.leave_group import LeaveGroupRequest
from fastlog.protocol.messages.list_config_resources import ListConfigResourcesRequest
from fastlog.protocol.messages.list_groups import ListGroupsRequest
from fastlog.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastlog.protocol.messages.offset_commit import OffsetCommitRequest
from fastlog.protocol.messages.offset_delete import OffsetDeleteRequest
from fastlog.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from fastlog.protocol.messages.sync_group import SyncGroupRequest
from tests.conftest import MakeBroker
from tests.support.broker import BrokerProcess, wait_until
from tests.support.clients import kcat
from tests.support.raw import RawTcp

SECONDS = 20.0


def admin_of(broker: BrokerProcess) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def wait_for(futures: dict[Any, Any]) -> Any:
    """The one result. The caller holds the admin client: one that is collected gives up its requests."""
    (future,) = futures.values()
    return future.result(SECONDS)


def topic_ids(broker: BrokerProcess) -> dict[str, bytes]:
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        return {topic.name: topic.topic_id for topic in raw.ask(MetadataRequest(topics=None), 12).topics}


def produce(broker: BrokerProcess, topic: str, *values: bytes, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    failed = []
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: failed.append(error))
    assert producer.flush(SECONDS) == 0
    assert set(failed) == {None}


def values_of(broker: BrokerProcess, topic: str, count: int, *, offset: int = 0) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "none", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, 0, offset)])
    values: list[bytes] = []
    deadline = time.monotonic() + SECONDS
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value())
    consumer.close()
    return values


def test_a_topic_s_life_through_confluent(broker: BrokerProcess, topic_name: str) -> None:
    admin = admin_of(broker)
    wait_for(admin.create_topics([NewTopic(topic_name, 2, 1, config={"retention.ms": "3600000"})]))
    with pytest.raises(KafkaException) as caught:
        wait_for(admin.create_topics([NewTopic(topic_name, 2, 1)]))
    assert caught.value.args[0].name() == "TOPIC_ALREADY_EXISTS"
    wait_for(admin.create_partitions([NewPartitions(topic_name, 4)]))
    wait_until(
        "four partitions",
        lambda: len(admin.list_topics(topic_name, SECONDS).topics[topic_name].partitions) == 4,
    )
    change = ConfigEntry("retention.ms", "5000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource("topic", topic_name, incremental_configs=[change])
    wait_for(admin.incremental_alter_configs([resource]))
    described = wait_for(admin.describe_configs([ConfigResource("topic", topic_name)]))
    assert described["retention.ms"].value == "5000"
    assert described["segment.bytes"].is_default
    wait_for(admin.delete_topics([topic_name]))
    assert topic_name not in admin.list_topics(timeout=SECONDS).topics


def test_kcat_lists_the_broker_and_its_topics(broker: BrokerProcess, topic_name: str) -> None:
    admin = admin_of(broker)
    wait_for(admin.create_topics([NewTopic(topic_name, 3, 1)]))
    listed = kcat.run(["-b", broker.bootstrap, "-L"])
    assert f"broker 1 at {broker.bootstrap}" in listed
    assert f'topic "{topic_name}" with 3 partitions' in listed


def test_deleted_records_stay_deleted(make_broker: MakeBroker) -> None:
    broker = make_broker()
    produce(broker, "orders", *(b"%d" % number for number in range(10)))
    admin = admin_of(broker)
    deleted = wait_for(admin.delete_records([TopicPartition("orders", 0, 4)]))
    assert deleted.low_watermark == 4
    broker.kill()
    broker.start()
    assert values_of(broker, "orders", 6, offset=4) == [b"%d" % number for number in range(4, 10)]
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        wanted = DeleteRecordsTopic("orders", [DeleteRecordsPartition(0, 0)])
        answer = raw.ask(DeleteRecordsRequest(topics=[wanted]), 2)
    assert answer.topics[0].partitions[0].low_watermark == 4


def test_topics_settings_and_records_survive_a_kill(make_broker: MakeBroker) -> None:
    broker = make_broker()
    admin = admin_of(broker)
    wait_for(admin.create_topics([NewTopic("orders", 1, 1, config={"retention.ms": "7200000"})]))
    produce(broker, "orders", b"a", b"b")
    before = topic_ids(broker)
    broker.kill()
    broker.start()
    assert topic_ids(broker) == before
    admin = admin_of(broker)
    described = wait_for(admin.describe_configs([ConfigResource("topic", "orders")]))
    assert described["retention.ms"].value == "7200000"
    assert values_of(broker, "orders", 2) == [b"a", b"b"]
    produce(broker, "orders", b"c")
    assert values_of(broker, "orders", 3) == [b"a", b"b", b"c"]


def test_a_recreated_topic_is_another_one(make_broker: MakeBroker) -> None:
    broker = make_broker()
    produce(broker, "orders", b"old", b"older")
    before = topic_ids(broker)["orders"]
    admin = admin_of(broker)
    wait_for(admin.delete_topics(["orders"]))
    wait_for(admin.create_topics([NewTopic("orders", 1, 1)]))
    assert topic_ids(broker)["orders"] != before
    produce(broker, "orders", b"new")
    assert values_of(broker, "orders", 1) == [b"new"]
    broker.kill()
    broker.start()
    assert values_of(broker, "orders", 1) == [b"new"]


def test_the_files_of_a_deleted_topic_go_after_their_delay(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"log.segment.delete.delay.ms": "100"})
    produce(broker, "orders", b"x")
    admin = admin_of(broker)
    wait_for(admin.delete_topics(["orders"]))
    wait_until("the purge", lambda: not any(broker.data_dir.glob("orders-0*")), seconds=15)


def test_strays_are_reported_and_left_alone(make_broker: MakeBroker) -> None:
    broker = make_broker()
    produce(broker, "orders", b"x")
    broker.stop()
    (broker.data_dir / "metadata.sqlite").unlink()
    broker.start()
    assert topic_ids(broker) == {}
    assert "directory of no known topic, left alone" in broker.log()
    assert (broker.data_dir / "orders-0" / "00000000000000000000.log").stat().st_size > 0
    assert broker.stop() == 0


def test_producer_ids_are_never_handed_out_twice(make_broker: MakeBroker) -> None:
    broker = make_broker()
    seen = []
    for _ in range(3):
        with RawTcp("127.0.0.1", broker.tcp_port) as raw:
            seen += [raw.ask(InitProducerIdRequest(transactional_id=None), 4).producer_id for _ in range(600)]
        broker.kill()
        broker.start()
    assert len(set(seen)) == 1800


def requests(topic: str) -> list[Any]:
    """One request of each control API; those that change topics come last."""
    entry = incremental_alter_configs.AlterableConfig("retention.ms", 0, "1000")
    replaced = alter_configs.AlterableConfig("retention.ms", "1000")
    return [
        DescribeClusterRequest(),
        DescribeTopicPartitionsRequest(topics=[TopicRequest(topic)]),
        ElectLeadersRequest(topic_partitions=None),
        AlterPartitionReassignmentsRequest(),
        ListPartitionReassignmentsRequest(),
        DescribeLogDirsRequest(topics=None),
        AlterReplicaLogDirsRequest([AlterReplicaLogDir("/", [AlterReplicaLogDirTopic(topic, [0])])]),
        DescribeProducersRequest(topics=[ProducersTopic(topic, [0])]),
        DescribeQuorumRequest(topics=[QuorumTopic("__cluster_metadata", [QuorumPartition(0)])]),
        ListConfigResourcesRequest(),
        InitProducerIdRequest(transactional_id=None),
        MetadataRequest(topics=[MetadataRequestTopic(name=topic)]),
        CreateTopicsRequest(topics=[CreatableTopic(topic, 1, 1)]),
        DescribeConfigsRequest(resources=[DescribeConfigsResource(2, topic, None)]),
        incremental_alter_configs.IncrementalAlterConfigsRequest(
            resources=[incremental_alter_configs.AlterConfigsResource(2, topic, [entry])]
        ),
        alter_configs.AlterConfigsRequest(
            resources=[alter_configs.AlterConfigsResource(2, topic, [replaced])]
        ),
        CreatePartitionsRequest(topics=[CreatePartitionsTopic(topic, 9, None)]),
        DeleteRecordsRequest(topics=[DeleteRecordsTopic(topic, [DeleteRecordsPartition(0, 0)])]),
        FindCoordinatorRequest(key="g", coordinator_keys=["g"]),
        ConsumerGroupHeartbeatRequest(group_id="g"),
        ConsumerGroupDescribeRequest(group_ids=["g"]),
        JoinGroupRequest(group_id="g"),
        SyncGroupRequest(group_id="g"),
        HeartbeatRequest(group_id="g"),
        LeaveGroupRequest(group_id="g"),
        OffsetCommitRequest(group_id="g"),
        OffsetFetchRequest(group_id="g", groups=[OffsetFetchRequestGroup("g")]),
        OffsetDeleteRequest(group_id="g"),
        DescribeGroupsRequest(["g"]),
        ListGroupsRequest(),
        DeleteGroupsRequest(["g"]),
        DeleteTopicsRequest(topics=[DeleteTopicState(name=topic)], topic_names=[topic]),
    ]


def test_every_version_of_every_control_api_is_answered(broker: BrokerProcess, topic_name: str) -> None:
    served = {int(api.key): api.versions for api in APIS}
    asked = set()
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        told = {
            row.api_key: (row.min_version, row.max_version)
            for row in raw.ask(ApiVersionsRequest("t", "1"), 3).api_keys
        }
        for request in requests(topic_name):
            key = request.API_KEY
            assert told[key] == served[key], ApiKey(key).name
            for version in range(served[key][0], served[key][1] + 1):
                response = raw.ask(request, version)
                assert encode_response(response, version)
                asked.add((key, version))
    assert asked == {
        (key, version) for key, (low, high) in served.items() for version in range(low, high + 1)
    }


def test_requests_of_one_connection_are_answered_in_order(broker: BrokerProcess, topic_name: str) -> None:
    """A request sees what the one before it did, though neither waits for the other's answer."""
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        for number in range(20):
            name = f"{topic_name}-{number}"
            raw.send(CreateTopicsRequest(topics=[CreatableTopic(name, 1, 1)]), 7)
            described = raw.send(
                MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False), 12
            )
            raw.receive_frame()
            frame = raw.receive_frame()
            assert int.from_bytes(frame[:4], "big") == described
            assert name.encode() in frame
            assert frame.count(name.encode()) == 1


@pytest.mark.parametrize("body", [b"", b"\xff" * 40, b"\x7f\xff\xff\xff", b"\0" * 3])
@pytest.mark.parametrize("key", [19, 20, 22, 32, 37, 44])
def test_a_body_that_does_not_parse_closes_its_connection_only(
    broker: BrokerProcess, key: int, body: bytes
) -> None:
    version = {19: 4, 20: 3, 22: 1, 32: 1, 37: 1, 44: 0}[key]
    header = key.to_bytes(2, "big") + version.to_bytes(2, "big") + b"\0\0\0\1\xff\xff"
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        raw.send_frame(header + body)
        with pytest.raises(EOFError):
            raw.receive_frame()
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        assert raw.ask(ApiVersionsRequest("t", "1"), 3).error_code == 0


def test_bad_topic_names_make_no_directories(broker: BrokerProcess) -> None:
    names = ["../x", "..", ".", "", "a/b", "\0", "x" * 300, "a b"]
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        for name in names:
            created = raw.ask(CreateTopicsRequest(topics=[CreatableTopic(name, 1, 1)]), 7)
            described = raw.ask(MetadataRequest(topics=[MetadataRequestTopic(name=name)]), 12)
            assert [created.topics[0].error_code, described.topics[0].error_code] == [17, 17]
    parent: Path = broker.data_dir.parent
    assert not (parent / "x").exists()
    assert not (parent / "x-0").exists()
