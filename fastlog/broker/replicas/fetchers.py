"""Those who fetch, threads as a rule: one for each leader that is followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastlog.broker.replicas.fetching import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastlog.ports import PartitionKey, Registration

LISTENER = "BROKER"


class Fetching(Protocol):
    """What follows one leader; `LeaderFetcher` says what each does."""

    @property
    def counts(self) -> Counts: ...  # noqa: D102
    def start(self) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def follow(self, partitions: Sequence[tuple[PartitionKey, str, int]]) -> None: ...  # noqa: D102
    def leave(self, keys: Sequence[PartitionKey], *, is_deleted: bool) -> None: ...  # noqa: D102
    def synced(self, keys: Sequence[PartitionKey]) -> None: ...  # noqa: D102
    def registered(self, broker_epoch: int | None) -> None: ...  # noqa: D102
    def is_at(self, endpoint: tuple[str, int] | None) -> None: ...  # noqa: D102


class Fetchers:
    """Those who fetch, by leader. The methods are for one thread; they do not block, but for `stop`."""

    def __init__(self, make: Callable[[int], Fetching]) -> None:
        """`make` makes the one for a leader."""
        self._make = make
        self._threads: dict[int, Fetching] = {}
        self._leader_of: dict[PartitionKey, int] = {}
        self._broker_epoch: int | None = None
        self._brokers: Mapping[int, Registration] = {}

    def __len__(self) -> int:
        """Number of partitions followed."""
        return len(self._leader_of)

    def counts(self) -> Counts:
        """What all of them counted. From any thread."""
        total = Counts()
        for thread in list(self._threads.values()):
            total.add(thread.counts)
        return total

    def follow(self, partitions: Sequence[tuple[PartitionKey, str, int, int]]) -> None:
        """Follows leaders in partitions: key, topic, leader, leader epoch; whoever was followed there is no more."""
        self.leave([key for key, *_ in partitions])
        by_leader: dict[int, list[tuple[PartitionKey, str, int]]] = {}
        for key, topic, leader, leader_epoch in partitions:
            self._leader_of[key] = leader
            by_leader.setdefault(leader, []).append((key, topic, leader_epoch))
        for leader, followed in by_leader.items():
            self._thread(leader).follow(followed)

    def leave(self, keys: Iterable[PartitionKey], *, is_deleted: bool = False) -> None:
        """Follows nobody in these partitions."""
        for leader, followed in self._by_leader(keys).items():
            self._threads[leader].leave(followed, is_deleted=is_deleted)
            for key in followed:
                del self._leader_of[key]

    def synced(self, keys: Iterable[PartitionKey]) -> None:
        """Logs here were synced."""
        for leader, followed in self._by_leader(keys).items():
            self._threads[leader].synced(followed)

    def registered(self, broker_epoch: int | None) -> None:
        """Under which broker epoch this broker fetches; None for none, and then it does not."""
        self._broker_epoch = broker_epoch
        for thread in self._threads.values():
            thread.registered(broker_epoch)

    def know(self, brokers: Mapping[int, Registration]) -> None:
        """Which brokers live, and where they listen."""
        before = {leader: self._endpoint(leader) for leader in self._threads}
        self._brokers = brokers
        for leader, thread in self._threads.items():
            # to be told interrupts a long poll
            if self._endpoint(leader) != before[leader]:
                thread.is_at(self._endpoint(leader))

    def stop(self) -> None:
        """Ends all threads; blocks."""
        for thread in self._threads.values():
            thread.stop()

    def _thread(self, leader: int) -> Fetching:
        thread = self._threads.get(leader)
        if thread is None:
            thread = self._threads[leader] = self._make(leader)
            thread.is_at(self._endpoint(leader))
            thread.registered(self._broker_epoch)
            thread.start()
        return thread

    def _endpoint(self, leader: int) -> tuple[str, int] | None:
        broker = self._brokers.get(leader)
        return None if broker is None else broker.endpoints.get(LISTENER)

    def _by_leader(self, keys: Iterable[PartitionKey]) -> dict[int, list[PartitionKey]]:
        found: dict[int, list[PartitionKey]] = {}
        for key in keys:
            if key in self._leader_of:
                found.setdefault(self._leader_of[key], []).append(key)
        return found
