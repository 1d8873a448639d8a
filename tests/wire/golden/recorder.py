"""A broker that answers just enough for clients to go on, and keeps the first request of each API and version.

It was used once, by record.py, to make the files here; the tests only read them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from fastlog.protocol import codec
from fastlog.protocol.api import VERSIONS, ApiKey
from fastlog.protocol.messages import add_partitions_to_txn as ap
from fastlog.protocol.messages import api_versions as av
from fastlog.protocol.messages import create_topics as ct
from fastlog.protocol.messages import describe_groups as dg
from fastlog.protocol.messages import fetch as ft
from fastlog.protocol.messages import find_coordinator as fc
from fastlog.protocol.messages import init_producer_id as ip
from fastlog.protocol.messages import join_group as jg
from fastlog.protocol.messages import list_offsets as lo
from fastlog.protocol.messages import metadata as md
from fastlog.protocol.messages import offset_commit as oc
from fastlog.protocol.messages import offset_fetch as of
from fastlog.protocol.messages import produce as pr
from fastlog.protocol.messages import sync_group as sg
from tests.wire.kio_mirror import our_class

HOST, TOPIC = "127.0.0.1", "golden"
TOPIC_ID = bytes(range(16))


class Recorder:
    """Listens on a free port; `frames` holds (API key, version) → the request without its length."""

    def __init__(self, versions: dict[ApiKey, tuple[int, int]] | None = None) -> None:
        self.versions = versions or {key: VERSIONS[key] for key in ApiKey}
        self.frames: dict[tuple[int, int], bytes] = {}
        self.port = 0
        self.answers: dict[int, Callable[[Any], Any]] = {
            ApiKey.API_VERSIONS: self.api_versions,
            ApiKey.METADATA: self.metadata,
            ApiKey.PRODUCE: produce,
            ApiKey.FETCH: lambda _: ft.FetchResponse(),
            ApiKey.LIST_OFFSETS: list_offsets,
            ApiKey.FIND_COORDINATOR: self.find_coordinator,
            ApiKey.JOIN_GROUP: join_group,
            ApiKey.SYNC_GROUP: sync_group,
            ApiKey.OFFSET_FETCH: offset_fetch,
            ApiKey.OFFSET_COMMIT: offset_commit,
            ApiKey.INIT_PRODUCER_ID: lambda _: ip.InitProducerIdResponse(producer_id=7),
            ApiKey.CREATE_TOPICS: create_topics,
            ApiKey.DESCRIBE_GROUPS: describe_groups,
            ApiKey.ADD_PARTITIONS_TO_TXN: add_partitions,
        }

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self.serve, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                answer = self.answer(frame)
                if answer is not None:
                    writer.write(len(answer).to_bytes(4, "big") + answer)
        writer.close()

    def answer(self, frame: bytes) -> bytes | None:
        key, version, correlation_id, _, start = codec.decode_request_header(frame)
        low, high = VERSIONS[key]
        self.frames.setdefault((key, version), frame)
        if not low <= version <= high:
            refused = av.ApiVersionsResponse(error_code=35)
            return codec.encode_response_frame(ApiKey.API_VERSIONS, 0, correlation_id, refused)
        request = codec.decode_request(key, version, frame, start)
        if key == ApiKey.PRODUCE and request.acks == 0:
            return None
        make = self.answers.get(key, lambda _: our_class(ApiKey(key), "response")())
        return codec.encode_response_frame(key, version, correlation_id, make(request))

    def api_versions(self, _: Any) -> Any:
        rows = [
            av.ApiVersion(key, 0 if key == ApiKey.PRODUCE else low, high)
            for key, (low, high) in self.versions.items()
        ]
        return av.ApiVersionsResponse(api_keys=rows)

    def metadata(self, _: Any) -> Any:
        partition = md.MetadataResponsePartition(0, 0, 1, 0, [1], [1], [])
        topic = md.MetadataResponseTopic(0, TOPIC, TOPIC_ID, False, [partition])
        broker = md.MetadataResponseBroker(1, HOST, self.port)
        return md.MetadataResponse(brokers=[broker], cluster_id="golden", controller_id=1, topics=[topic])

    def find_coordinator(self, request: Any) -> Any:
        keys = request.coordinator_keys or [request.key]
        return fc.FindCoordinatorResponse(
            node_id=1,
            host=HOST,
            port=self.port,
            coordinators=[fc.Coordinator(key, 1, HOST, self.port) for key in keys],
        )


def produce(request: Any) -> Any:
    topics = [
        pr.TopicProduceResponse(
            t.name, t.topic_id, [pr.PartitionProduceResponse(p.index) for p in t.partition_data]
        )
        for t in request.topic_data
    ]
    return pr.ProduceResponse(responses=topics)


def list_offsets(request: Any) -> Any:
    topics = [
        lo.ListOffsetsTopicResponse(
            t.name,
            [
                lo.ListOffsetsPartitionResponse(partition_index=p.partition_index, offset=0, leader_epoch=0)
                for p in t.partitions
            ],
        )
        for t in request.topics
    ]
    return lo.ListOffsetsResponse(topics=topics)


def join_group(request: Any) -> Any:
    if not request.member_id:
        return jg.JoinGroupResponse(error_code=79, member_id="member-1", protocol_name="")
    first = request.protocols[0]
    return jg.JoinGroupResponse(
        generation_id=1,
        protocol_type=request.protocol_type,
        protocol_name=first.name,
        leader=request.member_id,
        member_id=request.member_id,
        members=[jg.JoinGroupResponseMember(request.member_id, None, first.metadata)],
    )


def sync_group(request: Any) -> Any:
    assignment = request.assignments[0].assignment if request.assignments else b""
    return sg.SyncGroupResponse(
        protocol_type=request.protocol_type, protocol_name=request.protocol_name, assignment=assignment
    )


def offset_fetch(request: Any) -> Any:
    def topics(asked: Any, topic: type, partition: type) -> list[Any]:
        return [
            topic(
                name=t.name,
                partitions=[partition(partition_index=p, committed_offset=-1) for p in t.partition_indexes],
            )
            for t in asked or []
        ]

    groups = []
    for group in request.groups:
        found = topics(group.topics, of.OffsetFetchResponseTopics, of.OffsetFetchResponsePartitions)
        for answered, asked in zip(found, group.topics or [], strict=True):
            answered.topic_id = asked.topic_id
        groups.append(of.OffsetFetchResponseGroup(group_id=group.group_id, topics=found))
    return of.OffsetFetchResponse(
        topics=topics(request.topics, of.OffsetFetchResponseTopic, of.OffsetFetchResponsePartition),
        groups=groups,
    )


def offset_commit(request: Any) -> Any:
    topics = [
        oc.OffsetCommitResponseTopic(
            name=t.name,
            topic_id=t.topic_id,
            partitions=[oc.OffsetCommitResponsePartition(p.partition_index) for p in t.partitions],
        )
        for t in request.topics
    ]
    return oc.OffsetCommitResponse(topics=topics)


def create_topics(request: Any) -> Any:
    topics = [
        ct.CreatableTopicResult(t.name, TOPIC_ID, num_partitions=1, replication_factor=1)
        for t in request.topics
    ]
    return ct.CreateTopicsResponse(topics=topics)


def describe_groups(request: Any) -> Any:
    return dg.DescribeGroupsResponse(groups=[dg.DescribedGroup(group_id=group) for group in request.groups])


def add_partitions(request: Any) -> Any:
    topics = [
        ap.AddPartitionsToTxnTopicResult(
            t.name, [ap.AddPartitionsToTxnPartitionResult(p) for p in t.partitions]
        )
        for t in request.v3_and_below_topics
    ]
    return ap.AddPartitionsToTxnResponse(results_by_topic_v3_and_below=topics)
