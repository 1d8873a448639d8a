"""AlterReplicaLogDirs (API key 34), versions 1-2.

Answers for each replica of this broker whether it is in the directory named. `kafka-reassign-partitions.sh` asks when a
plan has `log_dirs`, as the plan to go back that it prints has. Differs from Apache Kafka: nothing is moved. To be there
already succeeds, as in Kafka; any other directory is LOG_DIR_NOT_FOUND.

KIPs: 1 the API (113).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of
from fastlog.errors import (
    KafkaError,
    LogDirNotFoundError,
    ReplicaNotAvailableError,
    UnknownTopicOrPartitionError,
)
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
    """Judges each replica; of one that stands twice, the last directory counts."""
    try:
        services.require_cluster(context, Operation.ALTER)
    except KafkaError as error:
        return refuse(request, error)
    directories = services.data_plane.describe_directories()
    paths = {path for path, *_ in directories}
    here = {(topic, partition): path for path, *_, sizes in directories for topic, partition, _ in sizes}

    def check(path: str, topic: str, partition: int) -> None:
        if path not in paths:
            raise LogDirNotFoundError(f"this broker has no log directory {path!r}, only {sorted(paths)!r}")
        at = here.get((topic, partition))
        if at == path:
            return
        if at is not None:
            raise LogDirNotFoundError(f"{topic}-{partition} is in {at!r}, and replicas are not moved")
        if topic not in services.topics or not 0 <= partition < len(services.topics.named(topic).partitions):
            raise UnknownTopicOrPartitionError(f"there is no partition {topic}-{partition}")
        raise ReplicaNotAvailableError(f"no replica of {topic}-{partition} is here")

    return _answer(
        request,
        lambda path, topic, partition: attempt(
            "AlterReplicaLogDirs", f"{topic}-{partition}", check, path, topic, partition
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
