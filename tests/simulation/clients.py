"""A producer and a consumer of each partition, which find leaders as clients do: by asking any broker."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fastlog.errors import OutOfOrderSequenceNumberError
from fastlog.ports import PartitionKey
from tests.simulation.broker import Broker
from tests.simulation.checks import Judge
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
    ) -> None:
        self.key = key
        self.is_stopping = False
        self._agenda = agenda
        self._network = network
        self._judge = judge
        self._rng = rng
        self._brokers = brokers
        self._call = 0

    def step(self) -> None:
        """Sends the next request."""
        raise NotImplementedError

    def _leader(self) -> Broker | None:
        """Asks a broker for the leader; what it says may be old."""
        alive = self._brokers()
        if not alive:
            return None
        state = self._rng.choice(alive).image.state(self.key)
        if state is None:
            return None
        return next((it for it in alive if it.id == state.leader), None)

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
        values = self._batch

        def request(broker: Broker, number: int) -> None:
            broker.produce(
                self.key,
                values,
                lambda code, base: broker.reply_to_clients(
                    lambda: self._answered(number, values, code, base)
                ),
            )

        self._ask(self._leader(), request)

    def _answered(self, number: int, values: Sequence[int], code: int, base: int) -> None:
        # a late answer is an acknowledgement all the same
        if code == 0:
            for value, offset in zip(values, range(base, base + len(values)), strict=True):
                self._judge.acknowledges(self.key, value, offset)
            self.acknowledged = max(self.acknowledged, values[-1] + 1)
        elif code == OutOfOrderSequenceNumberError.code and number == self._call:
            self._judge.require(
                False, f"lost: the log of {self.key.partition} lacks what precedes {values[0]}"
            )
        self._next(number, self._rng.randint(0, 60) if code == 0 else self._pause())


class Consumer(Client):
    """Reads from the start, at its own pace, and asks now and then how far it could."""

    offset = 0

    def step(self) -> None:
        """Fetches, or asks for the end."""

        def fetch(broker: Broker, number: int) -> None:
            code, records = broker.read(self.key, self.offset)
            broker.reply_to_clients(lambda: self._answered(number, code, records))

        def ask_end(broker: Broker, number: int) -> None:
            code, end = broker.latest(self.key)
            # without its lease a leader tells what it knew when that ended, which others may know better by now
            is_sure = code == 0 and broker.holds_lease()
            broker.reply_to_clients(lambda: self._end_told(number, end, is_sure=is_sure))

        self._ask(self._leader(), ask_end if self._rng.random() < ENDS else fetch)

    def _end_told(self, number: int, end: int, *, is_sure: bool) -> None:
        if number == self._call:
            if is_sure:
                self._judge.tells_end(self.key, end)
            self._next(number, self._rng.randint(20, 150))

    def _answered(self, number: int, code: int, records: list[Record]) -> None:
        if number != self._call:
            return
        if code == 0:
            self._judge.reads(self.key, self.offset, records)
            self.offset += len(records)
        self._next(number, self._rng.randint(20, 150))
