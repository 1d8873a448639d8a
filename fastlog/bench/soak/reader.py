"""The consumers of a soak, each in a process: `python -m fastlog.bench.soak.reader`.

Standard input brings a job (one line of JSON) and later the ends of the partitions, when nothing more is written; when
it is closed the process ends. Standard output has a line when it begins, one for each window that is over, and a last
one with what was found.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlog.bench.soak.compacted import CompactedChecker, digest
from fastlog.bench.soak.record import Checker
from fastlog.bench.soak.windows import Windows
from fastlog.client.admin import Admin
from fastlog.client.consumer.consumer import Consumer
from fastlog.errors import FastlogError, OffsetOutOfRangeError

if TYPE_CHECKING:
    from collections.abc import Sequence

POLL_RECORDS = 10_000
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a reader is to do."""

    kind: str
    bootstrap: str
    topic: str
    partitions: int
    #: how long a batch consumer is away, and a rewinding one rests
    interval_seconds: float
    #: the broker's data directory where it is the soak's own: what a rewinding consumer drops from memory first
    data_dir: str | None = None


class Reader:
    """What all kinds have in common."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.checker = Checker(job.partitions)
        self.ends: list[int] | None = None
        self.told = threading.Event()
        self.details: dict[str, int] = {}

    def finish_at(self, ends: list[int]) -> None:
        """Nothing more is written: read up to these ends, then return from `run`."""
        self.ends = ends
        self.told.set()

    def run(self) -> None:
        """Reads until all is read. Raises FastlogError, BrokenRecordError for a finding."""
        raise NotImplementedError

    def new_consumer(self) -> Consumer:
        """A consumer that stands where the checker does; to be too late is an error, not a new beginning."""
        consumer = Consumer(self.job.bootstrap, auto_offset_reset="none")
        consumer.assign(
            positions={(self.job.topic, at): number for at, number in enumerate(self.checker.next)}
        )
        return consumer

    def present_ends(self) -> list[int]:
        """The log ends of all partitions as they are now."""
        if self.ends is not None:
            return self.ends
        places = [(self.job.topic, at) for at in range(self.job.partitions)]
        with Admin(self.job.bootstrap) as admin:
            found = admin.list_offsets(dict.fromkeys(places, "latest"))
        return [found[place].offset for place in places]

    def has_read(self, ends: Sequence[int]) -> bool:
        """Whether everything before `ends` is read."""
        return all(read >= end for read, end in zip(self.checker.next, ends, strict=True))

    def read_to(self, consumer: Consumer, ends: Sequence[int]) -> None:
        """Reads up to `ends` and perhaps further."""
        while not self.has_read(ends):
            for record in consumer.poll(POLL_RECORDS, POLL_SECONDS):
                self.checker.note(record)


class OnlineReader(Reader):
    """Reads what comes as it comes, and tells the latencies of each window."""

    def run(self) -> None:
        """See Reader."""
        windows = Windows()
        with self.new_consumer() as consumer:
            while self.ends is None or not self.has_read(self.ends):
                records = consumer.poll(POLL_RECORDS, POLL_SECONDS)
                now = time.perf_counter_ns()
                for record in records:
                    windows.note(self.checker.note(record), now)
                for window in windows.take_over(now):
                    tell(window)
        for window in windows.take_over(None):
            tell(window)


class BatchReader(Reader):
    """Comes back again and again, with a new consumer that goes on where the last one stood."""

    def run(self) -> None:
        """See Reader."""
        self.details["batches"] = 0
        while self.ends is None or not self.has_read(self.ends):
            self.told.wait(self.job.interval_seconds)
            with self.new_consumer() as consumer:
                self.read_to(consumer, self.present_ends())
            self.details["batches"] += 1


class RewindingReader(Reader):
    """Goes back to the oldest record there is and reads up to the end, again and again.

    What the disk has by then is dropped from memory before, where that can be done: it reads cold.
    """

    def run(self) -> None:
        """See Reader."""
        self.details = {"passes": 0, "cold_passes": 0, "overtaken": 0}
        with self.new_consumer() as consumer:
            last = False
            while not last:
                self.told.wait(self.job.interval_seconds)
                # one pass more after the end was told
                last = self.ends is not None
                self._pass(consumer)

    def _pass(self, consumer: Consumer) -> None:
        ends = self.present_ends()
        self.details["cold_passes"] += self._forget()
        while True:
            consumer.seek_to_beginning()
            self.checker.jump()
            self.checker.next = [0] * self.job.partitions
            try:
                self.read_to(consumer, ends)
            except OffsetOutOfRangeError:
                # retention took the beginning away while it was read, as it may
                self.details["overtaken"] += 1
                continue
            self.details["passes"] += 1
            return

    def _forget(self) -> bool:
        """Drops the topic's records from memory; false where nothing was there to drop."""
        if self.job.data_dir is None:
            return False
        dropped = False
        for path in Path(self.job.data_dir).glob(f"{self.job.topic}-*/*.log"):
            # retention may have been faster
            with suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)
                dropped = True
        return dropped


class CompactedReader(Reader):
    """Reads the compacted topic from its start to its end, again and again."""

    def run(self) -> None:
        """See Reader."""
        self.details = {"passes": 0, "kept": 0, "digest": 0}
        with self.new_consumer() as consumer:
            last = False
            while not last:
                self.told.wait(self.job.interval_seconds)
                last = self.ends is not None
                self._pass(consumer)

    def _pass(self, consumer: Consumer) -> None:
        checker = CompactedChecker()
        (end,) = self.present_ends()
        consumer.seek_to_beginning()
        while checker.next < end:
            for record in consumer.poll(POLL_RECORDS, POLL_SECONDS):
                checker.note(record)
        self.checker.records += checker.records
        self.details["passes"] += 1
        self.details |= {"kept": checker.records, "digest": digest(checker.latest)}


KINDS: dict[str, type[Reader]] = {
    "online": OnlineReader,
    "batch": BatchReader,
    "rewinding": RewindingReader,
    "compacted": CompactedReader,
}


def tell(document: dict[str, Any]) -> None:
    """One line for the starter."""
    print(json.dumps(document), flush=True)


def listen(reader: Reader) -> None:
    """Waits for the ends; ends the process with its starter."""
    line = sys.stdin.readline()
    if line:
        reader.finish_at(json.loads(line))
        sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Does the job on standard input."""
    # the starter decides when to end, also after Ctrl-C
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = Job(**json.loads(sys.stdin.readline()))
    reader = KINDS[job.kind](job)
    threading.Thread(target=listen, args=(reader,), daemon=True).start()
    tell({"ready": True})
    found: dict[str, Any] = {"problem": None}
    try:
        reader.run()
    except FastlogError as error:
        found["problem"] = str(error)
    checker = reader.checker
    tell({**found, "records": checker.records, "checksums": checker.checksums, **reader.details})


if __name__ == "__main__":
    main()
