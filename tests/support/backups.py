"""What tests of backups share: what to back up, what a log holds, an archive that fails."""

from __future__ import annotations

from pathlib import Path

from fastlog import Admin, Producer
from fastlog.backup.batches import whole
from fastlog.backup.directory_archive import DirectoryArchive
from fastlog.backup.partitions import Partitions
from fastlog.protocol.batch import read_batches
from tests.support.broker import BrokerProcess

Batches = list[tuple[int, bytes]]


class InterruptedHereError(Exception):
    """What stops a backup in the middle."""


class CountingArchive(DirectoryArchive):
    """Knows what was put into it, and fails after so many times."""

    def __init__(self, path: Path, puts: int = 1 << 30) -> None:
        super().__init__(path)
        self.written: list[str] = []
        self._puts = puts

    def put(self, name: str, data: bytes) -> None:
        if len(self.written) == self._puts:
            raise InterruptedHereError
        super().put(name, data)
        self.written.append(name)


def log_of(broker: BrokerProcess, topic: str, partition: int = 0) -> tuple[int, int, Batches]:
    """Start, end, and each batch but for its epoch and its producer's id, which are the cluster's own."""
    place = (topic, partition)
    found: Batches = []
    with Partitions(broker.bootstrap) as partitions, Admin(broker.bootstrap) as admin:
        topic_id = admin.describe_topic(topic).topic_id
        start, end = partitions.starts([place])[place], partitions.stable_ends([place])[place]
        position = start
        while position < end:
            data = whole(memoryview(partitions.fetch(place, topic_id, position)))
            assert data, f"nothing at {position}"
            for batch in read_batches(data):
                position = batch.last_offset + 1
                found.append((batch.base_offset, bytes(batch.data[21:43]) + bytes(batch.data[51:])))
    return start, end, found


def send(broker: BrokerProcess, topic: str, count: int, *, first: int = 0, **options: str) -> None:
    """A batch each."""
    with Producer(broker.bootstrap, linger_ms=0, **options) as producer:
        for number in range(first, first + count):
            producer.send(topic, str(number).encode(), key=b"%d" % (number % 5)).result()


def make_topic(broker: BrokerProcess, name: str, *, partitions: int = 1, **configs: str) -> None:
    with Admin(broker.bootstrap) as admin:
        dotted = {key.replace("_", "."): value for key, value in configs.items()}
        admin.create_topic(name, partitions=partitions, configs=dotted)
