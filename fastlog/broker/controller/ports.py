"""What the cluster worker is given, beside `fastlog.broker.peers.ports`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from fastlog.state.controller.settings import TopicFacts

if TYPE_CHECKING:
    from fastlog.ports import Registration

Facts = Callable[[Mapping[str, str], Mapping[str, str]], TopicFacts]
"""From the settings of all brokers and a topic's own to what elections ask; knows the defaults of this process."""

Work = Callable[[], object]


class Replicas(Protocol):
    """The replicas of this broker, as far as its membership governs them."""

    def resign(self) -> None:
        """Nothing is led any more that was led until now. Returns when that is so: then a new lease may begin.

        May not wait for anything that the cluster worker does.
        """
        ...

    def registered(self, registration: Registration) -> None:
        """The broker has this broker epoch from now on. May only hand over."""
        ...

    def told(self, notice: object) -> None:
        """A Delta, Beacon or Snapshot of the controller in this very process. May only hand over."""
        ...

    def elected(self, controller_id: int, controller_epoch: int) -> None:
        """ZooKeeper says that this broker controls. May only hand over."""
        ...

    def set_lease(self, until_ns: int) -> None:
        """The lease ends then, in monotonic nanoseconds; 0 is at once. Called on the lease's thread, which waits."""
        ...


class Probe(Protocol):
    """Whether a port refuses connections."""

    def __call__(self, host: str, port: int, timeout_s: float) -> bool | None:
        """True for refused, False for accepted, None where neither came in time; raises nothing."""
        ...


class Schedule(Protocol):
    """The thread on which everything of the cluster worker runs."""

    def now_ms(self) -> int:
        """Monotonic milliseconds."""
        ...

    def put(self, work: Work) -> None:
        """Has `work` done after what was put before; from any thread."""
        ...

    def after(self, delay_ms: int, work: Work) -> None:
        """Has `work` done in so long; only on the thread itself."""
        ...


class Executor(Protocol):
    """Another thread, for what may take long; it does one thing after the other."""

    def put(self, work: Work) -> None:
        """Has `work` done after what was put before; it raises nothing."""
        ...
