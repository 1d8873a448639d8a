"""Requests as they are, without a client in between: what fills a topic quickly, and what asks for it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fastlog.client.connection import Connection
from fastlog.errors import error_for
from fastlog.protocol.codec import encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

if TYPE_CHECKING:
    from fastlog.bench.harness.cluster import Cluster
    from fastlog.bench.harness.workload import SealedBatch

#: versions that name topics rather than number them, and that every broker since Kafka 2.7 speaks
PRODUCE_VERSION = 9
FETCH_VERSION = 12
CLIENT_ID = "fastlog-bench"
TIMEOUT_MS = 30_000
MAX_WAIT_MS = 500


def produce_request(topic: str, partition: int, batch: bytes, acks: int) -> ProduceRequest:
    """One batch for one partition."""
    data = PartitionProduceData(index=partition, records=batch)
    topic_data = [TopicProduceData(name=topic, partition_data=[data])]
    return ProduceRequest(acks=acks, timeout_ms=TIMEOUT_MS, topic_data=topic_data)


def fill(cluster: Cluster, topic: str, batch: SealedBatch, count: int, partitions: int = 1) -> None:
    """Appends `batch` `count` times, to one partition after the other; blocks. Raises what the broker answers."""
    for partition in range(partitions):
        host, port = cluster.leader_address(topic, partition)
        request = produce_request(topic, partition, batch.data, 1)
        with Connection(host, port, client_id=CLIENT_ID) as connection:
            for _ in range(partition, count, partitions):
                answer = connection.request(request, version=PRODUCE_VERSION)
                outcome = answer.responses[0].partition_responses[0]
                if outcome.error_code:
                    raise error_for(
                        outcome.error_code, f"filling {topic}-{partition}: {outcome.error_message}"
                    )


def framed(frame: bytes) -> bytes:
    """A request behind its length, as it travels on TCP."""
    return struct.pack(">i", len(frame)) + frame


def fetch_frame(topic: str, offset: int, bytes_max: int, correlation_id: int, partition: int = 0) -> bytes:
    """A fetch of one partition without a session, at most `bytes_max` of records, as it travels on TCP."""
    wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=bytes_max)
    request = FetchRequest(
        max_wait_ms=MAX_WAIT_MS,
        min_bytes=1,
        max_bytes=bytes_max,
        topics=[FetchTopic(topic=topic, partitions=[wanted])],
    )
    return framed(encode_request_frame(request, FETCH_VERSION, correlation_id, CLIENT_ID))
