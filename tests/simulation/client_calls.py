"""Requests to a broker's engine, of clients and of followers, and answers that come later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastlog.ports import PartitionKey
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.simulation.machine import TOPIC
from tests.simulation.network import CLIENTS
from tests.simulation.process import Process
from tests.simulation.records import Record, batch_of, records_in

PRODUCE_VERSION = 11
FETCH_VERSION = 11
LIST_OFFSETS_VERSION = 7
LATEST, EARLIEST = -1, -2
PRODUCE_TIMEOUT_MS = 2_000
#: of a consumer's fetch
READ_BYTES = 600
PRODUCER_ID = 1_000


class ClientCalls(Process):
    """The listeners of one process."""

    def __init__(self, broker_id: int, **parts: Any) -> None:
        super().__init__(broker_id, **parts)
        self._token = 0
        self._waiting: dict[int, Callable[[bytes], None]] = {}
        self._due_ms: int | None = None

    def _hand_in(self, frame: bytes, answer: Callable[[bytes], None], *, inter_broker: bool = False) -> None:
        self._token += 1
        found = self.machine.node.handle(self._token, frame, inter_broker=inter_broker)
        if found is None:
            self._waiting[self._token] = answer
        else:
            answer(found)

    def _drain(self) -> None:
        """Sends the answers that came since; the connections of a process that died in a call just end."""
        for token, answer, closed in self.machine.node.drain():
            waiting = self._waiting.pop(token, None)
            assert closed is None or self.machine.node.is_dead(), closed
            if waiting is not None and answer is not None:
                waiting(answer)

    # -- brokers ---------------------------------------------------------------------------------------------------

    def ask_frame(self, target: int, frame: bytes, answered: Callable[[bytes], None]) -> None:
        """Sends a request to another broker's engine."""

        def arrive(peer: ClientCalls) -> None:
            peer._hand_in(frame, lambda answer: peer._back(self, lambda: answered(answer)), inter_broker=True)

        self._to(target, arrive)

    # -- clients ---------------------------------------------------------------------------------------------------

    def produce(
        self,
        key: PartitionKey,
        values: Sequence[int],
        answer: Callable[[int, int], None],
        *,
        acks: int,
        is_idempotent: bool,
    ) -> None:
        """`answer` gets Kafka's error code and the first offset."""
        is_known = is_idempotent and not self._bugs.forgets_producers
        producer_id = PRODUCER_ID + key.partition if is_known else -1
        data = PartitionProduceData(index=key.partition, records=batch_of(values, producer_id))
        request = ProduceRequest(
            acks=acks,
            timeout_ms=PRODUCE_TIMEOUT_MS,
            topic_data=[TopicProduceData(name=TOPIC, partition_data=[data])],
        )

        def answered(frame: bytes) -> None:
            response: Any = decode_response_frame(ApiKey.PRODUCE, PRODUCE_VERSION, frame)[1]
            found = response.responses[0].partition_responses[0]
            answer(found.error_code, found.base_offset)

        self._hand_in(encode_request_frame(request, PRODUCE_VERSION, 1, "producer"), answered)

    def read(self, key: PartitionKey, offset: int) -> tuple[int, list[Record]]:
        """A consumer's fetch, which followers answer too (KIP-392): error code, records."""
        partition = FetchPartition(
            partition=key.partition, fetch_offset=offset, partition_max_bytes=READ_BYTES
        )
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            session_epoch=-1,
            topics=[FetchTopic(topic=TOPIC, partitions=[partition])],
        )
        found: list[bytes] = []
        self._hand_in(encode_request_frame(request, FETCH_VERSION, 1, "consumer"), found.append)
        response: Any = decode_response_frame(ApiKey.FETCH, FETCH_VERSION, found[0])[1]
        it = response.responses[0].partitions[0]
        return it.error_code, records_in(bytes(it.records or b""), offset)

    def offset_at(self, key: PartitionKey, timestamp: int, leader_epoch: int) -> tuple[int, int]:
        """ListOffsets of a consumer: error code and offset."""
        partition = ListOffsetsPartition(
            partition_index=key.partition, current_leader_epoch=leader_epoch, timestamp=timestamp
        )
        request = ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=TOPIC, partitions=[partition])]
        )
        found: list[bytes] = []
        self._hand_in(encode_request_frame(request, LIST_OFFSETS_VERSION, 1, "consumer"), found.append)
        response: Any = decode_response_frame(ApiKey.LIST_OFFSETS, LIST_OFFSETS_VERSION, found[0])[1]
        it = response.topics[0].partitions[0]
        return it.error_code, it.offset

    def reply_to_clients(self, deliver: Callable[[], None]) -> None:
        """Sends an answer to a client."""
        self._network.send(self.id, CLIENTS, deliver)
