"""DeleteRecords (API key 21), versions 0-2.

Moves the log start of each partition; -1 stands for the high watermark. Each partition succeeds or fails alone; a topic
that is only compacted refuses with POLICY_VIOLATION. Differs from Apache Kafka: nothing.

KIPs: 0 the API (107).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of
from fastlog.broker.names import is_internal
from fastlog.errors import InvalidTopicError, KafkaError, PolicyViolationError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

NO_OFFSET = -1


def handle(
    services: Services, context: RequestContext, request: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    """Moves the log start of each partition."""

    def check(name: str) -> None:
        services.require_topic(context, Operation.DELETE, name)
        if is_internal(name):
            raise InvalidTopicError(f"records of {name} are the broker's own and not to be deleted")
        services.topics.named(name)
        if "delete" not in services.configs.topic_settings(name).cleanup_policy:
            raise PolicyViolationError(f"cleanup.policy of topic {name} does not delete records")

    results = []
    for topic in request.topics:
        refused = attempt("DeleteRecords", topic.name, check, topic.name)
        partitions = [
            _result(it.partition_index, refused) if refused else _delete(services, topic.name, it)
            for it in topic.partitions
        ]
        results.append(DeleteRecordsTopicResult(name=topic.name, partitions=partitions))
    return DeleteRecordsResponse(topics=results)


def _delete(services: Services, topic: str, wanted: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
    result = _result(wanted.partition_index, None)

    def delete() -> None:
        result.low_watermark = services.data_plane.delete_records(
            topic, wanted.partition_index, wanted.offset
        )

    error = attempt("DeleteRecords", f"{topic}-{wanted.partition_index}", delete)
    return _result(wanted.partition_index, error) if error else result


def _result(partition: int, error: KafkaError | None) -> DeleteRecordsPartitionResult:
    return DeleteRecordsPartitionResult(
        partition_index=partition, low_watermark=NO_OFFSET, error_code=code_of(error)
    )


def refuse(request: DeleteRecordsRequest, error: KafkaError) -> DeleteRecordsResponse:
    """The answer in which every partition failed."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name, partitions=[_result(it.partition_index, error) for it in topic.partitions]
            )
            for topic in request.topics
        ]
    )


API = ControlApi(key=ApiKey.DELETE_RECORDS, versions=(0, 2), lane=Lane.ASKS, handle=handle, refuse=refuse)
