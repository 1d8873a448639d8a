"""Members of consumer groups, of every client library, each in a process of its own: `python -m … LIBRARY …`.

A member prints one line of JSON for what happens to it: `{"assigned": [partition, …], "generation": g}` when it is told
what to read, `{"partition": p, "offset": o, "value": v}` for each record, and commits what it has read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SESSION_MS = 3_000
# a static member that is killed has this long to come back: a new process, on a busy machine
STATIC_SESSION_MS = 60_000
CONSUMER_PROTOCOL = "confluent-consumer-protocol"
LIBRARIES = ("confluent", "aiokafka", "kafka-python")


class Member:
    """One member's process, from the outside."""

    def __init__(self, library: str, bootstrap: str, group_id: str, topic: str, *extra: str) -> None:
        command = [sys.executable, "-m", "tests.support.clients.members", library, bootstrap, group_id, topic]
        self.library = library
        self.assigned: list[int] = []
        self.assignments = 0
        self.generation = -1
        self.records: list[tuple[int, int, str]] = []
        self.owned: set[tuple[int, int]] = set()
        """Generation and partition of all that it read."""
        self.process = subprocess.Popen([*command, *extra], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # a member that is killed may leave half a line
            with contextlib.suppress(json.JSONDecodeError):
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        if "assigned" in event:
            self.assigned = sorted(event["assigned"])
            self.generation = event["generation"]
            self.assignments += 1
        else:
            self.owned.add((self.generation, event["partition"]))
            self.records.append((event["partition"], event["offset"], event["value"]))

    def leave(self) -> int:
        """Has it close its consumer and end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._end()

    def kill(self) -> None:
        """Ends it without a farewell."""
        self.process.kill()
        self._end()

    def _end(self) -> int:
        status = self.process.wait(30)
        self._thread.join(10)
        return status


def session_ms(instance_id: str | None) -> int:
    """A member's session time-out."""
    return STATIC_SESSION_MS if instance_id else SESSION_MS


def tell(event: dict[str, Any]) -> None:
    """Prints one line."""
    print(json.dumps(event), flush=True)


def tell_assigned(partitions: Iterable[Any], generation: int) -> None:
    """Prints the line of what is to be read from now on."""
    tell({"assigned": [it.partition for it in partitions], "generation": generation})


def tell_record(partition: int, offset: int, value: bytes) -> None:
    """Prints a record's line."""
    tell({"partition": partition, "offset": offset, "value": value.decode()})


#: set by SIGTERM: the test wants the member to leave
stopped = threading.Event()


def confluent(bootstrap: str, group_id: str, topic: str, instance_id: str | None) -> None:
    """librdkafka."""
    from confluent_kafka import Consumer

    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": group_id,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": session_ms(instance_id),
        "heartbeat.interval.ms": 500,
        "max.poll.interval.ms": 120_000,
        "partition.assignment.strategy": "range",
    }
    if instance_id:
        config["group.instance.id"] = instance_id
    consumer = Consumer(config)

    def assigned(_: object, partitions: Iterable[Any]) -> None:
        # the only way to it: what librdkafka hands to a transaction, a mark and then the generation
        mark, written = b"CGMDv2:", consumer.consumer_group_metadata()
        assert written.startswith(mark)
        (generation,) = struct.unpack_from(">i", written, len(mark))
        tell_assigned(partitions, generation)

    consumer.subscribe([topic], on_assign=assigned)
    try:
        while not stopped.is_set():
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                tell_record(message.partition(), message.offset(), message.value())
                with contextlib.suppress(Exception):
                    consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()


def confluent_consumer_protocol(bootstrap: str, group_id: str, topic: str, instance_id: str | None) -> None:
    """librdkafka with the consumer protocol (KIP-848): the broker decides on time-outs and on who reads what."""
    from confluent_kafka import Consumer

    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": group_id,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "max.poll.interval.ms": 120_000,
    }
    if instance_id:
        config["group.instance.id"] = instance_id
    consumer = Consumer(config)
    mine: dict[int, Any] = {}

    def changed(take: bool) -> Any:
        def tell_all(_: object, partitions: Iterable[Any]) -> None:
            for it in partitions:
                if take:
                    mine[it.partition] = it
                else:
                    mine.pop(it.partition, None)
            tell_assigned(mine.values(), -1)

        return tell_all

    consumer.subscribe([topic], on_assign=changed(True), on_revoke=changed(False), on_lost=changed(False))
    try:
        while not stopped.is_set():
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                tell_record(message.partition(), message.offset(), message.value())
                with contextlib.suppress(Exception):
                    consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()


def kafka_python(bootstrap: str, group_id: str, topic: str, instance_id: str | None) -> None:
    """kafka-python."""
    from kafka import ConsumerRebalanceListener, KafkaConsumer

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_revoked(self, revoked: object) -> None:
            pass

        def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
            tell_assigned(assigned, consumer.group_metadata().generation_id)

    from kafka.coordinator.assignors.range import RangePartitionAssignor

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group_id,
        group_instance_id=instance_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=session_ms(instance_id),
        heartbeat_interval_ms=500,
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    consumer.subscribe([topic], listener=Listener())
    try:
        while not stopped.is_set():
            for records in consumer.poll(timeout_ms=200, max_records=20).values():
                for record in records:
                    tell_record(record.partition, record.offset, record.value)
                with contextlib.suppress(Exception):
                    consumer.commit()
    finally:
        consumer.close()


def aiokafka(bootstrap: str, group_id: str, topic: str, instance_id: str | None) -> None:
    """aiokafka."""
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def __init__(self, consumer: AIOKafkaConsumer) -> None:
            self.consumer = consumer

        async def on_partitions_revoked(self, revoked: object) -> None:
            pass

        async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
            # it has no public name
            tell_assigned(assigned, self.consumer._coordinator.generation)

    async def run() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group_id,
            group_instance_id=instance_id,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=session_ms(instance_id),
            heartbeat_interval_ms=500,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        consumer.subscribe([topic], listener=Listener(consumer))
        await consumer.start()
        try:
            while not stopped.is_set():
                for records in (await consumer.getmany(timeout_ms=200, max_records=20)).values():
                    for record in records:
                        tell_record(record.partition, record.offset, record.value)
                    with contextlib.suppress(Exception):
                        await consumer.commit()
        finally:
            await consumer.stop()

    asyncio.run(run())


def main() -> None:
    """Runs a member until SIGTERM."""
    library, bootstrap, group_id, topic, *extra = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    run = {
        "confluent": confluent,
        "aiokafka": aiokafka,
        "kafka-python": kafka_python,
        CONSUMER_PROTOCOL: confluent_consumer_protocol,
    }[library]
    run(bootstrap, group_id, topic, extra[0] if extra else None)


if __name__ == "__main__":
    main()
