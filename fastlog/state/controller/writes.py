"""Writes on their way: one for each partition at most, and the requests that wait for them.

A result that is not certain is read back and compared. It may still arrive later; then the next write, which is made
at the version that was read, meets a conflict, and what is stored is taken in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.ports import Conflict, PartitionKey, PartitionState, PartitionWrite, Unknown
from fastlog.state.controller.asks import Ask
from fastlog.state.controller.decide.election import changes_leader
from fastlog.state.controller.effects import Effect, Read, Write

if TYPE_CHECKING:
    from fastlog.ports import Registration, WriteResult


class Flight(msgspec.Struct):
    """A write on its way."""

    key: PartitionKey
    before: PartitionState
    after: PartitionState
    """With the version that it is conditional on."""
    ask: Ask | None
    """Who wanted it, None where the controller did."""


class Landed(msgspec.Struct):
    """A write whose outcome is certain."""

    flight: Flight
    actual: PartitionState | None
    """What is stored now; None for a partition that is not there any more."""
    applied: bool
    """Whether that is what was to be written."""


class Writes:
    """What is being written and read back. Numbers of writes and reads begin with `first` and never come twice."""

    def __init__(self, items_max: int, first: int) -> None:
        self._items_max = items_max
        self._next_id = first
        self._flights: dict[PartitionKey, Flight] = {}
        self._by_write: dict[int, tuple[PartitionKey, ...]] = {}
        self._by_read: dict[int, tuple[PartitionKey, ...]] = {}
        self._uncertain: dict[PartitionKey, None] = {}
        self._fresh: list[Flight] = []

    def __contains__(self, key: PartitionKey) -> bool:
        """Whether a write of the partition is on its way, or not certain yet."""
        return key in self._flights

    def number(self) -> int:
        """A number for a write of another kind."""
        self._next_id += 1
        return self._next_id - 1

    def counts_on_former(self, registration: Registration) -> bool:
        """As Partitions.counts_on_former, of what is on its way."""
        broker, epoch = registration.broker_id, registration.broker_epoch
        for flight in self._flights.values():
            after = flight.after
            if broker in after.isr:
                if dict(zip(after.isr, after.isr_epochs, strict=False)).get(broker) != epoch:
                    return True
            elif broker in after.elr and not registration.clean_start:
                return True
        return False

    def begin(self, flight: Flight) -> None:
        """Has it written by the next `effects`."""
        self._flights[flight.key] = flight
        self._fresh.append(flight)

    def effects(self) -> list[Effect]:
        """The writes that began: those that move a leader first, then those that only change the ISR."""
        fresh = sorted(self._fresh, key=lambda it: (not changes_leader(it.before, it.after), it.key))
        self._fresh = []
        found: list[Effect] = []
        for at in range(0, len(fresh), self._items_max):
            part = fresh[at : at + self._items_max]
            number = self.number()
            self._by_write[number] = tuple(it.key for it in part)
            found.append(Write(write_id=number, items=tuple(PartitionWrite(it.key, it.after) for it in part)))
        return found

    def ended(self, write_id: int, results: tuple[WriteResult, ...]) -> list[Landed]:
        """Takes in what became of a write; a number that is not known is an old one."""
        landed = []
        for key, result in zip(self._by_write.pop(write_id, ()), results, strict=False):
            flight = self._flights.get(key)
            if flight is None:
                continue
            if isinstance(result, Unknown):
                self._uncertain[key] = None
            elif isinstance(result, Conflict):
                landed.append(self._land(flight, result.actual))
            else:
                landed.append(self._land(flight, with_version(flight.after, result.version)))
        return landed

    def read_uncertain(self) -> list[Effect]:
        """Has everything read back whose outcome is not known and that is not being read."""
        keys = tuple(self._uncertain)
        self._uncertain = {}
        if not keys:
            return []
        number = self.number()
        self._by_read[number] = keys
        return [Read(read_id=number, keys=keys)]

    def read_back(
        self, read_id: int, states: tuple[PartitionState | Unknown | None, ...] | None
    ) -> list[Landed]:
        """Takes in what is stored; what could not be read stays uncertain."""
        keys = self._by_read.pop(read_id, ())
        if states is None:
            self._uncertain.update(dict.fromkeys(keys))
            return []
        landed = []
        for key, state in zip(keys, states, strict=False):
            if key not in self._flights:
                continue
            if isinstance(state, Unknown):
                self._uncertain[key] = None
            else:
                landed.append(self._land(self._flights[key], state))
        return landed

    def drop(self, key: PartitionKey) -> Flight | None:
        """Forgets the write of a partition that was deleted."""
        self._uncertain.pop(key, None)
        return self._flights.pop(key, None)

    def asks(self) -> list[Ask]:
        """The requests whose write is on its way."""
        return [it.ask for it in self._flights.values() if it.ask is not None]

    def _land(self, flight: Flight, actual: PartitionState | None) -> Landed:
        del self._flights[flight.key]
        applied = actual is not None and actual == with_version(flight.after, actual.version)
        return Landed(
            flight, actual, applied and actual is not None and actual.version > flight.before.version
        )


def with_version(state: PartitionState, version: int) -> PartitionState:
    """The state at another version."""
    return msgspec.structs.replace(state, version=version)
