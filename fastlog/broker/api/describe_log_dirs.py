"""DescribeLogDirs (API key 35), versions 1-5.

Answers each data directory with the size of each partition in it, the replicas that are to be moved to it
(AlterReplicaLogDirs) with how far their copies are behind, and the space of its file system. Differs from Apache Kafka:
no directory is cordoned.

KIPs: 1 the API (113), 4 total and usable bytes (827), 5 cordoned directories (1066).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import KafkaError, KafkaStorageError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext
    from fastlog.broker.data_plane import Directory


def handle(
    services: Services, context: RequestContext, request: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    """Describes the data directories."""
    try:
        services.require_cluster(context, Operation.DESCRIBE)
    except KafkaError as error:
        return refuse(request, error)
    return DescribeLogDirsResponse(
        results=[_describe(it, request) for it in services.data_plane.describe_directories()]
    )


def _describe(directory: Directory, request: DescribeLogDirsRequest) -> DescribeLogDirsResult:
    path, reason, total_bytes, usable_bytes, sizes, futures = directory
    if reason:
        return DescribeLogDirsResult(log_dir=path, error_code=KafkaStorageError.code)
    return DescribeLogDirsResult(
        log_dir=path,
        topics=_topics(sizes, futures, request),
        total_bytes=total_bytes,
        usable_bytes=usable_bytes,
    )


def _topics(
    sizes: Sequence[tuple[str, int, int]],
    futures: Sequence[tuple[str, int, int, int]],
    request: DescribeLogDirsRequest,
) -> list[DescribeLogDirsTopic]:
    wanted: set[tuple[str, int]] | None = None
    if request.topics is not None:
        wanted = {(topic.topic, partition) for topic in request.topics for partition in topic.partitions}
    topics: dict[str, DescribeLogDirsTopic] = {}
    described = [(name, partition, size_bytes, 0, False) for name, partition, size_bytes in sizes]
    described += [(*future, True) for future in futures]
    for name, partition, size_bytes, offset_lag, is_future in described:
        if wanted is None or (name, partition) in wanted:
            topic = topics.setdefault(name, DescribeLogDirsTopic(name=name))
            topic.partitions.append(
                DescribeLogDirsPartition(
                    partition_index=partition,
                    partition_size=size_bytes,
                    offset_lag=offset_lag,
                    is_future_key=is_future,
                )
            )
    return list(topics.values())


def refuse(request: DescribeLogDirsRequest, error: KafkaError) -> DescribeLogDirsResponse:
    """The answer of a request that failed."""
    return DescribeLogDirsResponse(error_code=error.code)


API = ControlApi(key=ApiKey.DESCRIBE_LOG_DIRS, versions=(1, 5), lane=Lane.ASKS, handle=handle, refuse=refuse)
