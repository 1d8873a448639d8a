"""The application's commits: by hand, in the background, and by themselves."""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from fastlog.client.committed_offset import CommittedOffset
from fastlog.client.connection import monotonic_ms
from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.client.group.asking import Ask
from fastlog.errors import BufferFullError, FastlogError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastlog.client.consumer.options import ConsumerOptions
    from fastlog.client.group.listeners import Committed
    from fastlog.state.assignors import Partition

LOGGER = logging.getLogger("fastlog.consumer")
#: a wait for the group's thread looks for signals this often
WAIT_SECONDS_MAX = 0.1
#: commits in the background at one time; who commits each record of a poll stays below
UNTOLD_MAX = 100_000


class Commits:
    """For the thread that reads; what was asked comes back on the group's."""

    def __init__(
        self,
        *,
        options: ConsumerOptions,
        handed_out: Callable[[], dict[TopicPartition, int]],
        ask: Callable[[Ask], None],
        call_application: Callable[[], None],
    ) -> None:
        """`handed_out` gives the positions after all that the application got."""
        self._options = options
        self._handed_out = handed_out
        self._ask = ask
        self._call_application = call_application
        self._finished: deque[Callable[[], None]] = deque()
        #: positions as the coordinator has them, as far as this consumer knows
        self._known: dict[TopicPartition, int] = {}
        #: commits in the background whose end the application has not heard of
        self._untold = 0
        #: nothing waits longer than this: the consumer is being closed
        self.end_ms = float("inf")

    # --- by hand ---

    def commit(self, offsets: Mapping[TopicPartition, CommittedOffset] | None, timeout_ms: float) -> None:
        """Commits and waits for it; None is all that was handed out. Raises what went wrong."""
        chosen = self._chosen(offsets)
        self.tell_finished()
        if not chosen:
            return
        self._wait_for(chosen, (), timeout_ms)
        self._learn(chosen)
        self.tell_finished()

    def commit_async(
        self, offsets: Mapping[TopicPartition, CommittedOffset] | None, on_done: Committed | None
    ) -> None:
        """Commits in the background; `on_done` is called by `tell_finished`. Raises BufferFullError."""
        chosen = self._chosen(offsets)
        self.tell_finished()
        if self._untold >= UNTOLD_MAX:
            raise BufferFullError(
                f"{UNTOLD_MAX} commits in the background are not settled: the coordinator does not answer, or not as "
                "fast; commit less often, once a poll at most"
            )
        self._untold += 1

        def done(error: FastlogError | None, _: object) -> None:
            self._finished.append(partial(self._finish, chosen, error, on_done))
            self._call_application()

        self._ask(Ask(chosen, (), monotonic_ms() + self._options.request_timeout_ms, False, [done]))

    def committed(
        self, partitions: Iterable[TopicPartition], timeout_ms: float
    ) -> dict[TopicPartition, CommittedOffset]:
        """The group's positions of these partitions, without those that have none."""
        found = self._wait_for(None, tuple(partitions), timeout_ms)
        return {TopicPartition(*one): committed for one, committed in found.items() if committed.offset >= 0}

    def tell_finished(self) -> None:
        """Calls back for the commits in the background that are settled."""
        while self._finished:
            self._finished.popleft()()

    # --- by themselves ---

    def commit_in_background(self) -> None:
        """Commits what was handed out since the last time."""
        offsets = self._uncommitted()
        if offsets:
            self.commit_async(offsets, tell_automatic)

    def commit_before_release(self, timeout_ms: float) -> None:
        """Commits what was handed out before its partitions go, if that is wanted; a failure is only logged."""
        offsets = self._uncommitted() if self._options.enable_auto_commit else {}
        if not offsets:
            return
        try:
            self.commit(offsets, timeout_ms)
        except FastlogError as error:
            LOGGER.warning("positions are not committed, so some records will be read again: %s", error)

    def know(self, tp: TopicPartition, offset: int) -> None:
        """The coordinator has this position."""
        self._known[tp] = offset

    def leave_alone(self) -> None:
        """Nothing of what was handed out is to be committed by itself."""
        self._learn(self._chosen(None))

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """These partitions are others' from now on."""
        for tp in partitions:
            self._known.pop(tp, None)

    # --- within ---

    def _wait_for(
        self,
        offsets: Mapping[TopicPartition, CommittedOffset] | None,
        partitions: tuple[TopicPartition, ...],
        timeout_ms: float,
    ) -> dict[Partition, CommittedOffset]:
        settled = threading.Event()
        outcome: list[Any] = []

        def done(error: FastlogError | None, found: dict[Partition, CommittedOffset]) -> None:
            outcome.append((error, found))
            settled.set()

        deadline = min(monotonic_ms() + timeout_ms, self.end_ms)
        self._ask(Ask(offsets, partitions, deadline, True, [done]))
        # the group's thread settles it in time; short waits let a Ctrl-C through
        while not settled.wait(WAIT_SECONDS_MAX):
            pass
        error, found = outcome[0]
        if error is not None:
            raise error
        return dict(found)

    def _chosen(
        self, offsets: Mapping[TopicPartition, CommittedOffset] | None
    ) -> dict[TopicPartition, CommittedOffset]:
        if offsets is not None:
            return dict(offsets)
        return {tp: CommittedOffset(offset) for tp, offset in self._handed_out().items()}

    def _uncommitted(self) -> dict[TopicPartition, CommittedOffset]:
        return {tp: one for tp, one in self._chosen(None).items() if self._known.get(tp) != one.offset}

    def _learn(self, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        self._known.update({tp: committed.offset for tp, committed in offsets.items()})

    def _finish(
        self,
        offsets: dict[TopicPartition, CommittedOffset],
        error: FastlogError | None,
        on_done: Committed | None,
    ) -> None:
        self._untold -= 1
        if error is None:
            self._learn(offsets)
        if on_done is not None:
            on_done(offsets, error)
        elif error is not None:
            LOGGER.warning("a commit in the background failed: %s", error)


def tell_automatic(_offsets: dict[TopicPartition, CommittedOffset], error: FastlogError | None) -> None:
    """Says that a commit that nobody asked for failed."""
    if error is not None:
        LOGGER.warning("positions are not committed, the next try follows: %s", error)
