"""DeleteRecords (API key 21), versions 0-2.

Moves the log start of each partition; -1 stands for the high watermark. Each partition succeeds or fails alone; a topic
that is only compacted refuses with POLICY_VIOLATION. The answer waits until the live replicas have moved theirs; where
one has not in time it is REQUEST_TIMED_OUT, and the records are gone from it later. Differs from Apache Kafka: nothing.

KIPs: 0 the API (107).
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of
from fastlog.broker.later import Later
from fastlog.errors import InvalidTopicError, KafkaError, PolicyViolationError, RequestTimedOutError
from fastlog.events import EventLog
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from fastlog.state.topic_names import is_internal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext

NO_OFFSET = -1


def handle(
    services: Services, context: RequestContext, request: DeleteRecordsRequest
) -> DeleteRecordsResponse | Later:
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
    response = DeleteRecordsResponse(topics=results)
    moved = [
        Moved(topic.name, it, it.low_watermark)
        for topic in results
        for it in topic.partitions
        if not it.error_code
    ]
    if _settle(services, moved, 0) or request.timeout_ms <= 0:
        return response
    later = Later()

    def wait() -> None:
        try:
            _settle(services, moved, request.timeout_ms)
        except Exception:
            # of this request alone: each partition is answered with what is known of it
            EventLog("control").exception("a deletion of records was not waited for")
        finally:
            later.answer(response)

    # few wait at once, see DataPlane; on a lane, others would wait as long as this client likes
    Thread(target=wait, name="fastlog-deletion", daemon=True).start()
    return later


class Moved(NamedTuple):
    """A partition whose leader has moved its log start."""

    topic: str
    result: DeleteRecordsPartitionResult
    log_start_offset: int


def _settle(services: Services, moved: Sequence[Moved], timeout_ms: int) -> bool:
    """Waits for the live replicas and puts in what became of each partition; whether there is nothing to wait for."""
    outcomes = services.data_plane.wait_deleted(
        [(it.topic, it.result.partition_index, it.log_start_offset) for it in moved], timeout_ms
    )
    for it, (low_watermark, code) in zip(moved, outcomes, strict=True):
        it.result.low_watermark, it.result.error_code = low_watermark, code
    return all(code != RequestTimedOutError.code for _, code in outcomes)


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
