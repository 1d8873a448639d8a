"""A broker as far as ZooKeeper sees one, for faults that hit a process: it registers, and acts while its lease holds.

`python -m tests.support.zookeeper_member HOSTS ROOT BROKER_ID DIRECTORY SESSION_MS` prints one JSON object a line:
`{"registered": epoch}`, `{"acted": moment, "epoch": epoch}` every few milliseconds while the lease holds,
`{"told": event}` and `{"refused": reason}`. Moments are the machine's monotonic nanoseconds, the same in every process.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

ACT_SECONDS = 0.005
LINE_SECONDS = 20.0


def main(hosts: str, root: str, broker_id: int, directory: Path, session_ms: int) -> int:
    """Runs until it is killed, or refused."""
    from fastlog.cluster.incarnation import Incarnations
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.events import ClusterEvent
    from fastlog.cluster.zookeeper.presence import Presence
    from fastlog.ports import Registration, StoreError

    events: SimpleQueue[ClusterEvent] = SimpleQueue()
    connection = ZooKeeperConnection(hosts, root, session_ms=session_ms, tell=events.put)
    broker = Registration(
        broker_id=broker_id,
        broker_epoch=-1,
        incarnation=uuid4(),
        endpoints={"PLAINTEXT": ("127.0.0.1", 9092)},
    )
    actor = Actor()

    def publish(until_ns: int) -> None:
        # set before the lease begins
        registered = presence.registered
        actor.take(-1 if registered is None else registered.broker_epoch, until_ns)

    presence = Presence(connection, broker, Incarnations(directory), publish=publish, tell=events.put)
    connection.start()
    threading.Thread(target=actor.run, daemon=True).start()
    while True:
        event = events.get()
        say(told=type(event).__name__)
        try:
            entered = presence.on(event)
        except StoreError as error:
            say(refused=f"{type(error).__name__}: {error}")
            connection.close()
            return 1
        if entered and presence.registered is not None:
            say(registered=presence.registered.broker_epoch)


class Actor:
    """Does what only a leader with a lease may, as often as it can."""

    def __init__(self) -> None:
        self._lease = (-1, 0)

    def take(self, epoch: int, until_ns: int) -> None:
        """The lease as it is published, with the broker epoch that it is for."""
        self._lease = (epoch, until_ns)

    def run(self) -> None:
        """For ever."""
        while True:
            epoch, until_ns = self._lease
            now = time.monotonic_ns()
            if now < until_ns:
                say(acted=now, epoch=epoch)
            time.sleep(ACT_SECONDS)


def say(**fields: object) -> None:
    """One line, whole."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class Member:
    """Such a process, seen from a test."""

    def __init__(
        self,
        hosts: str,
        root: str,
        broker_id: int,
        directory: Path,
        *,
        session_ms: int,
        prefix: tuple[str, ...] = (),
    ) -> None:
        directory.mkdir(exist_ok=True)
        arguments = [hosts, root, str(broker_id), str(directory), str(session_ms)]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.support.zookeeper_member", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.acts: list[tuple[int, int]] = []
        """The moments at which it acted, each with the broker epoch."""
        self._lines: SimpleQueue[dict[str, Any]] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "acted" in said:
                self.acts.append((said["acted"], said["epoch"]))
            else:
                self._lines.put(said)

    def wait_for(self, what: str) -> Any:
        """The value of the next line of a kind; lines before it are dropped."""
        while True:
            try:
                said = self._lines.get(timeout=LINE_SECONDS)
            except Empty:
                raise AssertionError(f"the member did not say {what!r} within {LINE_SECONDS} s") from None
            if what in said:
                return said[what]

    def last_act(self, epoch: int) -> int:
        """When it last acted with a broker epoch; 0 for never."""
        return max((moment for moment, of in self.acts if of == epoch), default=0)

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])))
