"""Compacted topics: what clients see, the same records as Kafka's own cleaner leaves, Kafka's dump tool."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

import fastlog
from tests.integration.kafka import dump_log
from tests.integration.kafka.server import KafkaServer
from tests.integration.test_dump_log import complaints
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.clients import kcat
from tests.support.samples import COMPRESSIONS

TOPIC = "compacted"
CONFIG = {"cleanup.policy": "compact", "segment.bytes": str(1 << 20), "min.cleanable.dirty.ratio": "0.0"}
SETTINGS = {"log.cleaner.backoff.ms": "100"}
BATCHES, BATCH_RECORDS, KEYS = 150, 20, 60
# of producers, one for each codec
GENERATIONS = 6
CLEAN_SECONDS = 60.0
# key, value or None for a tombstone
Record = tuple[bytes, bytes | None]


def records() -> list[Record]:
    """Random records; one in ten is a tombstone, and one key is deleted early and for good."""
    chance = random.Random(11)
    made: list[Record] = []
    for number in range(BATCHES * BATCH_RECORDS):
        key = b"key-%d" % chance.randrange(KEYS)
        made.append(
            (
                key,
                None
                if chance.randrange(10) == 0
                else b"%d " % number + chance.randbytes(2000).hex().encode(),
            )
        )
    made[30], made[31] = (b"gone", b"value"), (b"gone", None)
    return made


def produce(bootstrap: str, sent: list[Record]) -> None:
    """Sends batches of the same records to any broker, so that segments end at the same offsets.

    Producers come and go: of each the cleaner keeps the last batch, without records if need be.
    """
    producers: list[Producer] = []
    for number in range(BATCHES):
        if number % (BATCHES // GENERATIONS) == 0:
            # all at once: each waits for its producer id
            producers = [
                Producer(
                    {
                        "bootstrap.servers": bootstrap,
                        "enable.idempotence": True,
                        "linger.ms": 1000,
                        "compression.type": codec,
                    }
                )
                for codec in COMPRESSIONS
            ]
        producer = producers[number % len(producers)]
        for key, value in sent[number * BATCH_RECORDS : (number + 1) * BATCH_RECORDS]:
            producer.produce(TOPIC, value, key, partition=0)
        assert producer.flush(20) == 0


def consume(bootstrap: str, end: int) -> dict[int, Record]:
    """All records that are there, by offset; the last one, in the active segment, always is."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, 0, OFFSET_BEGINNING)])
    found: dict[int, Record] = {}
    deadline = time.monotonic() + CLEAN_SECONDS
    while end - 1 not in found:
        assert time.monotonic() < deadline, sorted(found)[-3:]
        message = consumer.poll(1)
        if message is not None:
            assert message.error() is None, message.error()
            offset, key = message.offset(), message.key()
            assert offset is not None
            assert isinstance(key, bytes)
            value = message.value()
            found[offset] = (key, value if value is None else bytes(value))
    consumer.close()
    return found


def wait_until_clean(data_dir: Path) -> int:
    """Waits until the checkpoint says that all but the active segment is clean; where that begins."""
    deadline = time.monotonic() + CLEAN_SECONDS
    checkpoint = data_dir / "cleaner-offset-checkpoint"
    while True:
        active = max(int(log.stem) for log in (data_dir / f"{TOPIC}-0").glob("*.log"))
        lines = checkpoint.read_text().splitlines() if checkpoint.exists() else []
        if f"{TOPIC} 0 {active}" in lines and active > 0:
            return active
        assert time.monotonic() < deadline, (active, lines)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("compaction") / "data", settings=SETTINGS).start()
    create_topic(broker.bootstrap, TOPIC, config=CONFIG)
    produce(broker.bootstrap, records())
    wait_until_clean(broker.data_dir)
    yield broker
    broker.kill()


def check(found: dict[int, Record], sent: list[Record]) -> None:
    """Some of what was sent, at its own offsets, and of each key the last record."""
    assert len(found) < len(sent) / 2
    assert all(sent[offset] == record for offset, record in found.items())
    assert dict(found[offset] for offset in sorted(found)) == dict(sent)


@pytest.mark.timeout(120)
def test_clients_see_the_last_record_of_each_key(cleaned: BrokerProcess) -> None:
    sent = records()
    found = consume(cleaned.bootstrap, len(sent))
    check(found, sent)
    assert 31 in found, "a tombstone stays for delete.retention.ms"
    assert len(kcat.consume(cleaned.bootstrap, TOPIC, len(found))) == len(found)
    # gaps and batches without records do not stop our own consumer
    with fastlog.Consumer(cleaned.bootstrap) as consumer:
        consumer.assign([fastlog.TopicPartition(TOPIC, 0)])
        consumer.seek_to_beginning()
        ours: list[int] = []
        deadline = time.monotonic() + CLEAN_SECONDS
        while len(ours) < len(found) and time.monotonic() < deadline:
            ours += [record.offset for record in consumer.poll(timeout=1.0)]
    assert ours == sorted(found)


@pytest.mark.timeout(240)
def test_the_same_records_survive_as_in_kafka(cleaned: BrokerProcess, tmp_path: Path) -> None:
    sent = records()
    kafka = KafkaServer(tmp_path, SETTINGS)
    try:
        create_topic(kafka.bootstrap, TOPIC, config=CONFIG)
        produce(kafka.bootstrap, sent)
        assert wait_until_clean(kafka.data_dir) == wait_until_clean(cleaned.data_dir)
        theirs = consume(kafka.bootstrap, len(sent))
    finally:
        kafka.stop()
    assert consume(cleaned.bootstrap, len(sent)) == theirs


@pytest.mark.timeout(120)
def test_it_survives_a_kill_and_kafkas_tool_reads_it(cleaned: BrokerProcess) -> None:
    sent = records()
    before = consume(cleaned.bootstrap, len(sent))
    cleaned.kill()
    cleaned.start()
    assert consume(cleaned.bootstrap, len(sent)) == before
    assert cleaned.stop() == 0, cleaned.log()
    folder = cleaned.data_dir / f"{TOPIC}-0"
    logs = sorted(folder.glob("*.log"))
    assert complaints(dump_log(*logs)) == []
    assert "deleteHorizonMs: OptionalLong[" in dump_log(*logs)
    indexes = sorted([*folder.glob("*.index"), *folder.glob("*.timeindex")])
    assert complaints(dump_log(*indexes)) == []
    assert not [file.name for file in folder.iterdir() if file.suffix in (".cleaned", ".swap")]
    cleaned.start()
