"""Transactions that a topic takes while it is restored, and what consumers are to see of them.

The broker coordinates no transactions: they come, as those of a Kafka do, with a topic that is restored from a backup.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import confluent_kafka

import fastlog
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.batches import seal, with_fields
from tests.support.raw import RawTcp

TRANSACTIONAL, CONTROL = 1 << 4, 1 << 5
ABORT, COMMIT = 0, 1
RESTORED_EPOCH = -2
#: those of restored records; a cluster counts from 0
FIRST_ID = 1 << 62
#: retention takes what is old
NOW_MS = int(time.time() * 1000)
PAYLOAD = b"." * 20_000
ROUNDS, RECORDS = 60, 3
PRODUCE_VERSION = 9


@dataclass
class Log:
    """Batches with offsets, and what a consumer is to see of them."""

    batches: list[bytes] = field(default_factory=list)
    end: int = 0
    values: list[tuple[int | None, int, bytes]] = field(default_factory=list)
    """Producer, offset and value."""
    _sequences: dict[int, int] = field(default_factory=dict)
    _open: dict[int, list[bytes]] = field(default_factory=dict)
    aborted: set[bytes] = field(default_factory=set)
    last_marker: int = -1
    """Its offset."""

    def _append(self, batch: bytes, count: int, **fields: int) -> None:
        fields |= {"base_offset": self.end, "partition_leader_epoch": RESTORED_EPOCH}
        self.batches.append(with_fields(batch, **fields))
        self.end += count

    def records(self, name: bytes, producer: int | None = None) -> None:
        """A batch of records; with a producer it is of that one's transaction."""
        values = [b"%s-%d " % (name, number) + PAYLOAD for number in range(RECORDS)]
        for number, value in enumerate(values):
            self.values.append((producer, self.end + number, value))
        fields = {}
        if producer is not None:
            first = self._sequences.get(producer, 0)
            self._sequences[producer] = first + RECORDS
            self._open.setdefault(producer, []).extend(values)
            fields = {
                "attributes": TRANSACTIONAL,
                "producer_id": FIRST_ID + producer,
                "producer_epoch": 0,
                "base_sequence": first,
            }
        self._append(seal([(NOW_MS, None, value, ()) for value in values]), RECORDS, **fields)

    def ends(self, producer: int, how: int) -> None:
        """The marker of a transaction's end."""
        values = self._open.pop(producer)
        if how == ABORT:
            self.aborted.update(values)
        self.last_marker = self.end
        key, value = bytes([0, 0, 0, how]), bytes(6)
        self._append(
            seal([(NOW_MS, key, value, ())]),
            1,
            attributes=TRANSACTIONAL | CONTROL,
            producer_id=FIRST_ID + producer,
            producer_epoch=0,
            base_sequence=-1,
        )

    def committed(self) -> list[tuple[int, bytes]]:
        return [(offset, value) for _, offset, value in self.values if value not in self.aborted]


def transactions(*, turned_round: bool = False) -> Log:
    """Two producers that end in turn, one whose aborted transaction spans segments, and records of nobody's between.

    Turned round, what was committed is aborted and the other way round.
    """
    committed, aborted = (ABORT, COMMIT) if turned_round else (COMMIT, ABORT)
    log = Log()
    log.records(b"long", 9)
    for number in range(ROUNDS):
        log.records(b"first %d" % number, 1)
        log.records(b"second %d" % number, 2)
        log.records(b"plain %d" % number)
        if number % 7 == 0:
            log.records(b"long %d" % number, 9)
        log.ends(1, aborted if number % 2 else committed)
        log.ends(2, aborted if number % 3 == 0 else committed)
    log.ends(9, aborted)
    # what fills the segment behind the last marker
    for number in range(ROUNDS):
        log.records(b"filling %d" % number)
    return log


def write(port: int, topic: str, log: Log) -> None:
    """Sends the batches to the leader at a port of this machine; the topic must be `fastlog.restoring`."""
    with RawTcp("127.0.0.1", port) as connection:
        for batch in log.batches:
            data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=batch)])
            request = ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[data])
            (outcome,) = connection.ask(request, PRODUCE_VERSION).responses[0].partition_responses
            assert outcome.error_code == 0, outcome


def read(bootstrap: str, topic: str, isolation: str) -> list[tuple[int, bytes]]:
    """What librdkafka reads, by offset."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "auto.offset.reset": "error",
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    found: list[tuple[int, bytes]] = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None, f"nothing came after {len(found)} records"
            error = message.error()
            if error is None:
                found.append((message.offset() or 0, message.value() or b""))
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                return found
            else:
                assert error.code() != confluent_kafka.KafkaError._AUTO_OFFSET_RESET, error
    finally:
        consumer.close()


def check(bootstrap: str, topic: str, log: Log) -> None:
    """Both kinds of readers see what they should, and our own consumer sees it too."""
    assert read(bootstrap, topic, "read_committed") == log.committed()
    assert read(bootstrap, topic, "read_uncommitted") == [(offset, value) for _, offset, value in log.values]
    with fastlog.Consumer(
        bootstrap, topics=topic, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        seen: list[tuple[int, bytes | None]] = []
        while len(seen) < len(log.committed()):
            records = consumer.poll(timeout=30)
            assert records, f"nothing came after {len(seen)} records"
            seen += [(it.offset, it.value) for it in records]
    assert seen == log.committed()
