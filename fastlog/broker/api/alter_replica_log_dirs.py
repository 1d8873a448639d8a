"""AlterReplicaLogDirs (API key 34), versions 1-2.

Moves replicas of this broker from one data directory to another, in the background, while they are led, followed,
written to and read; DescribeLogDirs tells how far they are. To name the directory where a replica is cancels a move,
another one takes its place. Of a partition that is not here it is remembered where it is to be made, and the answer is
REPLICA_NOT_AVAILABLE, as in Kafka. `kafka-reassign-partitions.sh` asks when a plan has `log_dirs`. Differs from Apache
Kafka: replicas of tiered topics are not moved (INVALID_REQUEST), and a broker moves one at a time.

KIPs: 1 the API (113).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of
from fastlog.errors import KafkaError, LogDirNotFoundError, UnknownTopicOrPartitionError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.context import RequestContext


def handle(
    services: Services, context: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    """Asks for each move; of a replica that stands twice, the last directory counts."""
    try:
        services.require_cluster(context, Operation.ALTER)
    except KafkaError as error:
        return refuse(request, error)

    paths = {path for path, *_ in services.data_plane.describe_directories()}

    def move(path: str, topic: str, partition: int) -> None:
        if path not in paths:
            raise LogDirNotFoundError(f"this broker has no log directory {path!r}, only {sorted(paths)!r}")
        if topic not in services.topics or not 0 <= partition < len(services.topics.named(topic).partitions):
            raise UnknownTopicOrPartitionError(f"there is no partition {topic}-{partition}")
        services.data_plane.move_replica(topic, partition, Path(path))

    return _answer(
        request,
        lambda path, topic, partition: attempt(
            "AlterReplicaLogDirs", f"{topic}-{partition}", move, path, topic, partition
        ),
    )


def _answer(
    request: AlterReplicaLogDirsRequest, judge: Callable[[str, str, int], KafkaError | None]
) -> AlterReplicaLogDirsResponse:
    wanted = {
        (topic.name, partition): it.path
        for it in request.dirs
        for topic in it.topics
        for partition in topic.partitions
    }
    topics: dict[str, AlterReplicaLogDirTopicResult] = {}
    for (name, partition), path in wanted.items():
        topic = topics.setdefault(name, AlterReplicaLogDirTopicResult(topic_name=name))
        code = code_of(judge(path, name, partition))
        topic.partitions.append(AlterReplicaLogDirPartitionResult(partition, code))
    return AlterReplicaLogDirsResponse(results=list(topics.values()))


def refuse(request: AlterReplicaLogDirsRequest, error: KafkaError) -> AlterReplicaLogDirsResponse:
    """The answer in which every replica failed."""
    return _answer(request, lambda *_: error)


API = ControlApi(
    key=ApiKey.ALTER_REPLICA_LOG_DIRS, versions=(1, 2), lane=Lane.ASKS, handle=handle, refuse=refuse
)
