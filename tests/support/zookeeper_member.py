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
from uuid import UUID, uuid4

ACT_SECONDS = 0.005
LINE_SECONDS = 20.0


def main(hosts: str, root: str, broker_id: int, directory: Path, session_ms: int) -> int:
    """Runs until it is killed, or refused."""
    from fastlog.cluster.incarnation import Incarnations
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.events import ClusterEvent, Connected
    from fastlog.ports import StoreError

    events: SimpleQueue[ClusterEvent] = SimpleQueue()
    connection = ZooKeeperConnection(hosts, root, session_ms=session_ms, tell=events.put)
    connection.start()
    incarnations, incarnation = Incarnations(directory), uuid4()
    earlier = incarnations.begin(incarnation)
    actor = Actor()
    threading.Thread(target=actor.run, daemon=True).start()
    session, keeper = 0, None
    while True:
        event = events.get()
        say(told=type(event).__name__)
        if not isinstance(event, Connected) or event.session == session:
            continue
        if keeper is not None:
            keeper.stop()
        try:
            session, keeper = event.session, enter(connection, broker_id, incarnation, earlier, actor, events)
        except StoreError as error:
            say(refused=f"{type(error).__name__}: {error}")
            connection.close()
            return 1
        incarnations.registered(incarnation)


def enter(
    connection: Any,
    broker_id: int,
    incarnation: UUID,
    earlier: tuple[UUID, ...],
    actor: Actor,
    events: SimpleQueue[Any],
) -> Any:
    """Registers and begins to keep the lease."""
    from fastlog.cluster.zookeeper.lease import LeaseKeeper
    from fastlog.cluster.zookeeper.membership import Membership
    from fastlog.ports import Registration

    wanted = Registration(
        broker_id=broker_id,
        broker_epoch=-1,
        incarnation=incarnation,
        endpoints={"PLAINTEXT": ("127.0.0.1", 9092)},
    )
    broker = Membership(connection).register(wanted, earlier)
    say(registered=broker.broker_epoch)
    actor.epoch = broker.broker_epoch
    return LeaseKeeper(connection, broker, publish=actor.take, tell=events.put).start()


class Actor:
    """Does what only a leader with a lease may, as often as it can."""

    def __init__(self) -> None:
        self.epoch = -1
        self._until = 0

    def take(self, until_ns: int) -> None:
        """The lease as it is published."""
        self._until = until_ns

    def run(self) -> None:
        """For ever."""
        while True:
            epoch, now = self.epoch, time.monotonic_ns()
            if now < self._until:
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
