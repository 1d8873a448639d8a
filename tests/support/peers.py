"""A listener for brokers over real sockets, with an engine that only echoes."""

from __future__ import annotations

import os
import queue
from collections import deque
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from fastlog.broker.peers.server import BrokerIntake, CommandTable
from fastlog.ports import Registration
from fastlog.transport.connections import ConnectionLimits
from fastlog.transport.router import RouterLimits, RouterListener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.peers.messages import Answer

LIMITS = RouterLimits(
    message_bytes_max=1_000_000,
    queue_messages=1000,
    peer_requests_max=256,
    parked_answers_max=1000,
    handshake_ms=2000,
    connections=ConnectionLimits(connections_max=1000, connections_per_ip_max=1000, frame_timeout_ms=2000),
)
WAIT_SECONDS = 10.0
CLUSTER = "a-cluster"


class EchoEngine:
    """An Intake that answers each request with itself, later."""

    def __init__(self) -> None:
        self._answers: deque[tuple[int, bytes | None]] = deque()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def submit(self, peer: int, frames: Sequence[memoryview]) -> bytes | None:
        """Takes a request."""
        self._answers.append((peer, b"".join(frames)))
        os.eventfd_write(self._descriptor, 1)
        return None

    def completions_fd(self) -> int:
        """Readable when there are answers."""
        return self._descriptor

    def drain_completions(self, bytes_max: int) -> list[tuple[int, bytes | None]]:
        """One answer a call, so that the descriptor has to stay readable."""
        if not self._answers:
            return []
        os.eventfd_read(self._descriptor)
        answer = self._answers.popleft()
        if self._answers:
            os.eventfd_write(self._descriptor, 1)
        return [answer]

    def memory_bytes_max(self) -> int:
        """Enough."""
        return 1 << 30

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._descriptor)


class PeerServer:
    """The commands of one broker behind a real listener."""

    def __init__(self, broker_id: int, epoch: int = 1, cluster_id: str = CLUSTER) -> None:
        self.commands = CommandTable()
        self._engine = EchoEngine()
        self._intake = BrokerIntake(cluster_id, self.commands, self._engine)
        self._listener = RouterListener(LIMITS, "BROKER")
        self.port = self._listener.bind("127.0.0.1", 0)
        self.registration = registration(broker_id, self.port, epoch)
        self._is_open = True

    def __enter__(self) -> Self:
        self._listener.start(self._intake)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the listener as a process's death does; again is harmless."""
        if self._is_open:
            self._is_open = False
            self._listener.stop()
            self._intake.close()
            self._engine.close()


def registration(broker_id: int, port: int, epoch: int = 1) -> Registration:
    """A broker that listens for brokers at a port of loopback."""
    return Registration(
        broker_id=broker_id,
        broker_epoch=epoch,
        incarnation=UUID(int=epoch),
        endpoints={"BROKER": ("127.0.0.1", port)},
    )


class Answers:
    """What commands were answered, in order."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Any, Answer]] = queue.SimpleQueue()

    def of(self, name: Any) -> Callable[[Answer], None]:
        """What to call with the answer to the command `name`."""
        return lambda answer: self._queue.put((name, answer))

    def next(self) -> tuple[Any, Answer]:
        """The next answer; waits for it."""
        return self._queue.get(timeout=WAIT_SECONDS)

    def is_empty(self) -> bool:
        """Whether all were taken."""
        return self._queue.empty()
