"""A producer and a consumer of each partition, which find leaders as clients do: by asking any broker."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fastlog.errors import OffsetOutOfRangeError, OutOfOrderSequenceNumberError
from fastlog.ports import PartitionKey
from tests.simulation.broker import Broker
from tests.simulation.checks import Judge
from tests.simulation.client_calls import EARLIEST, LATEST
from tests.simulation.events import Agenda
from tests.simulation.network import CLIENTS, Network
from tests.simulation.records import Record

TIMEOUT_MS = 3_000
RETRY_MS = (20, 200)
BATCH_MAX = 4
#: the share of a consumer's requests that ask for the end
ENDS = 0.3


class Client:
    """What both have in common: whom they take for the leader, and calls that may never be answered."""

    def __init__(
        self,
        key: PartitionKey,
        *,
        agenda: Agenda,
        network: Network,
        judge: Judge,
        rng: random.Random,
        brokers: Callable[[], list[Broker]],
        acks: int = -1,
    ) -> None:
        self.key = key
        self._acks = acks
        self.is_stopping = False
        self._agenda = agenda
        self._network = network
        self._judge = judge
        self._rng = rng
        self._brokers = brokers
        self._call = 0
        self._known = self._leader_epoch = -1

    def step(self) -> None:
        """Sends the next request."""
        raise NotImplementedError

    def _leader(self) -> Broker | None:
        """Asks a broker for the leader; what is older than what another has told is no news (KIP-320)."""
        alive = self._brokers()
        if not alive:
            return None
        state = self._rng.choice(alive).image.state(self.key)
        if state is not None and state.leader_epoch >= self._leader_epoch:
            self._known, self._leader_epoch = state.leader, state.leader_epoch
        return next((it for it in alive if it.id == self._known), None)

    def _ask(self, broker: Broker | None, request: Callable[[Broker, int], None]) -> None:
        self._call += 1
        number = self._call
        if broker is not None:
            target = broker
            self._network.send(CLIENTS, target.id, lambda: target.now(lambda: request(target, number)))
        self._agenda.after(TIMEOUT_MS if broker is not None else self._pause(), lambda: self._next(number))

    def _next(self, number: int, delay_ms: int = 0) -> None:
        """Goes on after call `number`, once."""
        if number == self._call:
            self._call += 1
            self._agenda.after(delay_ms, self.step)

    def _pause(self) -> int:
        return self._rng.randint(*RETRY_MS)


class Producer(Client):
    """Idempotent, acks=all: numbers in order, a batch at a time, each until it is acknowledged."""

    is_idempotent = True
    acknowledged = 0
    #: what is sent again is sent as it was
    _batch: Sequence[int] = ()

    def step(self) -> None:
        """Sends the first batch that is not acknowledged."""
        if self.is_stopping:
            return
        if not self._batch or self._batch[0] < self.acknowledged:
            count = self._rng.randint(1, BATCH_MAX)
            self._batch = list(range(self.acknowledged, self.acknowledged + count))
        self.send()

    def send(self) -> None:
        """Sends the batch that is due to whom it takes for the leader."""
        values = self._batch

        def request(broker: Broker, number: int) -> None:
            broker.produce(
                self.key,
                values,
                lambda code, base: broker.reply_to_clients(
                    lambda: self._answered(number, values, code, base)
                ),
                acks=self._acks,
                is_idempotent=self.is_idempotent,
            )

        self._ask(self._leader(), request)

    def take(self, values: Sequence[int], base: int) -> None:
        """They are acknowledged."""
        for value, offset in zip(values, range(base, base + len(values)), strict=True):
            self._judge.acknowledges(self.key, value, offset)

    def _answered(self, number: int, values: Sequence[int], code: int, base: int) -> None:
        # a late answer is an acknowledgement all the same
        if code == 0:
            self.take(values, base)
            self.acknowledged = max(self.acknowledged, values[-1] + 1)
        elif code == OutOfOrderSequenceNumberError.code and number == self._call:
            self._judge.require(
                False, f"lost: the log of {self.key.partition} lacks what precedes {values[0]}"
            )
        self._next(number, self._rng.randint(0, 60) if code == 0 else self._pause())


class LooseProducer(Producer):
    """Sends each batch once, whatever becomes of it. What only the leader has said of it may be lost."""

    is_idempotent = False
    _sent = 0

    def step(self) -> None:
        """Sends the next batch."""
        count = self._rng.randint(1, BATCH_MAX)
        self._batch = list(range(self._sent, self._sent + count))
        self._sent += count
        self.send()

    def _answered(self, number: int, values: Sequence[int], code: int, base: int) -> None:
        if code == 0:
            self.acknowledged += len(values)
            if self._acks == -1:
                self.take(values, base)
        self._next(number, self._rng.randint(0, 60) if code == 0 else self._pause())


class Consumer(Client):
    """Reads from the start, at its own pace, and asks now and then how far it could."""

    offset = 0
    _is_lost = False

    def step(self) -> None:
        """Fetches, or asks for the end."""

        def fetch(broker: Broker, number: int) -> None:
            code, records = broker.read(self.key, self.offset)
            broker.reply_to_clients(lambda: self._answered(number, code, records))

        def ask_end(broker: Broker, number: int) -> None:
            code, end = broker.offset_at(self.key, LATEST, epoch)
            broker.reply_to_clients(lambda: self._end_told(number, code, end))

        def ask_start(broker: Broker, number: int) -> None:
            code, start = broker.offset_at(self.key, EARLIEST, epoch)
            broker.reply_to_clients(lambda: self._start_told(number, code, start))

        leader, epoch = self._leader(), self._leader_epoch
        if self._is_lost:
            self._ask(leader, ask_start)
        else:
            self._ask(leader, ask_end if self._rng.random() < ENDS else fetch)

    def _end_told(self, number: int, code: int, end: int) -> None:
        if number == self._call:
            if code == 0:
                self._judge.tells_end(self.key, end)
            self._next(number, self._rng.randint(20, 150))

    def _start_told(self, number: int, code: int, start: int) -> None:
        if number == self._call:
            if code == 0:
                self.offset, self._is_lost = max(self.offset, start), False
            self._next(number, self._rng.randint(20, 150))

    def _answered(self, number: int, code: int, records: list[Record]) -> None:
        if number != self._call:
            return
        if code == 0:
            self._judge.reads(self.key, self.offset, records)
            self.offset += len(records)
        elif code == OffsetOutOfRangeError.code:
            # deleted, or beyond what an unclean election left
            self._is_lost = True
        self._next(number, self._rng.randint(20, 150))
