"""Makes tests/formats/kafka-<version>/, a data directory that a real Kafka wrote and closed. Run it by hand:

    python -m tests.formats.make_kafka_log

The partition `formats-0` has several segments (segment.ms is short), batches of an idempotent producer in all four
compressions, a transaction that was committed, one that was aborted, and the epochs of two starts of the broker.
`expected.jsonl` is what Kafka's own client reads from it.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.kafka import KAFKA_VERSION
from tests.integration.kafka.server import KafkaServer

TOPIC = "formats"
TARGET = Path(__file__).parent / f"kafka-{KAFKA_VERSION}"
SEGMENT_MS = 1000
KEPT = [
    "meta.properties",
    ".kafka_cleanshutdown",
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
]


def produce(bootstrap: str, compression: str, count: int, first: int) -> None:
    """Some records in batches of a few, so that there are index entries."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": compression,
            "batch.num.messages": 20,
            "linger.ms": 20,
        }
    )
    for number in range(first, first + count):
        value = f"{compression}-{number}-{'x' * (number % 150)}"
        producer.produce(TOPIC, value, key=f"key-{number}", partition=0, headers={"n": str(number)})
    assert producer.flush(30) == 0


def transaction(bootstrap: str, name: str, *, commit: bool) -> None:
    """One transaction of a few records."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(5):
        producer.produce(TOPIC, f"{name}-{number}", partition=0)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def read(bootstrap: str) -> list[dict[str, object]]:
    """Every record, aborted ones too, as a client of Kafka sees them."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "isolation.level": "read_uncommitted"}
    )
    partition = TopicPartition(TOPIC, 0, 0)
    _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=10)
    consumer.assign([partition])
    records: list[dict[str, object]] = []
    last = -1
    deadline = time.monotonic() + 20
    while last < end - 2 and time.monotonic() < deadline:  # the last offset is a marker's
        message = consumer.poll(1)
        if message is None:
            continue
        assert message.error() is None, message.error()
        offset, key, value = message.offset(), message.key(), message.value()
        assert offset is not None
        assert value is not None
        last = offset
        records.append(
            {
                "offset": offset,
                "timestamp_ms": message.timestamp()[1],
                "key": key.decode() if key else None,
                "value": value.decode(),
            }
        )
    consumer.close()
    return records


def start(folder: Path) -> KafkaServer:
    return KafkaServer(folder)


def stop_cleanly(server: KafkaServer) -> None:
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)


def fill(server: KafkaServer) -> list[dict[str, object]]:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    config = {"segment.ms": str(SEGMENT_MS), "index.interval.bytes": "1024"}
    topic = NewTopic(TOPIC, num_partitions=1, replication_factor=1, config=config)
    admin.create_topics([topic])[TOPIC].result(30)
    time.sleep(1)
    for number, compression in enumerate(["none", "gzip", "snappy", "lz4", "zstd"]):
        produce(server.bootstrap, compression, 120, number * 120)
        time.sleep(1.2 * SEGMENT_MS / 1000)
    transaction(server.bootstrap, "committed", commit=True)
    transaction(server.bootstrap, "aborted", commit=False)
    return read(server.bootstrap)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        records = fill(server)
        stop_cleanly(server)
        shutil.rmtree(TARGET, ignore_errors=True)
        TARGET.mkdir()
        for name in KEPT:
            shutil.copy(server.data_dir / name, TARGET / name)
        shutil.copytree(server.data_dir / f"{TOPIC}-0", TARGET / f"{TOPIC}-0")
    lines = [json.dumps(record, separators=(",", ":")) for record in records]
    (TARGET / "expected.jsonl").write_text("\n".join(lines) + "\n")
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET}: {len(records)} records, {size} bytes")


if __name__ == "__main__":
    main()
