"""A controller's term: from an election that was won to its end, or to the write that meets the next one's fence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fastlog.ports import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.controller.ports import Executor, Schedule
    from fastlog.ports import MetadataStore

T = TypeVar("T")


class Term:
    """Calls of the store while the term lasts. They block, and so are made on a thread of their own, in order."""

    def __init__(
        self,
        store: MetadataStore,
        epoch: int,
        *,
        schedule: Schedule,
        stores: Executor,
        fenced: Callable[[FencedError], None],
    ) -> None:
        """`store` is under the election's fence. `fenced` is told once at most, on the schedule's thread."""
        self.store = store
        self.epoch = epoch
        self._schedule = schedule
        self._stores = stores
        self._fenced = fenced
        self.is_over = False
        """Whether it has ended; what was called before is told nobody any more."""

    def end(self) -> None:
        """Ends it, on the schedule's thread."""
        self.is_over = True

    def call(
        self,
        call: Callable[[], T],
        ended: Callable[[T], None],
        *,
        over: Callable[[], None] = lambda: None,
    ) -> None:
        """Has the store called, and `ended` told the outcome; `over` instead where the term has ended by then."""

        def told(then: Callable[[], None]) -> None:
            self._schedule.put(lambda: over() if self.is_over else then())

        def fenced(error: FencedError) -> None:
            over()
            self._fenced(error)

        def blocking() -> None:
            # what is left of a term that is over is not worth a call
            if self.is_over:
                told(over)
                return
            try:
                outcome = call()
            except FencedError as error:
                told(partial(fenced, error))
            except Exception as error:
                # as what is done on the schedule's own thread
                told(partial(_raise, error))
            else:
                told(lambda: ended(outcome))

        self._stores.put(blocking)


def _raise(error: Exception) -> None:
    raise error
