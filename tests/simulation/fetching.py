"""How a broker follows a leader here: as `LeaderFetcher`, but for the thread and the connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastlog.broker.replicas.fetching import Counts
from fastlog.broker.replicas.following import FETCH_VERSION, Following
from fastlog.broker.replicas.leader_fetcher import LIST_OFFSETS_VERSION, PATIENCE_MS, SYNC_WAIT_MS
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.errors import KafkaError
from fastlog.ports import PartitionKey
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from fastlog.state.replica.follower import AskOffsets, Effect
from fastlog.transport.channel import ConnectionLostError

if TYPE_CHECKING:
    from tests.simulation.broker import Broker


class SimulatedFetching:
    """Follows one leader, a fetch at a time."""

    def __init__(self, leader: int, broker: Broker, settings: ReplicaSettings) -> None:
        self._leader = leader
        self._broker = broker
        self._settings = settings
        self._following = Following(broker.id, broker.engine, settings, lambda: broker.clock_ms)
        self._is_there = False
        #: the fetch, or the pause, that is under way
        self._number = 0
        self._is_asking = self._asks_offsets = False
        self._commands: list[Callable[[], None]] = []

    @property
    def counts(self) -> Counts:
        """See Fetching."""
        return self._following.counts

    def start(self) -> None:
        """See Fetching."""

    def stop(self) -> None:
        """See Fetching."""

    def follow(self, partitions: Sequence[tuple[PartitionKey, str, int]]) -> None:
        """See Fetching."""
        self._put(lambda: self._following.follow(partitions))

    def leave(self, keys: Sequence[PartitionKey], *, is_deleted: bool) -> None:
        """See Fetching."""
        self._put(lambda: self._following.leave(keys))

    def synced(self, keys: Sequence[PartitionKey]) -> None:
        """See Fetching."""
        self._put(lambda: self._following.synced(keys))

    def registered(self, broker_epoch: int | None) -> None:
        """See Fetching."""
        self._put(lambda: self._following.registered(broker_epoch))

    def is_at(self, endpoint: tuple[str, int] | None) -> None:
        """See Fetching."""

        def move() -> None:
            self._is_there = endpoint is not None

        self._put(move)

    # --- rounds ---

    def _put(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        if not self._is_asking:
            self._round()
            return
        number = self._number
        self._broker.later(int(PATIENCE_MS), lambda: self._interrupt(number))

    def _interrupt(self, number: int) -> None:
        # a fetch, that is; the other questions are waited for
        if self._is_asking and not self._asks_offsets and self._number == number and self._commands:
            self._following.forget_session()
            self._round()

    def _round(self) -> None:
        """The next fetch, or a pause."""
        self._is_asking = self._asks_offsets = False
        self._number += 1
        commands, self._commands = self._commands, []
        for command in commands:
            command()
        if not self._is_there or self._following.is_idle:
            self._following.forget_session()
            return
        request = self._following.request()
        if request is None:
            self._rest()
            return
        frame = encode_request_frame(request, FETCH_VERSION, self._number, "broker")
        number, self._is_asking = self._number, True
        timeout_ms = self._settings.fetch_wait_ms + self._settings.request_timeout_ms
        self._broker.ask_frame(self._leader, frame, lambda answer: self._answered(number, answer))
        self._broker.later(timeout_ms, lambda: self._answered(number, None))

    def _rest(self) -> None:
        number, next_ms = self._number, self._following.next_ms()
        if self._following.awaits_sync:
            pause_ms = int(SYNC_WAIT_MS)
        elif next_ms is not None:
            pause_ms = max(1, next_ms - self._broker.clock_ms)
        else:
            return
        self._broker.later(pause_ms, lambda: self._go_on(number))

    def _go_on(self, number: int) -> None:
        if self._number == number:
            self._round()

    def _answered(self, number: int, answer: bytes | None) -> None:
        if not self._is_asking or self._number != number:
            return
        try:
            if answer is None:
                raise ConnectionLostError("no answer")
            effects = self._following.take_in(answer)
        except (KafkaError, ConnectionLostError):
            self._following.lost()
            self._round()
            return
        asks = [it for it in effects if isinstance(it, AskOffsets)]
        if asks:
            self._ask_offsets(asks, [it for it in effects if not isinstance(it, AskOffsets)])
        else:
            self._repair(effects, {})

    # --- where the leader's log lies ---

    def _ask_offsets(self, asks: Sequence[AskOffsets], others: Sequence[Effect]) -> None:
        """Asks for starts and ends, whose answers are late or never come, as all others; commands wait for them."""
        requests: list[ListOffsetsRequest] = []
        answers: dict[int, Any] = {}

        def note(request: ListOffsetsRequest) -> Any:
            requests.append(request)
            return ListOffsetsResponse()

        self._following.followed._leader_offsets(asks, note)
        self._number += 1
        number, self._asks_offsets = self._number, True

        def answered(timestamp: int, frame: bytes) -> None:
            answers[timestamp] = decode_response_frame(ApiKey.LIST_OFFSETS, LIST_OFFSETS_VERSION, frame)[1]
            if len(answers) == len(requests):
                finish()

        def finish() -> None:
            if self._is_asking and self._number == number:
                self._repair([*others, *asks], answers)

        for request in requests:
            at = request.topics[0].partitions[0].timestamp
            frame = encode_request_frame(request, LIST_OFFSETS_VERSION, number, "broker")
            self._broker.ask_frame(self._leader, frame, partial(answered, at))
        self._broker.later(self._settings.request_timeout_ms, finish)

    def _repair(self, effects: Sequence[Effect], answers: dict[int, Any]) -> None:
        def told(request: ListOffsetsRequest) -> Any:
            answer = answers.get(request.topics[0].partitions[0].timestamp)
            if answer is None:
                raise ConnectionLostError("no answer")
            return answer

        try:
            self._following.followed.repair(effects, told, self._broker.clock_ms)
        except (KafkaError, ConnectionLostError):
            self._following.lost()
        self._round()
