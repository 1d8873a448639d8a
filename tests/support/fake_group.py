"""A scripted coordinator of one group with one member, on a FakeCluster, with errors on order."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from fastlog.protocol.messages import (
    find_coordinator,
    heartbeat,
    join_group,
    leave_group,
    offset_commit,
    offset_fetch,
    sync_group,
)
from tests.support.fake_cluster import FakeCluster

COMMIT, FETCH, FIND, JOIN, HEARTBEAT, LEAVE, SYNC = 8, 9, 10, 11, 12, 13, 14
OFFERED = {
    COMMIT: (2, 8),
    FETCH: (1, 7),
    FIND: (0, 3),
    JOIN: (0, 7),
    HEARTBEAT: (0, 4),
    LEAVE: (0, 4),
    SYNC: (0, 5),
}
NOT_COORDINATOR = 16


class FakeGroup:
    """What a coordinator says; `errors` has codes for the next requests of an API, one each."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.coordinator = 0
        self.generation = 0
        self.errors: dict[int, deque[int]] = defaultdict(deque)
        self.offsets: dict[tuple[str, int], int] = {}
        #: every commit that was taken: generation and offsets
        self.commits: list[tuple[int, dict[tuple[str, int], int]]] = []
        self.left: list[str] = []
        cluster.offered.update(OFFERED)
        cluster.more.update(
            {
                FIND: self.find,
                JOIN: self.join,
                SYNC: self.sync,
                HEARTBEAT: self.heartbeat,
                LEAVE: self.leave,
                COMMIT: self.commit,
                FETCH: self.fetch,
            }
        )

    def code(self, key: int, broker: int) -> int:
        """The error that is due."""
        if self.errors[key]:
            return self.errors[key].popleft()
        return NOT_COORDINATOR if broker != self.coordinator else 0

    def find(self, _broker: int, _request: Any) -> Any:
        code = self.errors[FIND].popleft() if self.errors[FIND] else 0
        where = self.cluster.brokers[self.coordinator]
        return find_coordinator.FindCoordinatorResponse(
            error_code=code, node_id=where.broker_id, host="127.0.0.1", port=where.port
        )

    def join(self, broker: int, request: Any) -> Any:
        code = self.code(JOIN, broker)
        if code:
            return join_group.JoinGroupResponse(error_code=code)
        if not request.member_id:
            return join_group.JoinGroupResponse(error_code=79, member_id="me")
        self.generation += 1
        protocol = request.protocols[0]
        member = join_group.JoinGroupResponseMember(member_id="me", metadata=protocol.metadata)
        return join_group.JoinGroupResponse(
            generation_id=self.generation,
            protocol_type="consumer",
            protocol_name=protocol.name,
            leader="me",
            member_id="me",
            members=[member],
        )

    def sync(self, broker: int, request: Any) -> Any:
        code = self.code(SYNC, broker)
        assignment = request.assignments[0].assignment if request.assignments and not code else b""
        return sync_group.SyncGroupResponse(error_code=code, assignment=assignment)

    def heartbeat(self, broker: int, _request: Any) -> Any:
        return heartbeat.HeartbeatResponse(error_code=self.code(HEARTBEAT, broker))

    def leave(self, broker: int, request: Any) -> Any:
        code = self.code(LEAVE, broker)
        if not code:
            self.left.append(request.members[0].member_id)
        return leave_group.LeaveGroupResponse(error_code=code)

    def commit(self, broker: int, request: Any) -> Any:
        code = self.code(COMMIT, broker)
        given = {
            (topic.name, one.partition_index): one.committed_offset
            for topic in request.topics
            for one in topic.partitions
        }
        if not code:
            self.offsets.update(given)
            self.commits.append((request.generation_id_or_member_epoch, given))
        topics = [
            offset_commit.OffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    offset_commit.OffsetCommitResponsePartition(
                        partition_index=one.partition_index, error_code=code
                    )
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return offset_commit.OffsetCommitResponse(topics=topics)

    def fetch(self, broker: int, request: Any) -> Any:
        code = self.code(FETCH, broker)
        if code and code != 88:
            return offset_fetch.OffsetFetchResponse(error_code=code)
        topics = [
            offset_fetch.OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    offset_fetch.OffsetFetchResponsePartition(
                        partition_index=number,
                        committed_offset=self.offsets.get((topic.name, number), -1),
                        error_code=code,
                    )
                    for number in topic.partition_indexes
                ],
            )
            for topic in request.topics
        ]
        return offset_fetch.OffsetFetchResponse(topics=topics)
