"""One connection to one broker, in one lane: commands sent, commands that wait to be, answers. Never blocks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlog.broker.peers.framing import decode_answer, decode_correlation_id, encode_command
from fastlog.errors import InconsistentClusterIdError, MalformedMessageError
from fastlog.transport.channel import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.peers.messages import Answer
    from fastlog.transport.channel import Channel

# far below what a listener takes of one peer
IN_FLIGHT_MAX = 64


@dataclass(slots=True)
class Request:
    """A command that was asked and is not answered yet."""

    correlation_id: int
    broker_id: int
    lane: str
    command: object
    answered: Callable[[Answer], None]
    deadline_ms: float


class Link:
    """From its start to its end; when ConnectionLostError is raised its requests have an unknown fate."""

    def __init__(self, channel: Channel, cluster_id: str, connect_deadline_ms: float) -> None:
        self.channel = channel
        self._cluster_id = cluster_id
        self._connect_deadline_ms = connect_deadline_ms
        self._waiting: deque[Request] = deque()
        self._sent: dict[int, Request] = {}
        # timed out, and still counted by the other side as unanswered
        self._given_up: set[int] = set()

    def ask(self, request: Request) -> None:
        """Takes a command; it leaves in `advance`."""
        self._waiting.append(request)

    def give_up(self, request: Request) -> None:
        """Nobody waits for the answer any more; a command that has not left does not leave."""
        if self._sent.pop(request.correlation_id, None) is not None:
            self._given_up.add(request.correlation_id)
        elif request in self._waiting:
            self._waiting.remove(request)

    def requests(self) -> list[Request]:
        """All that is unanswered, in order."""
        return [*self._sent.values(), *self._waiting]

    def advance(self, now_ms: float) -> list[tuple[Request, Answer]]:
        """Sends and receives. Raises ConnectionLostError: the connection ended, or what came by it is garbage."""
        self.channel.advance()
        if not self.channel.connected and now_ms >= self._connect_deadline_ms:
            raise ConnectionLostError(f"the connection to {self.channel.address} was not made in time")
        answers = [found for frame in self.channel.receive() if (found := self._match(bytes(frame)))]
        if len(self._given_up) >= IN_FLIGHT_MAX:
            raise ConnectionLostError(f"{self.channel.address} has not answered {IN_FLIGHT_MAX} commands")
        if self.channel.connected:
            while self._waiting and len(self._sent) + len(self._given_up) < IN_FLIGHT_MAX:
                request = self._waiting.popleft()
                self._sent[request.correlation_id] = request
                frame = encode_command(request.correlation_id, self._cluster_id, request.command)
                self.channel.send(frame)
        return answers

    def connect_deadline_ms(self) -> float:
        """When `advance` has to look again; never, once it is connected."""
        return float("inf") if self.channel.connected else self._connect_deadline_ms

    def close(self) -> None:
        """Ends the connection."""
        self.channel.close()

    def _match(self, frame: bytes) -> tuple[Request, Answer] | None:
        try:
            correlation_id = decode_correlation_id(frame)
            if correlation_id in self._given_up:
                self._given_up.remove(correlation_id)
                return None
            if correlation_id not in self._sent:
                raise MalformedMessageError(f"nothing was asked that is answered by {correlation_id}")
            answer = decode_answer(frame)
        except MalformedMessageError as error:
            raise ConnectionLostError(f"{self.channel.address} answers garbage: {error}") from error
        if answer.code == InconsistentClusterIdError.code:
            # whoever was to be asked is not there any more
            raise ConnectionLostError(f"{self.channel.address} is not who it was: {answer.message}")
        return self._sent.pop(correlation_id), answer
