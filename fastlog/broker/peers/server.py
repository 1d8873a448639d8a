"""The listener for brokers: commands go to whoever takes their kind, all other requests to the engine."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from fastlog.broker.peers.framing import (
    VERSION,
    decode_command_header,
    encode_answer,
    is_command,
)
from fastlog.broker.peers.messages import Answer, decode
from fastlog.errors import (
    InconsistentClusterIdError,
    InvalidRequestError,
    MalformedMessageError,
    UnknownServerError,
    UnsupportedVersionError,
)
from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.transport.router import Intake

    Answered = Callable[[Answer], None]
    Handle = Callable[[Any, Answered], None]


class CommandTable:
    """The Commands of one broker."""

    def __init__(self) -> None:
        self._handlers: dict[type, Handle] = {}
        self._log = EventLog("peers")

    def on(self, kind: type, handle: Handle) -> None:
        """See Commands; a kind has one handler, the last that was said."""
        self._handlers[kind] = handle

    def take(self, command: object, answered: Answered) -> None:
        """Hands a command over; `answered` is called once, perhaps at once, unless its handler forgets it."""
        handle = self._handlers.get(type(command))
        if handle is None:
            text = f"this broker takes no command {type(command).__name__}"
            answered(Answer(code=UnsupportedVersionError.code, message=text))
            return
        try:
            handle(command, answered)
        except Exception as error:
            self._log.exception("a command failed", command=type(command).__name__)
            answered(Answer(code=UnknownServerError.code, message=f"{type(error).__name__}: {error}"))


class BrokerIntake:
    """Composes the engine's Intake and commands into one Intake for the listener, whose thread uses it.

    Answers to commands come from any thread.
    """

    def __init__(self, cluster_id: str, commands: CommandTable, engine: Intake) -> None:
        """Takes commands of brokers of that cluster, and refuses those of others."""
        self._cluster_id = cluster_id
        self._commands = commands
        self._engine = engine
        self._answers: deque[tuple[int, bytes | None]] = deque()
        self._lock = threading.Lock()
        self._answered = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # readable when one of the two is
        self._completions = select.epoll()
        self._completions.register(self._answered, select.EPOLLIN)
        self._completions.register(engine.completions_fd(), select.EPOLLIN)

    def close(self) -> None:
        """Lets go of the descriptors, when the listener has ended; answers that come later are dropped."""
        with self._lock:
            if self._answered >= 0:
                self._completions.close()
                os.close(self._answered)
                self._answered = -1

    def submit(self, peer: int, frames: Sequence[memoryview]) -> bytes | None:
        """See Intake; a command's answer always comes later."""
        if not _begins_command(frames):
            return self._engine.submit(peer, frames)
        frame = frames[0] if len(frames) == 1 else memoryview(b"".join(frames))
        try:
            version, correlation_id, cluster_id, start = decode_command_header(frame)
        except MalformedMessageError as error:
            raise ValueError(str(error)) from error
        answered = _Once(self, peer, correlation_id)
        if version != VERSION:
            text = f"commands between brokers have the version {VERSION} here, not {version}"
            answered(Answer(code=UnsupportedVersionError.code, message=text))
            return None
        if cluster_id != self._cluster_id:
            # it knows an address that was another broker's before
            text = f"this broker is of the cluster {self._cluster_id}, the command of {cluster_id!r}"
            answered(Answer(code=InconsistentClusterIdError.code, message=text))
            return None
        try:
            command = decode(frame[start:])
        except MalformedMessageError as error:
            answered(Answer(code=InvalidRequestError.code, message=str(error)))
            return None
        self._commands.take(command, answered)
        return None

    def completions_fd(self) -> int:
        """See Intake."""
        return self._completions.fileno()

    def drain_completions(self, bytes_max: int) -> list[tuple[int, bytes | None]]:
        """See Intake."""
        drained: list[tuple[int, bytes | None]] = []
        taken = 0
        with self._lock:
            while self._answers and taken < bytes_max:
                peer, answer = self._answers.popleft()
                taken += len(answer or b"")
                drained.append((peer, answer))
            if not self._answers and drained:
                os.eventfd_read(self._answered)
        if taken < bytes_max:
            drained += self._engine.drain_completions(bytes_max - taken)
        return drained

    def memory_bytes_max(self) -> int:
        """See Intake."""
        return self._engine.memory_bytes_max()

    def complete(self, peer: int, answer: bytes) -> None:
        """Has an answer sent; from any thread."""
        with self._lock:
            if self._answered >= 0:
                self._answers.append((peer, answer))
                os.eventfd_write(self._answered, 1)


class _Once:
    """The way back of one command: the first answer counts."""

    __slots__ = ("_correlation_id", "_intake", "_peer")

    def __init__(self, intake: BrokerIntake, peer: int, correlation_id: int) -> None:
        self._intake: BrokerIntake | None = intake
        self._peer = peer
        self._correlation_id = correlation_id

    def __call__(self, answer: Answer) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.complete(self._peer, encode_answer(self._correlation_id, answer))


def _begins_command(frames: Sequence[memoryview]) -> bool:
    """Whether the request, whose first frames may be empty or short, is a command."""
    if len(frames) == 1 or len(frames[0]) >= 2:
        return is_command(frames[0])
    return is_command(b"".join(bytes(frame[:2]) for frame in frames)[:2])
