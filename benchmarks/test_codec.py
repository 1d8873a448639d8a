"""The wire codec as Python sees it. Aims: JoinGroup in or out below 10 µs, Metadata of 100 topics below 100 µs."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.protocol import codec
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from fastlog.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
    JoinGroupResponseMember,
)
from fastlog.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from fastlog.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

# what a consumer of ten topics sends
JOIN = JoinGroupRequest(
    group_id="orders",
    session_timeout_ms=45_000,
    rebalance_timeout_ms=300_000,
    member_id="consumer-1-3d6a0be2-1f9f-4bb8-9a3e-0f4c1f1b7a55",
    protocol_type="consumer",
    protocols=[JoinGroupRequestProtocol(name, bytes(160)) for name in ("range", "cooperative-sticky")],
)
# what the leader of a group of ten is answered
JOINED = JoinGroupResponse(
    generation_id=3,
    protocol_type="consumer",
    protocol_name="range",
    leader="consumer-1-3d6a0be2",
    member_id="consumer-1-3d6a0be2",
    members=[JoinGroupResponseMember(f"consumer-{i}-3d6a0be2", None, bytes(160)) for i in range(10)],
)
# a batch of 64 KiB for each of ten partitions, and what comes of it
BATCH = bytes(1 << 16)
PARTITIONS = range(10)
REQUESTS = {
    "Produce": ProduceRequest(
        acks=-1,
        timeout_ms=30_000,
        topic_data=[
            TopicProduceData(name="t", partition_data=[PartitionProduceData(p, BATCH) for p in PARTITIONS])
        ],
    ),
    "Fetch": FetchRequest(
        max_wait_ms=500, topics=[FetchTopic(topic="t", partitions=[FetchPartition(p) for p in PARTITIONS])]
    ),
    "Metadata": MetadataRequest(topics=[MetadataRequestTopic(name=f"topic-{i}") for i in range(100)]),
}
RESPONSES = {
    "Produce": ProduceResponse(
        responses=[
            TopicProduceResponse(
                name="t", partition_responses=[PartitionProduceResponse(p) for p in PARTITIONS]
            )
        ]
    ),
    "Fetch": FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic="t", partitions=[PartitionData(p, records=BATCH) for p in PARTITIONS]
            )
        ]
    ),
}
# the last ones that name topics rather than number them
VERSIONS = {"Produce": 12, "Fetch": 12, "Metadata": 12}


@pytest.mark.parametrize("api", REQUESTS)
def test_request_out(benchmark: Any, api: str) -> None:
    benchmark(codec.encode_request, REQUESTS[api], VERSIONS[api])


@pytest.mark.parametrize("api", REQUESTS)
def test_request_in(benchmark: Any, api: str) -> None:
    message, version = REQUESTS[api], VERSIONS[api]
    benchmark(codec.decode_request, message.API_KEY, version, codec.encode_request(message, version))


@pytest.mark.parametrize("api", RESPONSES)
def test_response_out(benchmark: Any, api: str) -> None:
    benchmark(codec.encode_response, RESPONSES[api], VERSIONS[api])


@pytest.mark.parametrize("api", RESPONSES)
def test_response_in(benchmark: Any, api: str) -> None:
    message, version = RESPONSES[api], VERSIONS[api]
    benchmark(codec.decode_response, message.API_KEY, version, codec.encode_response(message, version))


def metadata(partitions: int) -> MetadataResponse:
    """Three brokers and 100 topics."""
    brokers = [MetadataResponseBroker(i, f"broker-{i}", 9092, None, f"broker-{i}:9192") for i in range(3)]
    topics = [
        MetadataResponseTopic(
            name=f"topic-{i}",
            topic_id=i.to_bytes(16, "big"),
            partitions=[
                MetadataResponsePartition(0, p, p % 3, 5, [0, 1, 2], [0, 1, 2], []) for p in range(partitions)
            ],
        )
        for i in range(100)
    ]
    return MetadataResponse(brokers=brokers, cluster_id="cluster", controller_id=1, topics=topics)


def test_join_group_request_out(benchmark: Any) -> None:
    benchmark(codec.encode_request, JOIN, 9)


def test_join_group_request_in(benchmark: Any) -> None:
    benchmark(codec.decode_request, ApiKey.JOIN_GROUP, 9, codec.encode_request(JOIN, 9))


def test_join_group_response_out(benchmark: Any) -> None:
    benchmark(codec.encode_response, JOINED, 9)


def test_join_group_response_in(benchmark: Any) -> None:
    benchmark(codec.decode_response, ApiKey.JOIN_GROUP, 9, codec.encode_response(JOINED, 9))


@pytest.mark.parametrize("partitions", [1, 3])
def test_metadata_response_of_100_topics_out(benchmark: Any, partitions: int) -> None:
    benchmark(codec.encode_response, metadata(partitions), 12)


@pytest.mark.parametrize("partitions", [1, 3])
def test_metadata_response_of_100_topics_in(benchmark: Any, partitions: int) -> None:
    benchmark(codec.decode_response, ApiKey.METADATA, 12, codec.encode_response(metadata(partitions), 12))
