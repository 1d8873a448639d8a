"""DescribeLogDirs (API key 35), versions 1-5.

Answers the data directory with the size of each partition in it and the space of its file system. Differs from Apache
Kafka: a broker has one directory, so there are no future replicas, and it is never cordoned.

KIPs: 1 the API (113), 4 total and usable bytes (827), 5 cordoned directories (1066).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(
    services: Services, context: RequestContext, request: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    """Describes the data directory."""
    try:
        services.require_cluster(context, Operation.DESCRIBE)
    except KafkaError as error:
        return refuse(request, error)
    space = os.statvfs(services.data_dir)
    result = DescribeLogDirsResult(
        log_dir=str(services.data_dir.resolve()),
        topics=_topics(services, request),
        total_bytes=space.f_blocks * space.f_frsize,
        usable_bytes=space.f_bavail * space.f_frsize,
    )
    return DescribeLogDirsResponse(results=[result])


def _topics(services: Services, request: DescribeLogDirsRequest) -> list[DescribeLogDirsTopic]:
    wanted: set[tuple[str, int]] | None = None
    if request.topics is not None:
        wanted = {(topic.topic, partition) for topic in request.topics for partition in topic.partitions}
    topics: dict[str, DescribeLogDirsTopic] = {}
    for name, partition, size_bytes in services.data_plane.log_sizes():
        if wanted is None or (name, partition) in wanted:
            topic = topics.setdefault(name, DescribeLogDirsTopic(name=name))
            topic.partitions.append(
                DescribeLogDirsPartition(partition_index=partition, partition_size=size_bytes)
            )
    return list(topics.values())


def refuse(request: DescribeLogDirsRequest, error: KafkaError) -> DescribeLogDirsResponse:
    """The answer of a request that failed."""
    return DescribeLogDirsResponse(error_code=error.code)


API = ControlApi(key=ApiKey.DESCRIBE_LOG_DIRS, versions=(1, 5), lane=Lane.ASKS, handle=handle, refuse=refuse)
