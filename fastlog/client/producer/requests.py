"""Produce (API key 0): batches into requests, responses into outcomes, and what happens to a batch's bytes between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fastlog.client.leader_hint import LeaderHint
from fastlog.client.metadata import BrokerAddress
from fastlog.client.producer.batch import Batch
from fastlog.errors import InvalidRecordError, KafkaError, error_for
from fastlog.native._builder import BatchBuilder
from fastlog.native._engine import open_batch, restamp_batch, seal_batch
from fastlog.native._produce import FIRST_VERSION, read_written, request_parts, seal_plain
from fastlog.native._records import RecordBatch
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastlog.client.producer.partition_queue import PartitionQueue
    from fastlog.native._engine import Buffer
    from fastlog.native._produce import Written
    from fastlog.native._sending import Lock
    from fastlog.protocol.messages.produce import PartitionProduceResponse, ProduceResponse

INVALID_RECORD = 87
#: the highest version of Produce that has topics by their names; all later ones have them by their ids
NAMES_UNTIL = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a Produce response says about one partition."""

    code: int
    base_offset: int = -1
    log_append_time_ms: int = -1
    message: str = ""
    #: what the broker says about single records, by index in the batch
    record_messages: Mapping[int, str] | None = None
    #: who leads instead, where the broker says so; its address is of the listener that was asked
    leader: LeaderHint | None = None


#: a batch in flight, and where it belongs
Entry = tuple["PartitionQueue", Batch]


@dataclass(slots=True)
class ProduceToken:
    """The batches of one request, at most one of each partition."""

    entries: list[Entry] = field(default_factory=list)
    #: the ids of its topics by their names, as they were when it was sent; empty where they went by their names
    ids: dict[str, bytes] = field(default_factory=dict)

    def seal(self, compression: int) -> list[tuple[Entry, Exception]]:
        """Seals all batches; those that cannot be, whatever it is, are left out and answered with why."""
        failed: list[tuple[Entry, Exception]] = []
        for entry in self._seal_plain() if compression == 0 else self.entries:
            try:
                seal(entry[1], compression)
            except Exception as error:
                failed.append((entry, error))
        if failed:
            bad = {id(batch) for (_, batch), _ in failed}
            self.entries = [entry for entry in self.entries if id(entry[1]) not in bad]
        return failed

    def _seal_plain(self) -> list[Entry]:
        try:
            return seal_plain(self.entries)
        except MemoryError:
            # one by one some may be; each says for itself that it could not
            return self.entries

    def request(
        self, acks: int, timeout_ms: float, version: int, ids: dict[str, bytes] | None
    ) -> tuple[ProduceRequest | SealedRequest, int]:
        """The request with all batches, which must be sealed, and its version: `version`, or a lower one.

        Topics go by the `ids` that they have now, so that records wait for a topic that is made anew, and none gets
        into one by mistake. Where that of one is not known (`ids` is None) all go by their names, as in Java's Sender.
        """
        if version > NAMES_UNTIL and ids is None:
            version = NAMES_UNTIL
        if version < FIRST_VERSION:
            return produce_request([batch for _, batch in self.entries], acks, timeout_ms), version
        self.ids = ids or {}
        return SealedRequest(self, acks, int(timeout_ms)), version

    def answers(self, response: ProduceResponse) -> dict[tuple[str, int], PartitionProduceResponse]:
        """What the response has for each topic and partition."""
        names = {topic_id: name for name, topic_id in self.ids.items()}
        return {
            (name, partition.index): partition
            for topic in response.responses
            for name in (topic.name or names.get(topic.topic_id, ""),)
            for partition in topic.partition_responses
        }


@dataclass(frozen=True, slots=True)
class SealedRequest:
    """A Produce request that is written from its batches, and whose answer is read, without an object for each."""

    API_KEY: ClassVar[int] = ApiKey.PRODUCE

    token: ProduceToken
    acks: int
    timeout_ms: int

    def encode_parts(self, version: int, correlation_id: int, client_id: str | None) -> list[Buffer]:
        """As codec.encode_request_parts."""
        token = self.token
        return request_parts(
            token.entries, token.ids, version, correlation_id, client_id, self.acks, self.timeout_ms
        )

    def read_answer(self, version: int, frame: Buffer) -> Written | None:
        """What the answer in `frame` says, where that is that all is in the log; else it is for the codec."""
        return read_written(self.token.entries, self.token.ids, version, frame)


def seal(batch: Batch, compression: int) -> None:
    """Makes the bytes that travel, under the batch's present identity. Releases the GIL while it compresses."""
    if batch.sealed is None:
        identity = producer_id, epoch, sequence = (
            batch.producer_id,
            batch.producer_epoch,
            batch.base_sequence,
        )
        batch.sealed = seal_batch(
            batch.builder,
            compression=compression,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
        )
        batch.builder = None
        batch.sealed_as = identity
    elif batch.sealed_as != batch.identity:
        # a copy: a request that was given up may still hold the old bytes
        producer_id, epoch, sequence = batch.identity
        batch.sealed = restamp_batch(
            batch.sealed, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence
        )
        batch.sealed_as = batch.identity


def halve(batch: Batch, lock: Lock, limit_bytes: int) -> list[Batch]:
    """Two batches with the records of `batch`, which a broker found too large."""
    records = list(RecordBatch(open_batch(batch.sealed), batch.topic, batch.partition))
    middle = len(records) // 2
    parts = []
    for half in (records[:middle], records[middle:]):
        builder = BatchBuilder(limit_bytes)
        for record in half:
            builder.append(record.value, record.key, record.headers, record.timestamp_ms)
        part = Batch(batch.topic, batch.partition, builder, lock, created_ms=batch.created_ms)
        part.count = len(half)
        parts.append(part)
    parts[0].reserved_bytes = batch.reserved_bytes
    batch.reserved_bytes = 0
    return parts


def produce_request(batches: Iterable[Batch], acks: int, timeout_ms: float) -> ProduceRequest:
    """One request with all `batches`, at most one of each partition."""
    topics: dict[str, TopicProduceData] = {}
    for batch in batches:
        topic = topics.get(batch.topic)
        if topic is None:
            topic = topics[batch.topic] = TopicProduceData(name=batch.topic, partition_data=[])
        topic.partition_data.append(PartitionProduceData(index=batch.partition, records=batch.sealed))
    return ProduceRequest(
        transactional_id=None, acks=acks, timeout_ms=int(timeout_ms), topic_data=list(topics.values())
    )


def outcome_of(response: ProduceResponse, topic: str, partition: PartitionProduceResponse | None) -> Outcome:
    """What a Produce response says about one partition; None where it leaves that out."""
    if partition is None:
        return Outcome(-1, message="the answer leaves this partition out")
    return Outcome(
        partition.error_code,
        partition.base_offset,
        partition.log_append_time_ms,
        partition.error_message or "",
        {error.batch_index: error.batch_index_error_message or "" for error in partition.record_errors},
        leader_of(response, topic, partition) if partition.error_code else None,
    )


def leader_of(
    response: ProduceResponse, topic: str, partition: PartitionProduceResponse
) -> LeaderHint | None:
    """The leader that a Produce response names beside a partition's error (KIP-951)."""
    leader = partition.current_leader
    if leader.leader_id < 0:
        return None
    nodes = (it for it in response.node_endpoints if it.node_id == leader.leader_id)
    node = next((BrokerAddress(it.node_id, it.host, it.port, it.rack) for it in nodes), None)
    return LeaderHint(topic, partition.index, leader.leader_id, leader.leader_epoch, node)


def batch_error(
    batch: Batch, outcome: Outcome, address: str, reason: str
) -> tuple[KafkaError, dict[int, KafkaError]]:
    """The errors for a batch that the broker at `address` refused for good: one for all records, and those of single
    ones.
    """
    what = f"{batch.count} record(s) for {batch.topic}-{batch.partition}, sent to {address} (attempt {batch.attempts})"
    said = "; ".join(text for text in (outcome.message, reason) if text)
    single = {
        index: error_for(outcome.code, f"record {index} of {what}: {text or said or 'refused'}")
        for index, text in (outcome.record_messages or {}).items()
    }
    if single and outcome.code == INVALID_RECORD:
        return InvalidRecordError(f"{what}: not written since other records of the batch were refused"), dict(
            single
        )
    return error_for(outcome.code, f"{what}: {said or 'refused'}"), dict(single)
