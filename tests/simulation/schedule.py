"""What runs a controller's orders: the process itself."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.process import Process


class Schedule:
    """The thread of the cluster worker is the process."""

    def __init__(self, broker: Process) -> None:
        self._broker = broker

    def now_ms(self) -> int:
        """See fastlog.broker.controller.ports."""
        return self._broker.clock_ms

    def put(self, work: Callable[[], object]) -> None:
        """See fastlog.broker.controller.ports."""
        work()

    def after(self, delay_ms: int, work: Callable[[], object]) -> None:
        """See fastlog.broker.controller.ports."""

        def do() -> None:
            work()

        self._broker.later(delay_ms, do)
