"""A broker's machine for the simulation of clusters."""

from collections.abc import Sequence
from typing import final

from fastlog.config.table import BrokerSettings, TopicSettings
from fastlog.native._engine import Engine

__all__ = ["SimulatedNode"]

@final
class SimulatedNode:
    """A broker's machine: disk and clocks made up, the data plane that of `Engine`, no threads.

    Nothing happens between calls, and all chance comes from the seed: the same calls give the same bytes. Tokens are
    the caller's numbers for requests. Every call raises a KafkaError where the engine would.
    """

    def __new__(cls, node_id: int, seed: int, *, cluster_id: str = "AAAAAAAAAAAAAAAAAAAAAQ") -> SimulatedNode:
        """A machine with an empty disk, at 0 ms; no process runs."""

    def start(self, *, replica_lag_max_ms: int = ...) -> str:
        """Starts a process on the disk: `clean`, `process died` or `machine died`, as for `Engine.open_directories`.

        A high watermark waits for followers that are about to join, if they were caught up not longer ago than
        `replica_lag_max_ms` (`replica.lag.time.max.ms`).
        """

    def finish_opening(self) -> int:
        """To be called when all partitions are open after a start; how many directories belong to no topic."""

    def engine(self, settings: BrokerSettings) -> Engine:
        """The engine of the process that runs, for calls that need no sockets; drop it before a stop."""

    def stop(self) -> None:
        """Ends the process well."""

    def crash(self, *, lose_unsynced: bool) -> None:
        """The process dies; with the machine, what was not synced is lost in any order. Faults end."""

    def wipe(self) -> None:
        """The process dies, and the disk is replaced by an empty one."""

    def is_dead(self) -> bool:
        """Whether a fault let the process die in a call: all later ones fail until `crash` and `start`."""

    def set_faults(
        self,
        *,
        die_in_calls: int | None = None,
        short_write: int | None = None,
        room: int | None = None,
        write_error: bool = False,
        sync_error: bool = False,
    ) -> None:
        """What calls to the disk meet from now on: death in the nth from now, bytes a write, bytes left, EIO."""

    def advance_to(self, now_ms: int) -> None:
        """Lets the monotonic clock go on, never back; deadlines pass at their own times."""

    def jump_to(self, now_ms: int) -> None:
        """Lets the monotonic clock go on as for a process that was stopped: deadlines pass at `now_ms`, not before."""

    def set_wall_clock(self, ahead_ms: int) -> None:
        """How far the wall clock is ahead of the monotonic one."""

    def next_due_ms(self) -> int | None:
        """When the process has something to do next."""

    def run_syncs(self) -> None:
        """Does the syncs that appends asked for (`fastlog.durability = fsync`); answers who waits for them."""

    def checkpoint(self) -> None:
        """Writes all checkpoints."""

    def flush(self) -> None:
        """Syncs all logs, as a system does some time after they were written, and writes all checkpoints."""

    def open_partitions(
        self, topic: str, topic_id: bytes, partitions: Sequence[tuple[int, int]], settings: TopicSettings
    ) -> None:
        """Opens or makes the logs of (partition, leader epoch) pairs and leads them.

        All are tried; the first failure is raised, a KafkaError, and each is logged.
        """

    def handle(self, token: int, request: bytes, *, inter_broker: bool = False) -> bytes | None:
        """The answer to a request (header and body); None when it comes later or never.

        RuntimeError where a broker closes the connection.
        """

    def drain(self) -> list[tuple[int, bytes | None, str | None]]:
        """The answers that came since: (token, answer, why the connection is closed instead)."""

    def look(self, topic: str, index: int) -> tuple[int, int, int, list[tuple[int, int]]]:
        """Log start, high watermark, log end, and the leader epochs with their first offsets."""

    def records(self, topic: str, index: int, start: int, end: int) -> list[tuple[int, int, int]]:
        """(offset, leader epoch, CRCs of key and value in one number) from `start` on and below `end`."""
