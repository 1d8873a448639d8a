"""A producer without threads and sockets: what is sent stays in batches until a test settles them."""

from __future__ import annotations

from typing import Any

from fastlog.client.producer.accumulator import Accumulator, TopicQueues, check_partition
from fastlog.client.producer.batch import Batch
from fastlog.client.producer.bulk import BulkDelivery
from fastlog.client.producer.partition_queue import PartitionQueue
from fastlog.client.producer.partitioner import Partitioner, murmur2, resolve_partitioner
from fastlog.native._builder import BatchBuilder
from fastlog.native._bulk import Handover, append_many
from fastlog.native._engine import seal_batch
from fastlog.native._records import Record, RecordBatch
from fastlog.native._sending import Sending

TOPIC = "t"


class StillProducer(Sending):
    """`send` and `send_many` as Producer has them, to one topic."""

    def __init__(
        self,
        partitions: int = 3,
        *,
        partitioner: str | Partitioner = "murmur2",
        opens_natively: bool = False,
        **settings: Any,
    ) -> None:
        self.partitioner = resolve_partitioner(partitioner)
        if self.partitioner is murmur2:
            self._hash_keys_natively()
        values: dict[str, Any] = {
            "batch_bytes": 1000,
            "bulk_batch_bytes": settings.get("batch_bytes", 1000),
            "buffer_bytes": 1 << 30,
            "max_request_bytes": 5000,
            "linger_ms": 5,
            "max_block_ms": 0,
        }
        self.accumulator = Accumulator(
            self.lock,
            **{**values, **settings},
            partitioner=self.partitioner,
            new_builder=BatchBuilder,
            clock_ms=lambda: 0.0,
            signal=lambda: None,
        )
        if opens_natively:
            self.opener = self.accumulator
        queues = [
            PartitionQueue(
                TOPIC, n, idempotent=False, in_flight_max=5, retriable=bool, retry_delay_ms=lambda attempt: 0
            )
            for n in range(partitions)
        ]
        self.queues = TopicQueues(TOPIC, queues, lambda current, count: (current + 1) % count)
        self.accumulator.topics[TOPIC] = self.queues
        self.topic_lanes[TOPIC] = self.queues.lanes

    def _send_slowly(
        self,
        topic: str,
        value: Any,
        key: Any,
        partition: int | None,
        headers: Any,
        timestamp_ms: int,
        more_follow: bool = False,
    ) -> Any:
        if partition is not None:
            check_partition(self.queues, partition)
        return self.accumulator.append(
            self.queues, partition, value, key, headers, timestamp_ms, more_follow=more_follow
        )

    def send_many(self, values: Any, keys: Any = None, **options: Any) -> BulkDelivery:
        """As Producer's, where nothing goes wrong on the way."""
        natively = self.partitioner is murmur2
        partition = options.get("partition")
        handover = Handover(partition is None and (keys is not None or not natively))
        arguments = {"partition": None, "headers": None, "timestamp_ms": None, **options}
        arguments["partitioner"] = None if natively else self.partitioner
        try:
            append_many(self, handover, TOPIC, values, keys, **arguments)
        except Exception as error:
            error.delivery = BulkDelivery(TOPIC, handover)  # type: ignore[attr-defined]
            raise
        return BulkDelivery(TOPIC, handover)

    def batches(self, partition: int) -> list[Batch]:
        """The batches of a partition that wait, in order."""
        return list(self.queues.queues[partition].waiting)

    def settle(self, failing: dict[tuple[int, int], Exception] | None = None) -> dict[int, list[Record]]:
        """Ends all batches, well or with the error in `failing` for (partition, number of the batch); the records of
        each partition as a log would have them then.
        """
        self.accumulator.flush()
        logs: dict[int, list[Record]] = {}
        for queue in self.queues.queues:
            log = logs[queue.partition] = []
            for number, batch in enumerate(queue.waiting):
                error = (failing or {}).get((queue.partition, number))
                if error is not None:
                    batch.fail(error)
                    continue
                batch.complete(len(log), -1)
                log += RecordBatch(seal_batch(batch.builder), TOPIC, queue.partition)
        return logs
