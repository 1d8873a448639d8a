"""Records what other people's clients send, one file for each client beside this one.

    python -m tests.wire.golden.record [CLIENT …]

needs confluent-kafka, aiokafka and kafka-python (the `peers` extra), kcat, and for `java` a JDK with
KAFKA_CLASSPATH naming kafka-clients and slf4j-api. A line is: API, version, the request with its header in hex.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from fastlog.protocol.api import ApiKey
from tests.wire.golden.recorder import TOPIC, Recorder

HERE = Path(__file__).parent
SECONDS = 6


def confluent(address: str) -> None:
    import confluent_kafka as ck
    from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

    def consume(**config: str) -> None:
        consumer = ck.Consumer(
            {"bootstrap.servers": address, "group.id": "g", "auto.offset.reset": "earliest"} | config
        )
        consumer.subscribe([TOPIC])
        for _ in range(10):
            consumer.poll(0.2)
        with contextlib.suppress(ck.KafkaException):
            consumer.commit(offsets=[ck.TopicPartition(TOPIC, 0, 0, "metadata")], asynchronous=False)
        consumer.close()

    producer = ck.Producer({"bootstrap.servers": address, "enable.idempotence": True, "client.id": "golden"})
    producer.produce(TOPIC, key=b"k", value=b"v", headers=[("h", b"1")])
    producer.flush(2)
    consume()
    consume(**{"group.instance.id": "static", "client.rack": "r1"})
    txn = ck.Producer({"bootstrap.servers": address, "transactional.id": "t"})
    with contextlib.suppress(ck.KafkaException):
        txn.init_transactions(3)
        txn.begin_transaction()
        txn.produce(TOPIC, b"v")
        txn.commit_transaction(3)
    admin = AdminClient({"bootstrap.servers": address})
    resource = ck.admin.ConfigResource(ck.admin.ConfigResource.Type.TOPIC, TOPIC)
    asked = [
        admin.create_topics([NewTopic("new", 3, 1, config={"cleanup.policy": "compact"})]),
        admin.create_partitions([NewPartitions(TOPIC, 5)]),
        admin.describe_configs([resource]),
        admin.delete_records([ck.TopicPartition(TOPIC, 0, 5)]),
        admin.delete_topics(["new"]),
    ]
    admin.list_consumer_groups().result(SECONDS)
    for futures in asked:
        for future in futures.values():
            with contextlib.suppress(ck.KafkaException, TimeoutError):
                future.result(SECONDS)


def aiokafka(address: str) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True, client_id="golden")
        await producer.start()
        await producer.send_and_wait(TOPIC, b"v", key=b"k", headers=[("h", b"1")])
        await producer.stop()
        consumer = AIOKafkaConsumer(
            TOPIC, bootstrap_servers=address, group_id="g", auto_offset_reset="earliest"
        )
        await consumer.start()
        await consumer.getmany(timeout_ms=1000)
        await consumer.commit()
        await consumer.stop()
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic("new", 3, 1, topic_configs={"cleanup.policy": "compact"})])
        await admin.list_consumer_groups()
        await admin.delete_topics(["new"])
        await admin.close()

    asyncio.run(run())


def kafka_python(address: str) -> None:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

    producer = KafkaProducer(bootstrap_servers=address, client_id="golden")
    producer.send(TOPIC, b"v", key=b"k", headers=[("h", b"1")]).get(SECONDS)
    producer.close(2)
    consumer = KafkaConsumer(TOPIC, bootstrap_servers=address, group_id="g", auto_offset_reset="earliest")
    consumer.poll(1000)
    consumer.commit()
    consumer.close()
    admin = KafkaAdminClient(bootstrap_servers=address)
    for ask in (admin.list_topics, admin.describe_cluster, admin.list_groups):
        with contextlib.suppress(Exception):
            ask()
    admin.close()


def kcat(address: str) -> None:
    def run(*arguments: str, text: str = "") -> None:
        command = ["kcat", "-b", address, *arguments]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, input=text, text=True, timeout=SECONDS, check=False, capture_output=True)

    run("-L")
    run("-P", "-t", TOPIC, "-p", "0", "-H", "h=1", text="value\n")
    run("-C", "-t", TOPIC, "-p", "0", "-o", "beginning", "-e", "-c", "1")
    run("-Q", "-t", f"{TOPIC}:0:-1")


def java(address: str) -> None:
    classpath = os.environ["KAFKA_CLASSPATH"]
    command = ["java", "-cp", classpath, str(HERE / "Clients.java"), address, TOPIC]
    subprocess.run(command, timeout=120, check=True)


CLIENTS: dict[str, Callable[[str], None]] = {
    "confluent-kafka": confluent,
    "aiokafka": aiokafka,
    "kafka-python": kafka_python,
    "kcat": kcat,
    "java": java,
}


def record(name: str) -> None:
    """Runs one client against a recorder and writes its file."""
    recorder, loop = Recorder(), asyncio.new_event_loop()
    loop.run_until_complete(recorder.start())
    threading.Thread(target=loop.run_forever, daemon=True).start()
    CLIENTS[name](f"127.0.0.1:{recorder.port}")
    rows = sorted(recorder.frames.items())
    lines = [f"{ApiKey(key).name} {version} {frame.hex()}\n" for (key, version), frame in rows]
    (HERE / f"{name}.txt").write_text("".join(lines))
    print(name, [(ApiKey(key).name, version) for (key, version), _ in rows])


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CLIENTS:
        record(chosen)
