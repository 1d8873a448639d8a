"""The producer's sequence rules against a model broker: lost requests, lost answers, refusals, late copies, expiry.

Whatever happens, no record is twice in the log, records are in the order of `send`, an acknowledged record lies
where the delivery says, and one that failed with "not in the log" is not there.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlog.client.producer.batch import Batch
from fastlog.client.producer.partition_queue import Action, PartitionQueue
from fastlog.errors import error_for
from fastlog.native._sending import Lock

REMEMBERED = 5


class Records:
    """Stands in for a batch builder."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.count = len(ids)
        self.size_bytes = len(ids)


@dataclass
class Request:
    """A batch as it travels: the identity is a copy, as in bytes."""

    batch: Batch
    ids: list[int]
    identity: tuple[int, int, int]


@dataclass
class ModelBroker:
    """One partition of a broker that keeps Kafka's rules about sequences."""

    log: list[int] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    recent: dict[int, deque[tuple[int, int, int]]] = field(default_factory=dict)

    def append(self, request: Request) -> tuple[int, int]:
        """(error code, base offset)."""
        producer_id, epoch, sequence = request.identity
        count = len(request.ids)
        known = self.epochs.get(producer_id)
        if known is not None:
            if epoch < known:
                return 47, -1
            if epoch > known:
                if sequence != 0:
                    return 45, -1
            else:
                recent = self.recent[producer_id]
                for first, last, offset in recent:
                    if (first, last) == (sequence, sequence + count - 1):
                        return 0, offset
                if sequence != recent[-1][1] + 1:
                    return 45, -1
        offset = len(self.log)
        self.log += request.ids
        if known != epoch:
            self.epochs[producer_id] = epoch
            self.recent[producer_id] = deque(maxlen=REMEMBERED)
        self.recent[producer_id].append((sequence, sequence + count - 1, offset))
        return 0, offset

    def fence(self, request: Request) -> None:
        """Knows a newer epoch of the request's producer id from now on."""
        producer_id, epoch, _ = request.identity
        self.epochs[producer_id] = max(self.epochs.get(producer_id, 0), epoch + 1)
        self.recent[producer_id] = deque([(-2, -2, -1)], maxlen=REMEMBERED)


class World:
    """A queue, a broker, the connection between them, and connections that have ended with requests on them."""

    def __init__(self) -> None:
        self.broker = ModelBroker()
        self.queue = PartitionQueue(
            "t",
            0,
            idempotent=True,
            in_flight_max=5,
            retriable=lambda code: error_for(code).retriable,
            retry_delay_ms=lambda attempt: 0,
        )
        self.lock = Lock()
        self.requests: deque[Request] = deque()
        self.answers: deque[tuple[Batch, int, int]] = deque()
        self.ghosts: list[deque[Request]] = []
        self.connection = object()
        self.next_id = 0
        self.next_producer_id = 100
        self.acknowledged: dict[int, int] = {}
        self.certainly_absent: set[int] = set()
        self.ended: set[int] = set()
        self.ids: dict[Batch, list[int]] = {}

    def add(self, count: int) -> None:
        ids = list(range(self.next_id, self.next_id + count))
        self.next_id += count
        batch = Batch("t", 0, Records(ids), self.lock, created_ms=0)
        batch.count = count
        self.ids[batch] = ids
        self.queue.waiting.append(batch)

    def send(self) -> None:
        queue = self.queue
        if not queue.may_send(0, self.connection):
            if queue.wants_producer_id and not queue.in_flight:
                queue.adopt(self.next_producer_id, 0)
                self.next_producer_id += 1
            return
        batch = queue.take(self.connection)
        self.requests.append(Request(batch, self.ids[batch], batch.identity))

    def broker_step(self, refuse_with: int = 0) -> None:
        if not self.requests:
            return
        request = self.requests.popleft()
        if refuse_with == 7:  # appended, but not replicated in time
            code, _ = self.broker.append(request)
            self.answers.append((request.batch, code or 7, -1))
        elif refuse_with == 47:  # somebody else has taken the next epoch of this producer id
            self.broker.fence(request)
            self.answers.append((request.batch, 47, -1))
        elif refuse_with:
            self.answers.append((request.batch, refuse_with, -1))
        else:
            self.answers.append((request.batch, *self.broker.append(request)))

    def client_step(self) -> None:
        if not self.answers:
            return
        batch, code, offset = self.answers.popleft()
        verdict = self.queue.answered(batch, code, 0)
        self.carry_out(batch, verdict.action, offset)

    def carry_out(self, batch: Batch, action: Action, offset: int) -> None:
        ids = self.ids[batch]
        if action is Action.COMPLETE:
            self.ended |= set(ids)
            for index, number in enumerate(ids):
                self.acknowledged[number] = offset + index
        elif action is Action.FAIL:
            self.ended |= set(ids)
            if not batch.uncertain:
                self.certainly_absent |= set(ids)
        elif action is Action.SPLIT:
            middle = len(ids) // 2
            parts = [
                Batch("t", 0, Records(half), self.lock, created_ms=0) for half in (ids[:middle], ids[middle:])
            ]
            for part in parts:
                part.count = part.builder.count
                self.ids[part] = part.builder.ids
            self.queue.replace(batch, parts)

    def disconnect(self, *, ghost: bool) -> None:
        if ghost:
            self.ghosts.append(self.requests)
        self.requests = deque()
        self.answers.clear()
        self.connection = object()
        for batch in list(self.queue.in_flight):
            self.carry_out(batch, self.queue.lost(batch, 0).action, -1)

    def ghost_step(self) -> None:
        for ghost in self.ghosts:
            if ghost:
                self.broker.append(ghost.popleft())
                return

    def expire(self) -> None:
        for batch in [*self.queue.in_flight, *self.queue.waiting]:
            if batch.abandoned:
                continue
            self.queue.expired(batch)
            self.ended |= set(self.ids[batch])
            if not batch.uncertain and not batch.abandoned:
                self.certainly_absent |= set(self.ids[batch])
            return

    def settle(self) -> None:
        """No more faults: everything that can arrive does."""
        for _ in range(3 * len(self.ids) + 60):
            self.send()
            self.broker_step()
            self.client_step()
            self.ghost_step()
        assert not self.queue.waiting
        assert not self.queue.in_flight

    def check(self) -> None:
        log = self.broker.log
        assert len(set(log)) == len(log), f"a record is twice in the log: {log}"
        assert log == sorted(log), f"records are out of order: {log}"
        for number, offset in self.acknowledged.items():
            assert log[offset] == number
        assert not self.certainly_absent & set(log)
        assert self.ended == set(range(self.next_id))


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.just("send")),
    st.tuples(st.just("send")),
    st.tuples(st.just("broker_step"), st.sampled_from([0, 0, 0, 0, 6, 19, 7, 10, 87, 2, 47])),
    st.tuples(st.just("client_step")),
    st.tuples(st.just("disconnect")),
    st.tuples(st.just("disconnect_ghost")),
    st.tuples(st.just("ghost_step")),
    st.tuples(st.just("expire")),
)


@given(st.lists(STEPS, max_size=120))
@settings(max_examples=2000, deadline=None)
def test_no_duplicate_no_reordering_no_silent_loss(steps: list[tuple[object, ...]]) -> None:
    world = World()
    for name, *arguments in steps:
        if name == "disconnect_ghost":
            world.disconnect(ghost=True)
        elif name == "disconnect":
            world.disconnect(ghost=False)
        else:
            getattr(world, str(name))(*arguments)
    world.settle()
    world.check()


MOVES = (
    ["add"] * 4
    + ["send"] * 8
    + ["broker_step"] * 6
    + ["client_step"] * 7
    + ["disconnect_ghost"] * 2
    + ["ghost_step"] * 3
    + ["expire"] * 2
    + ["refuse"]
)


@pytest.mark.parametrize("first_seed", range(0, 20_000, 5_000))
def test_late_copies_from_ended_connections_do_no_harm(first_seed: int) -> None:
    """Random walks with many requests that a broker still reads after the client has given up their connection."""
    for seed in range(first_seed, first_seed + 5_000):
        dice = random.Random(seed)
        world = World()
        for move in dice.choices(MOVES, k=dice.randint(10, 60)):
            if move == "add":
                world.add(dice.randint(1, 3))
            elif move == "disconnect_ghost":
                world.disconnect(ghost=True)
            elif move == "refuse":
                world.broker_step(dice.choice([6, 10, 87, 7, 19, 2, 47]))
            else:
                getattr(world, move)()
        try:
            world.settle()
            world.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
