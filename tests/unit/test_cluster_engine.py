"""What the engine answers as one broker of a cluster, through its Python face and real requests."""

from __future__ import annotations

import select
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from fastlog.broker.housekeeping import broker_tasks, directory_tasks, scrub_task
from fastlog.config import load
from fastlog.native._builder import BatchBuilder
from fastlog.native._engine import Engine, seal_batch
from fastlog.ports import PartitionState, Topic
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ReplicaState
from fastlog.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastlog.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastlog.broker.data_plane import ReplicationPlane
    from fastlog.broker.image import ImageSink
    from fastlog.native._engine import Intake

TOPIC_ID = UUID(int=7)
SETTINGS = {"t": load().topic({})}
MOVED, FENCED, REFUSED, STORAGE = 6, 74, 31, 56
Change = tuple[str, bytes, int, int, int, int, list[int], list[int], bool]


class Node:
    """Broker 1 of three, in rack a, which prefers replicas in the rack of who asks."""

    def __init__(self, directory: Path) -> None:
        assignments = ["node.id=1", "broker.rack=a", "replica.selector.class=rack-aware"]
        self.engine = Engine(load(assignments=assignments).broker())
        self.engine.open_directories([str(directory)], "AAAAAAAAAAAAAAAAAAAAAQ")
        self.plane: ReplicationPlane = self.engine
        self.clients = self.engine.zmq_intake("ZMQ", "here.example", 9192)
        self.brokers = self.engine.zmq_intake("BROKER", "here.example", 9193, inter_broker=True)
        self.engine.set_broker_epochs({1: 10, 2: 20, 3: 30})
        self.publish()

    def publish(self) -> None:
        """Broker 2 has a listener for clients, broker 3 has none."""
        sink: ImageSink = self.engine
        sink.publish_cluster(
            cluster_id="c",
            controller_id=3,
            auto_create_topics=False,
            apis=[],
            endpoints={},
            zmq_endpoint=("here.example", 9192),
            node_id=1,
            brokers=[
                (3, None, {"BROKER": ("three.example", 9293)}),
                (2, "b", {"ZMQ": ("two.example", 9292), "BROKER": ("two.example", 9293)}),
            ],
        )

    def lead(self, leader: int, epoch: int, isr: list[int], *, held: bool = False) -> None:
        """Says who leads, and has it described."""
        change: Change = ("t", TOPIC_ID.bytes, 0, leader, epoch, epoch, [1, 2, 3], isr, held)
        assert self.plane.apply_partitions([change], SETTINGS) == [(0, "")]
        state = PartitionState(replicas=(1, 2, 3), leader=leader, leader_epoch=epoch, isr=tuple(isr))
        self.engine.publish_topics([Topic(name="t", topic_id=TOPIC_ID, partitions=(state,))], [])

    def send(self, intake: Intake, key: ApiKey, version: int, message: object) -> Any:
        """The answer, at once or when it comes."""
        frame = intake.submit(1, [encode_request_frame(message, version, 5, "test")])  # type: ignore[arg-type]
        return self.receive(intake, key, version) if frame is None else decode(key, version, frame)

    def receive(self, intake: Intake, key: ApiKey, version: int) -> Any:
        """The answer of the only request that waits."""
        readable, _, _ = select.select([intake.completions_fd()], [], [], 20)
        assert readable, "no answer came"
        ((_, frame),) = intake.drain_completions(1 << 20)
        assert frame is not None
        return decode(key, version, frame)

    def produce(self, version: int = 10, acks: int = 1) -> Any:
        """The answer of the partition, and the nodes told."""
        answer = self.send(self.clients, ApiKey.PRODUCE, version, produce(acks))
        return answer.responses[0].partition_responses[0], answer.node_endpoints

    def fetch(
        self, *, replica: int = -1, rack: str = "", offset: int = 0, epoch: int = -1, start: int = 0
    ) -> Any:
        """The answer of the partition, and the nodes told: of a consumer, or of a replica at an offset."""
        intake = self.clients if replica < 0 else self.brokers
        answer = self.send(intake, ApiKey.FETCH, 18, fetch(replica, rack, offset, epoch, start))
        return answer.responses[0].partitions[0], answer.node_endpoints


def decode(key: ApiKey, version: int, frame: bytes) -> Any:
    correlation_id, answer = decode_response_frame(key, version, frame)
    assert correlation_id == 5
    return answer


def produce(acks: int) -> ProduceRequest:
    builder = BatchBuilder(1000)
    builder.append(b"v", b"k", None, time.time_ns() // 1_000_000)
    data = PartitionProduceData(index=0, records=bytes(seal_batch(builder)))
    topic = TopicProduceData(name="t", topic_id=TOPIC_ID.bytes, partition_data=[data])
    return ProduceRequest(acks=acks, timeout_ms=20_000, topic_data=[topic])


def fetch(replica: int, rack: str, offset: int, epoch: int, start: int = 0) -> FetchRequest:
    wanted = FetchPartition(
        partition=0,
        fetch_offset=offset,
        current_leader_epoch=epoch,
        partition_max_bytes=1 << 20,
        log_start_offset=start,
    )
    return FetchRequest(
        replica_state=ReplicaState(replica_id=replica, replica_epoch=replica * 10 if replica >= 0 else -1),
        min_bytes=1,
        max_bytes=1 << 20,
        session_epoch=-1,
        rack_id=rack,
        topics=[FetchTopic(topic="t", topic_id=TOPIC_ID.bytes, partitions=[wanted])],
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.engine.shutdown()


def test_replicas_are_served_on_the_listener_for_brokers_only(node: Node) -> None:
    node.lead(1, 3, [1, 2])
    partition, _ = node.fetch(replica=2, epoch=3)
    assert partition.error_code == 0
    refused = node.send(node.clients, ApiKey.FETCH, 18, fetch(2, "", 0, 3))
    assert refused.error_code == REFUSED
    latest = ListOffsetsPartition(0, -1, -1)
    offsets = ListOffsetsRequest(replica_id=2, topics=[ListOffsetsTopic("t", [latest])])
    topic = OffsetForLeaderTopic("t", [OffsetForLeaderPartition(partition=0, leader_epoch=3)])
    epochs = OffsetForLeaderEpochRequest(replica_id=2, topics=[topic])
    for intake, code in ((node.brokers, 0), (node.clients, REFUSED)):
        answer = node.send(intake, ApiKey.LIST_OFFSETS, 7, offsets)
        assert answer.topics[0].partitions[0].error_code == code
        answer = node.send(intake, ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, epochs)
        assert answer.topics[0].partitions[0].error_code == code


def test_a_replica_is_told_the_logs_end_and_a_consumer_what_is_committed(node: Node) -> None:
    node.lead(1, 3, [1, 2])
    assert node.produce()[0].error_code == 0
    latest = ListOffsetsPartition(0, -1, -1)
    told = [
        node.send(
            intake, ApiKey.LIST_OFFSETS, 7, ListOffsetsRequest(replica, 0, [ListOffsetsTopic("t", [latest])])
        )
        for intake, replica in ((node.brokers, 2), (node.clients, -1))
    ]
    assert [it.topics[0].partitions[0].offset for it in told] == [1, 0]


def test_a_command_between_brokers_is_refused_to_clients(node: Node) -> None:
    frame = struct.pack(">hhih", 32_000, 0, 5, -1) + b"anything"
    assert node.clients.submit(1, [frame]) == struct.pack(">ihh", 5, REFUSED, 0)


def test_metadata_names_who_is_reached_by_the_listener_that_was_asked(node: Node) -> None:
    node.lead(2, 3, [2, 3])
    ask = MetadataRequest(topics=[MetadataRequestTopic(name="t")], allow_auto_topic_creation=False)
    answer = node.send(node.clients, ApiKey.METADATA, 12, ask)
    assert answer.controller_id == 3
    assert [(it.node_id, it.host, it.port, it.rack) for it in answer.brokers] == [
        (1, "here.example", 9192, "a"),
        (2, "two.example", 9292, "b"),
    ]
    (partition,) = answer.topics[0].partitions
    assert (partition.error_code, partition.leader_id, partition.offline_replicas) == (0, 2, [3])
    node.lead(-1, 4, [])
    (partition,) = node.send(node.clients, ApiKey.METADATA, 12, ask).topics[0].partitions
    assert (partition.error_code, partition.leader_id) == (5, -1)


def test_who_resigns_leads_nothing_and_waiters_are_told_the_next_leader(node: Node) -> None:
    node.lead(1, 3, [1, 2])
    assert node.clients.submit(1, [encode_request_frame(produce(-1), 10, 5, "test")]) is None
    assert node.plane.resign() == 1
    answer = node.receive(node.clients, ApiKey.PRODUCE, 10)
    partition = answer.responses[0].partition_responses[0]
    assert (partition.error_code, partition.current_leader.leader_id) == (MOVED, -1)
    assert node.plane.resign() == 0
    node.lead(2, 4, [2])
    partition, nodes = node.produce()
    assert (partition.error_code, partition.current_leader.leader_id) == (MOVED, 2)
    assert partition.current_leader.leader_epoch == 4
    assert [(it.node_id, it.host, it.port, it.rack) for it in nodes] == [(2, "two.example", 9292, "b")]
    partition, nodes = node.fetch(epoch=3)
    assert (partition.error_code, partition.current_leader.leader_id) == (FENCED, 2)
    assert [it.node_id for it in nodes] == [2]


def test_a_held_high_watermark_stands_still(node: Node) -> None:
    node.lead(1, 3, [1, 2], held=True)
    node.produce()
    node.fetch(replica=2, offset=1, epoch=3)
    assert node.fetch()[0].high_watermark == 0
    node.plane.set_isr("t", 0, 3, [1, 2], [1, 2], 4, held=True)
    assert node.fetch()[0].high_watermark == 0
    node.plane.set_isr("t", 0, 3, [1, 2], [1, 2], 5)
    assert node.fetch()[0].high_watermark == 1


def test_a_replica_is_put_away_unless_it_is_of_a_later_epoch(node: Node, tmp_path: Path) -> None:
    node.lead(1, 3, [1, 2])
    assert node.plane.delete_partitions("t", TOPIC_ID.bytes, [(0, 2), (1, 2)], is_deleted=False) == 0
    assert (tmp_path / "t-0").exists()
    assert node.plane.delete_partitions("t", TOPIC_ID.bytes, [(0, 3)], is_deleted=True) == 1
    assert not (tmp_path / "t-0").exists()
    assert node.plane.fetch_positions([("t", 0)]) == [None]


def test_deleted_records_are_gone_when_the_replicas_have_told_so(node: Node) -> None:
    node.lead(1, 3, [1, 2])
    node.produce()
    node.fetch(replica=2, offset=1, epoch=3)
    node.fetch(replica=3, offset=1, epoch=3, start=1)
    assert node.engine.delete_records("t", 0, -1) == 1
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(node.engine.wait_deleted, [("t", 0, 1)], 20_000)
        assert node.engine.wait_deleted([("t", 0, 1), ("absent", 0, 1)], 1) == [(-1, 7), (-1, 3)]
        assert not waiting.done()
        node.fetch(replica=2, offset=1, epoch=3, start=1)
        assert waiting.result(timeout=20) == [(1, 0)]


def test_a_consumer_is_sent_to_the_replica_in_its_rack(node: Node) -> None:
    node.lead(1, 3, [1, 2])
    node.produce()
    node.fetch(replica=2, offset=1, epoch=3)
    away, _ = node.fetch(rack="b")
    assert (away.error_code, away.preferred_read_replica, away.records) == (0, 2, b"")
    for rack in ("", "a", "c"):
        here, _ = node.fetch(rack=rack)
        assert here.preferred_read_replica == -1
        assert here.records


def test_what_is_doubted_is_looked_at_by_the_scrub_without_a_pass_and_by_nobody_else(
    node: Node, tmp_path: Path
) -> None:
    node.lead(1, 1, [1])
    assert node.produce()[0].error_code == 0
    path = tmp_path / "t-0" / f"{0:020d}.log"
    with path.open("r+b") as file:
        file.seek(65)
        byte = file.read(1)[0]
        file.seek(65)
        file.write(bytes([byte ^ 1]))
    assert node.engine.verify("t", TOPIC_ID.bytes, 0, 0)
    clock: Any = SimpleNamespace(now_ms=lambda: time.time_ns() // 1_000_000, write=lambda: None)
    for task in (
        *broker_tasks(node.engine),
        *directory_tasks(node.engine, 0, load().broker(), clock, clock),
    ):
        task.run()
    assert node.engine.damages_found() == 0, "retention and the others wait for this disk"
    # it steps back for good, so not on this thread
    thread = threading.Thread(target=scrub_task(node.engine, clock).run)
    thread.start()
    thread.join()
    assert node.engine.damages_found() == 1
    assert node.fetch()[0].error_code == STORAGE
