"""Where replicas should lie so that the load is even: on all brokers, or on all but one that goes.

A plan moves as few replicas as will do: each move goes from a broker with more to one with at least two fewer, and
never makes a partition use fewer racks. Leaders are evened out among the replicas there are, which moves no records.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fastlog.errors import InvalidReplicationFactorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    #: a topic's name and a partition
    Place = tuple[str, int]
    #: the replicas of a partition, the preferred leader first
    Row = tuple[int, ...]
    Racks = Mapping[int, str | None]


def balanced(rows: Mapping[Place, Row], racks: Racks) -> dict[Place, Row]:
    """New replicas for the partitions that should have others, over the brokers that `racks` names.

    Replicas on brokers that it does not name stay where they are. Afterwards two brokers' numbers of replicas differ by
    one at most, as far as racks allow, and so do their numbers of preferred leaders, as far as the replicas do. What
    is even already is left alone, so the plan of a planned cluster is empty.
    """
    spread = _Spread(rows, racks)
    spread.use_all_racks()
    spread.even_replicas()
    spread.even_leaders()
    return {place: row for place, row in spread.rows.items() if row != rows[place]}


def without_broker(rows: Mapping[Place, Row], leaving: int, racks: Racks) -> dict[Place, Row]:
    """New replicas for every partition that `leaving` holds, in its place of the order, over the other brokers.

    Racks that a partition does not use yet are preferred, then brokers with few replicas. Raises
    InvalidReplicationFactorError where a partition has no broker left to go to.
    """
    others = {broker: rack for broker, rack in racks.items() if broker != leaving}
    spread = _Spread(rows, others)
    moves = {}
    for place in sorted(rows):
        row = rows[place]
        if leaving not in row:
            continue
        free = [broker for broker in others if broker not in row]
        if not free:
            raise InvalidReplicationFactorError(
                f"{place[0]}:{place[1]} has {len(row)} replicas, and without broker {leaving} there are {len(others)} "
                f"brokers: add one, or lower its replication factor first"
            )
        spread.move(place, leaving, spread.best(row, leaving, free))
        moves[place] = spread.rows[place]
    return moves


class _Spread:
    """The replicas as planned so far, and what each broker has of them."""

    def __init__(self, rows: Mapping[Place, Row], racks: Racks) -> None:
        self.rows = dict(rows)
        self._racks = racks
        # of each broker, in the order in which its replicas are given away
        self._holds: dict[int, dict[Place, None]] = {broker: {} for broker in sorted(racks)}
        for place in _many_of_a_topic_first(rows):
            for broker in rows[place]:
                if broker in self._holds:
                    self._holds[broker][place] = None
        # how far the replicas of a source were looked through for a target: to begin anew each time is quadratic
        self._cursors: dict[tuple[int, int], Iterator[Place]] = {}

    def move(self, place: Place, source: int, target: int) -> None:
        """Puts one broker in another's place."""
        self.rows[place] = _swapped(self.rows[place], source, target)
        self._holds.get(source, {}).pop(place, None)
        self._holds[target][place] = None

    def best(self, row: Row, leaving: int, candidates: Iterable[int]) -> int:
        """Of the most racks, then with the fewest replicas, then the lowest id."""
        return min(
            candidates,
            key=lambda it: (-self._racks_of(_swapped(row, leaving, it)), len(self._holds[it]), it),
        )

    def use_all_racks(self) -> None:
        """Moves replicas to racks that their partition does not use yet, while it uses another one twice."""
        for place in sorted(self.rows):
            while (change := self._wider(place)) is not None:
                self.move(place, *change)

    def _wider(self, place: Place) -> tuple[int, int] | None:
        row = self.rows[place]
        now = self._racks_of(row)
        if now == len(row):
            return None
        changes = (
            (source, target)
            for source in row
            if source in self._holds
            for target in self._holds
            if target not in row and self._racks_of(_swapped(row, source, target)) > now
        )
        # followers first: their leader goes on leading
        return min(
            changes,
            key=lambda it: (it[0] == row[0], len(self._holds[it[1]]), -len(self._holds[it[0]]), it),
            default=None,
        )

    def even_replicas(self) -> None:
        """Moves replicas from who has many to who has few until that helps no more."""
        while (found := self._next_move()) is not None:
            self.move(*found)

    def _next_move(self) -> tuple[Place, int, int] | None:
        """Of the widest difference; each lowers the sum of squares of the brokers' numbers, so there is an end."""
        order = sorted(self._holds, key=lambda it: (len(self._holds[it]), it))
        pairs = [
            (source, target)
            for target in order
            for source in reversed(order)
            if len(self._holds[source]) - len(self._holds[target]) >= 2
        ]
        pairs.sort(key=lambda it: len(self._holds[it[1]]) - len(self._holds[it[0]]))
        for source, target in pairs:
            place = self._movable(source, target)
            if place is not None:
                return place, source, target
        return None

    def _movable(self, source: int, target: int) -> Place | None:
        """The next replica to give away; begins anew at the end, since moves make other moves possible."""
        for _ in range(2):
            for place in self._cursors.get((source, target), ()):
                if place in self._holds[source] and self._may_move(place, source, target):
                    return place
            self._cursors[source, target] = iter(list(self._holds[source]))
        return None

    def _may_move(self, place: Place, source: int, target: int) -> bool:
        row = self.rows[place]
        return target not in row and self._racks_of(_swapped(row, source, target)) >= self._racks_of(row)

    def even_leaders(self) -> None:
        """Changes the order of replicas until nobody is preferred for two more than one it could hand them on to."""
        leads: dict[int, dict[Place, None]] = {broker: {} for broker in self._holds}
        for place, row in self.rows.items():
            if row[0] in leads:
                leads[row[0]][place] = None
        while (chain := self._chain(leads)) is not None:
            for source, target, place in chain:
                self.rows[place] = (target, *(it for it in self.rows[place] if it != target))
                leads[target][place] = leads[source].pop(place)

    def _chain(self, leads: dict[int, dict[Place, None]]) -> list[tuple[int, int, Place]] | None:
        """Hand-overs from a broker that leads many to one that leads at least two fewer, over others if need be."""
        for first in sorted(leads, key=lambda it: (-len(leads[it]), it)):
            came: dict[int, tuple[int, int, Place]] = {}
            queue = deque([first])
            while queue:
                source = queue.popleft()
                for target, place in self._heirs(source, leads[source]):
                    if target in came or target == first:
                        continue
                    came[target] = (source, target, place)
                    if len(leads[first]) - len(leads[target]) >= 2:
                        return _way(came, first, target)
                    queue.append(target)
        return None

    def _heirs(self, source: int, led: Iterable[Place]) -> Iterator[tuple[int, Place]]:
        """Who could lead one of these partitions instead, each once."""
        seen = {source}
        for place in led:
            for broker in self.rows[place][1:]:
                if broker not in seen and broker in self._holds:
                    seen.add(broker)
                    yield broker, place
            if len(seen) == len(self._holds):
                return

    def _racks_of(self, row: Row) -> int:
        """How many racks a partition is in; a broker without one counts as a rack of its own."""
        named = [self._racks.get(broker) for broker in row]
        return len({it for it in named if it is not None}) + named.count(None)


def _way(came: Mapping[int, tuple[int, int, Place]], first: int, last: int) -> list[tuple[int, int, Place]]:
    """The hand-overs to `last`, the last one first: nobody hands on what it has yet to get."""
    chain = []
    while last != first:
        chain.append(came[last])
        last = came[last][0]
    return chain


def _swapped(row: Sequence[int], source: int, target: int) -> Row:
    return tuple(target if it == source else it for it in row)


def _many_of_a_topic_first(rows: Mapping[Place, Row]) -> list[Place]:
    """Partitions with high numbers first, so that those are moved that have many of their topic beside them."""
    return sorted(rows, key=lambda it: (-it[1], it[0]))
