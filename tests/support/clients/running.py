"""Other people's clients that write and read on and on, while a test moves what they talk to.

Each writes ascending numbers to a topic, about a hundred a second, and reads them at the same time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.integration.kafka import java

PACE_SECONDS = 0.01
#: as long as a producer may try, and more
END_SECONDS = 90.0

Place = tuple[int, int]
"""Partition and offset."""


class Running(ABC):
    """A producer and a consumer, from `start` to `finish`."""

    name: ClassVar[str]

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.partitions = partitions
        self.acknowledged: set[int] = set()
        self.consumed: dict[Place, int] = {}
        self.failures: list[object] = []
        self.is_over = threading.Event()
        """No more is to be written."""
        self.is_read = threading.Event()
        """No more is to be read."""
        self._threads: dict[Callable[[], None], threading.Thread] = {}

    def start(self) -> None:
        """Starts both."""
        for work in (self.write, self.read):
            self._threads[work] = threading.Thread(target=self._noted, args=(work,), daemon=True)
            self._threads[work].start()

    def finish(self) -> None:
        """Ends the producer, when all is acknowledged, and then the consumer, when it has that."""
        self.is_over.set()
        self._threads[self.write].join(END_SECONDS)
        deadline = time.monotonic() + END_SECONDS
        while not self.acknowledged <= set(self.consumed.values()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.is_read.set()
        for thread in self._threads.values():
            thread.join(END_SECONDS)
            assert not thread.is_alive(), f"{self.name} did not end"

    def _noted(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)

    @abstractmethod
    def write(self) -> None:
        """Writes until `is_over`, and returns when all is acknowledged."""

    @abstractmethod
    def read(self) -> None:
        """Reads from the beginning, until `is_read`."""


class KafkaPython(Running):
    """kafka-python."""

    name = "kafka-python"

    def write(self) -> None:
        """See Running."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True)
        number = 0
        while not self.is_over.wait(PACE_SECONDS):
            sent = producer.send(self.topic, b"%d" % number, partition=number % self.partitions)
            sent.add_callback(lambda _, it=number: self.acknowledged.add(it))
            sent.add_errback(self.failures.append)
            number += 1
        producer.flush(END_SECONDS)
        producer.close()

    def read(self) -> None:
        """See Running."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, enable_auto_commit=False)
        places = [TopicPartition(self.topic, it) for it in range(self.partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        while not self.is_read.is_set():
            for records in consumer.poll(timeout_ms=100).values():
                for it in records:
                    self.consumed[it.partition, it.offset] = int(it.value)
        consumer.close()


class AioKafka(Running):
    """aiokafka."""

    name = "aiokafka"

    def write(self) -> None:
        """See Running."""

        async def run() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True)
            await producer.start()
            number = 0
            while not self.is_over.is_set():
                sent = await producer.send(self.topic, b"%d" % number, partition=number % self.partitions)
                sent.add_done_callback(lambda done, it=number: self._told(done, it))
                number += 1
                await asyncio.sleep(PACE_SECONDS)
            await producer.stop()

        asyncio.run(run())

    def _told(self, done: Any, number: int) -> None:
        if done.exception() is not None:
            self.failures.append(done.exception())
        else:
            self.acknowledged.add(number)

    def read(self) -> None:
        """See Running."""

        async def run() -> None:
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
            await consumer.start()
            places = [AioPartition(self.topic, it) for it in range(self.partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            while not self.is_read.is_set():
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for it in records:
                        self.consumed[it.partition, it.offset] = int(it.value)
            await consumer.stop()

        asyncio.run(run())


class Kcat(Running):
    """kcat, whose producer tells of no acknowledgement, but that it had all at its end."""

    name = "kcat"

    def write(self) -> None:
        """See Running."""
        settings = ("-X", "enable.idempotence=true", "-X", "acks=all", "-X", "linger.ms=5")
        command = ["kcat", "-P", "-b", self.bootstrap, "-t", self.topic, *settings]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        ) as process:
            assert process.stdin is not None
            number = 0
            while not self.is_over.wait(PACE_SECONDS):
                process.stdin.write(f"{number}\n")
                number += 1
            _, said = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 0, said
        self.acknowledged.update(range(number))

    def read(self) -> None:
        """See Running."""
        shown = ("-o", "beginning", "-u", "-q", "-f", "%p %o %s\n")
        with subprocess.Popen(
            ["kcat", "-C", "-b", self.bootstrap, "-t", self.topic, *shown],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            threading.Thread(target=self._end, args=(process,), daemon=True).start()
            assert process.stdout is not None
            for line in process.stdout:
                partition, offset, number = map(int, line.split())
                self.consumed[partition, offset] = number
        assert self.is_read.is_set(), f"kcat ended with {process.returncode}"

    def _end(self, process: subprocess.Popen[str]) -> None:
        self.is_read.wait()
        with suppress(ProcessLookupError):
            process.terminate()


class Java(Running):
    """Java's clients, by the verifiable producer and consumer; the latter in a group."""

    name = "java"

    def write(self) -> None:
        """See Running."""
        arguments = ("--topic", self.topic, "--throughput", str(int(1 / PACE_SECONDS)), "--acks", "-1")
        with tempfile.NamedTemporaryFile("w", suffix=".properties") as config:
            # of itself the tool tries nothing twice, to see what fails
            config.write(f"enable.idempotence=true\nretries={2**31 - 1}\n")
            config.flush()
            for it in self._events(
                "VerifiableProducer", (*arguments, "--command-config", config.name), self.is_over
            ):
                if it["name"] == "producer_send_success":
                    self.acknowledged.add(int(it["value"]))
                elif it["name"] == "producer_send_error":
                    self.failures.append(it)

    def read(self) -> None:
        """See Running."""
        arguments = ("--topic", self.topic, "--group-id", f"{self.topic}-readers", "--verbose")
        for it in self._events(
            "VerifiableConsumer", (*arguments, "--reset-policy", "earliest"), self.is_read
        ):
            if it["name"] == "record_data":
                self.consumed[it["partition"], it["offset"]] = int(it["value"])

    def _events(self, tool: str, arguments: tuple[str, ...], is_over: threading.Event) -> Any:
        command = java(
            f"org.apache.kafka.tools.{tool}", "--bootstrap-server", self.bootstrap, *arguments, heap="128m"
        )
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:

            def end() -> None:
                is_over.wait()
                process.terminate()

            threading.Thread(target=end, daemon=True).start()
            assert process.stdout is not None
            for line in process.stdout:
                with suppress(json.JSONDecodeError):
                    yield json.loads(line)
        assert is_over.is_set(), f"{tool} ended with {process.returncode}"


EVERYBODY: tuple[type[Running], ...] = (KafkaPython, AioKafka, Kcat, Java)
