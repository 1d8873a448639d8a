"""AlterReplicaLogDirs (API key 34), versions 1-2.

Moves replicas of this broker from one data directory to another, in the background, while they are led, followed,
written to and read; DescribeLogDirs tells how far they are. To name the directory where a replica is cancels a move,
another one takes its place. Of a partition that is not here it is remembered where it is to be made, and the answer is
REPLICA_NOT_AVAILABLE, as in Kafka. What is accepted is on the disk before the answer, and a restart goes on with it.
`kafka-reassign-partitions.sh` asks when a plan has `log_dirs`. The answer has codes only: why a replica is not moved
stands in the broker's log. Differs from Apache Kafka: replicas of tiered topics are not moved (INVALID_REQUEST), a
broker moves one at a time, and where partitions are to be made survives a restart too.

KIPs: 1 the API (113).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of
from fastlog.errors import (
    KafkaError,
    LogDirNotFoundError,
    ReplicaNotAvailableError,
    UnknownTopicOrPartitionError,
)
from fastlog.events import EventLog
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fastlog.broker.context import RequestContext

    Replica = tuple[str, int]
    Wanted = tuple[str, bytes, int, Path]

#: refusals of a request that are told one by one
TOLD_MAX = 10


def handle(
    services: Services, context: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    """Asks for all moves at once; of a replica that stands twice, the last directory counts."""
    try:
        services.require_cluster(context, Operation.ALTER)
    except KafkaError as error:
        return refuse(request, error)
    wanted = _wanted(request)
    found: dict[Replica, KafkaError | None] = {}
    asked: dict[Replica, Wanted] = {}
    paths = {path for path, *_ in services.data_plane.describe_directories()}
    for replica, path in wanted.items():
        try:
            asked[replica] = _place(services, paths, replica, path)
        except KafkaError as error:
            found[replica] = error

    def ask() -> None:
        answers = services.data_plane.move_replicas(list(asked.values()))
        found.update(zip(asked, answers, strict=True))

    if asked and (failure := attempt("AlterReplicaLogDirs", f"{len(asked)} replicas", ask)):
        found |= dict.fromkeys(asked, failure)
    _tell(wanted, found)
    return _answer({replica: found[replica] for replica in wanted})


def _tell(wanted: Mapping[Replica, str], found: Mapping[Replica, KafkaError | None]) -> None:
    """Why replicas are not moved: the client cannot be told."""
    log = EventLog("moves")
    # one that is to be made elsewhere is not refused
    refused = {
        replica: error
        for replica, error in found.items()
        if error is not None and not isinstance(error, ReplicaNotAvailableError)
    }
    for (topic, partition), error in list(refused.items())[:TOLD_MAX]:
        log.warning(
            "a replica is not moved to where it is asked for",
            topic=topic,
            partition=partition,
            to=wanted[topic, partition],
            reason=message_of(error),
        )
    if (more := len(refused) - TOLD_MAX) > 0:
        log.warning("more replicas of the same request are not moved", count=more)


def _place(services: Services, paths: Collection[str], replica: Replica, path: str) -> Wanted:
    topic, partition = replica
    if path not in paths:
        raise LogDirNotFoundError(f"this broker has no log directory {path!r}, only {sorted(paths)!r}")
    if topic not in services.topics or not 0 <= partition < len(services.topics.named(topic).partitions):
        raise UnknownTopicOrPartitionError(f"there is no partition {topic}-{partition}")
    return topic, services.topics.named(topic).topic_id.bytes, partition, Path(path)


def _wanted(request: AlterReplicaLogDirsRequest) -> dict[Replica, str]:
    return {
        (topic.name, partition): it.path
        for it in request.dirs
        for topic in it.topics
        for partition in topic.partitions
    }


def _answer(found: Mapping[Replica, KafkaError | None]) -> AlterReplicaLogDirsResponse:
    topics: dict[str, AlterReplicaLogDirTopicResult] = {}
    for (name, partition), error in found.items():
        topic = topics.setdefault(name, AlterReplicaLogDirTopicResult(topic_name=name))
        topic.partitions.append(AlterReplicaLogDirPartitionResult(partition, code_of(error)))
    return AlterReplicaLogDirsResponse(results=list(topics.values()))


def refuse(request: AlterReplicaLogDirsRequest, error: KafkaError) -> AlterReplicaLogDirsResponse:
    """The answer in which every replica failed."""
    return _answer(dict.fromkeys(_wanted(request), error))


API = ControlApi(
    key=ApiKey.ALTER_REPLICA_LOG_DIRS, versions=(1, 2), lane=Lane.ASKS, handle=handle, refuse=refuse
)
