"""Members of a group at work: in threads of the test, or in processes that can be killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import fastlog
from fastlog.errors import FastlogError
from tests.support.broker import wait_until

SETTLE_SECONDS = 20.0
FAST: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "heartbeat_interval_ms": 200,
    "session_timeout_ms": 6_000,
    "metadata_max_age_ms": 500,
    "fetch_max_wait_ms": 100,
}
# the broker says how often it wants to hear of the members of the consumer protocol, and how long a session is
CONSUMER_PROTOCOL: dict[str, Any] = {
    **{
        key: value
        for key, value in FAST.items()
        if key not in ("heartbeat_interval_ms", "session_timeout_ms")
    },
    "group_protocol": "consumer",
}
Event = tuple[str, frozenset[fastlog.TopicPartition]]


@dataclass
class Member:
    """A consumer that polls in a thread of its own until it is stopped."""

    consumer: fastlog.Consumer
    records: list[fastlog.Record] = field(default_factory=list)
    errors: list[FastlogError] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.records += self.consumer.poll(timeout=0.1)
            except FastlogError as error:
                self.errors.append(error)
        self.consumer.close()

    def stop(self) -> None:
        """Ends the polling and closes the consumer."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the member did not end"

    @property
    def partitions(self) -> set[int]:
        """The numbers of the partitions that it reads."""
        return {tp.partition for tp in self.consumer.assignment()}


class Party:
    """A group whose members come and go; all are stopped at the end."""

    def __init__(self, bootstrap: str, topic: str, **options: Any) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        fast = CONSUMER_PROTOCOL if options.get("group_protocol") == "consumer" else FAST
        self.options = {**fast, **options}
        self.members: list[Member] = []
        #: what the members were told, in order of time: name, kind, partitions
        self.events: list[tuple[str, str, frozenset[fastlog.TopicPartition]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.stop()

    def join(self, name: str = "", **options: Any) -> Member:
        """One more member."""

        def told(kind: str) -> Callable[[frozenset[fastlog.TopicPartition]], None]:
            return lambda partitions: self.events.append((name, kind, partitions))

        settings = {"topics": self.topic, "group_id": self.topic, **self.options, **options}
        consumer = fastlog.Consumer(
            self.bootstrap,
            on_assign=told("assign"),
            on_revoke=told("revoke"),
            on_lost=told("lost"),
            **settings,
        )
        self.members.append(Member(consumer))
        return self.members[-1]

    def leave(self, member: Member) -> None:
        """Stops one."""
        self.members.remove(member)
        member.stop()

    def shared(self, count: int) -> bool:
        """Whether the members have all `count` partitions between them, each at one, and each has some."""
        have = [member.partitions for member in self.members]
        return all(have) and sorted(one for some in have for one in some) == list(range(count))

    def settle(self, count: int = 6) -> None:
        """Waits until the partitions are shared out."""
        wait_until(
            f"{len(self.members)} members share {count} partitions",
            lambda: self.shared(count),
            seconds=SETTLE_SECONDS,
        )

    def told(self, name: str, kind: str) -> list[set[int]]:
        """The numbers of partitions that a member was told of, call by call."""
        return [
            {tp.partition for tp in partitions}
            for who, what, partitions in self.events
            if (who, what) == (name, kind)
        ]

    def values(self) -> list[int]:
        """The numbers that all members got, of those who left too."""
        return sorted(int(record.value or b"") for member in self.members for record in member.records)


#: of a `MemberProcess`
PROCESS_SESSION_SECONDS = 3.0
#: reads as a member until it is killed; a line for each record: generation, partition, offset
PROGRAM = """
import sys
import fastlog
bootstrap, topic, strategy = sys.argv[1:]
def assigned(partitions):
    print("assigned", consumer.group_metadata().generation_id, flush=True)
with fastlog.Consumer(bootstrap, group_id=topic, partition_assignment_strategy=strategy, on_assign=assigned,
                      auto_offset_reset="earliest", heartbeat_interval_ms=200, session_timeout_ms=3000,
                      max_poll_records=20, enable_auto_commit=False) as consumer:
    consumer.subscribe(topic)
    while True:
        records = consumer.poll(timeout=0.2)
        generation = consumer.group_metadata().generation_id
        for record in records:
            print("read", generation, record.partition, record.offset, flush=True)
        if records:
            try:
                consumer.commit()
            except fastlog.errors.KafkaError as error:
                print("commit", error.name, flush=True)
"""


class MemberProcess:
    """A member in a process of its own."""

    def __init__(self, bootstrap: str, topic: str, strategy: str, log: Path) -> None:
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, bootstrap, topic, strategy],
                stdin=subprocess.DEVNULL,
                stdout=out,
            )

    def lines(self) -> list[list[str]]:
        """What it wrote so far, whole lines only."""
        text = self.log.read_text()
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]

    def read(self) -> list[tuple[int, int, int]]:
        """What it read: generation, partition, offset."""
        return [(int(line[1]), int(line[2]), int(line[3])) for line in self.lines() if line[0] == "read"]

    def kill(self) -> None:
        """SIGKILL: no farewell to the group."""
        self.process.kill()
        self.process.wait()
