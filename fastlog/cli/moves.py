"""Carrying out a plan of reassignments from the command line: some at a time, waited for, and told when interrupted."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import click

from fastlog.cli import report, throttle
from fastlog.cli.interrupt import sigterm_interrupts
from fastlog.errors import FastlogError, NoReassignmentInProgressError, UnknownTopicOrPartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.client.admin import Admin
    from fastlog.errors import KafkaError

    Place = tuple[str, int]
    Row = tuple[int, ...]

POLL_SECONDS = 0.25
# brokers hear of a change within milliseconds; who has not after so long will not
HEARD_SECONDS = 15.0
# who sees nothing arrive for so long is told of what cannot
PATIENCE_SECONDS = 5.0


def carry_out(
    admin: Admin,
    plan: Mapping[Place, Row],
    *,
    at_once: int,
    again: str,
    bytes_per_second: int | None = None,
) -> dict[Place, KafkaError | None]:
    """Reassigns what the plan names, `at_once` partitions at a time, and returns when all have moved.

    Answers an error, or None, for each partition; one that is refused keeps no other from moving. Interrupted, or where
    no broker answers any more, it raises FastlogError, which names `again`, the command that plans what is left.
    Meanwhile each broker sends and takes `bytes_per_second` of it at most, None for no limit; that stays in force where
    this does not come to its end.
    """
    moves = _Moves(admin, plan)
    throttled = plan and bytes_per_second is not None
    try:
        with sigterm_interrupts():
            if plan and bytes_per_second is not None:
                throttle.begin(admin, plan, bytes_per_second)
            _move_all(moves, plan, at_once)
            if throttled:
                throttle.lift(admin, {topic for topic, _ in plan})
    except (KeyboardInterrupt, FastlogError) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).rstrip(".")
        stays = f"; the throttle stays until `{throttle.LIFT}`" if throttled else ""
        raise FastlogError(
            f"{why}; {report.counted(len(moves.under_way), 'partition')} under way will arrive without this "
            f"command. `fastlog cluster reassign --list` shows them, `--cancel TOPIC:PARTITION` gives one up, and "
            f"`{again}` goes on with the rest{stays}"
        ) from (None if isinstance(error, KeyboardInterrupt) else error)
    return moves.found


def _move_all(moves: _Moves, plan: Mapping[Place, Row], at_once: int) -> None:
    waiting = iter(sorted(plan))
    patient_until = time.monotonic() + PATIENCE_SECONDS
    with report.progress("moving", len(plan), unit="partitions") as advance:
        while len(moves.found) < len(plan):
            moves.begin(list(itertools.islice(waiting, at_once - len(moves.under_way))))
            ended = moves.look()
            advance(ended)
            if ended:
                patient_until = time.monotonic() + PATIENCE_SECONDS
                continue
            if time.monotonic() > patient_until:
                moves.tell_what_waits()
                patient_until = time.monotonic() + PATIENCE_SECONDS
            time.sleep(POLL_SECONDS)


class _Moves:
    """Which partitions of a plan are under way, and what became of the others."""

    def __init__(self, admin: Admin, plan: Mapping[Place, Row]) -> None:
        self._admin = admin
        self._plan = plan
        #: partition -> until when the broker that is asked may not have heard of what another one has told
        self.under_way: dict[Place, float] = {}
        self.found: dict[Place, KafkaError | None] = {}
        self._told: set[Place] = set()

    def begin(self, batch: Sequence[Place]) -> None:
        """Has partitions reassigned."""
        if not batch:
            return
        answers = self._admin.reassign({place: self._plan[place] for place in batch})
        for place in batch:
            if (error := answers.get(place)) is not None:
                self.found[place] = error
            else:
                self.under_way[place] = time.monotonic() + HEARD_SECONDS

    def look(self) -> int:
        """Asks which partitions have their replicas now; how many more are settled than at the last look."""
        before = len(self.found)
        now = time.monotonic()
        listed = self._admin.reassignments() if self.under_way else {}
        for place in self.under_way.keys() & listed.keys():
            self.under_way[place] = now + HEARD_SECONDS
        silent = self.under_way.keys() - listed.keys()
        for topic in sorted({name for name, _ in silent}):
            self._settle([place for place in silent if place[0] == topic], topic, now)
        return len(self.found) - before

    def _settle(self, places: Sequence[Place], topic: str, now: float) -> None:
        """Of partitions that nobody lists: whether they arrived, or were given up by somebody else."""
        try:
            rows = {it.partition: it.replicas for it in self._admin.describe_topic(topic).partitions}
        except UnknownTopicOrPartitionError as error:
            self.found |= dict.fromkeys(places, error)
            rows = {}
        for place in places:
            row = rows.get(place[1])
            if row == self._plan[place]:
                self.found[place] = None
            elif now > self.under_way[place]:
                self.found[place] = NoReassignmentInProgressError(
                    f"cancelled or replaced by somebody else: its replicas are {row} instead of {self._plan[place]}"
                )
            if place in self.found:
                del self.under_way[place]

    def tell_what_waits(self) -> None:
        """Says on standard error, once for each partition, what cannot arrive before somebody does something."""
        admin = self._admin
        live = {it.node_id for it in admin.describe_cluster().brokers}
        leaderless = {
            (topic.name, it.partition)
            for topic in admin.describe_topics()
            for it in topic.partitions
            if it.leader < 0
        }
        reasons: dict[str, list[Place]] = defaultdict(list)
        for place, move in sorted(admin.reassignments().items()):
            if place not in self.under_way or place in self._told:
                continue
            away = sorted(set(move.adding) - live)
            if place in leaderless:
                have = sorted(set(move.replicas) - set(move.adding))
                reasons[
                    f"no broker leads it, so it cannot be copied: start who has its records, of the brokers {have}"
                ].append(place)
            elif away:
                reasons[f"it is to be copied to the brokers {away}, which are away: start them"].append(place)
        for reason, places in reasons.items():
            self._told |= set(places)
            topic, partition = places[0]
            click.echo(
                f"{report.counted(len(places), 'partition')} cannot move now, {topic}:{partition} for one: {reason}",
                err=True,
            )
