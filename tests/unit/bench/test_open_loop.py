"""The open loop keeps its times, whatever the other side does: no coordinated omission."""

from __future__ import annotations

from fastlog.bench.harness.open_loop import NANOSECONDS, pace
from fastlog.bench.harness.statistics import percentile

MILLISECOND = 1_000_000


class Clock:
    """Time that passes only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now_ns = 5 * NANOSECONDS

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * NANOSECONDS)


class Server:
    """Answers in a tenth of a millisecond, but stalls once."""

    def __init__(self, clock: Clock, stall_at: int, stall_ms: int) -> None:
        self._clock = clock
        self._stall = (stall_at, stall_ms * MILLISECOND)
        self.times_ns: list[int] = []
        self.due_ns: list[int] = []

    def ask(self, number: int, due_ns: int) -> None:
        self._clock.now_ns += self._stall[1] if number == self._stall[0] else MILLISECOND // 10
        self.due_ns.append(due_ns)
        self.times_ns.append(self._clock.now_ns - due_ns)


def measure(stall_ms: int) -> Server:
    clock = Clock()
    server = Server(clock, stall_at=500, stall_ms=stall_ms)
    pace(server.ask, rate=1000, count=1000, clock_ns=clock, sleep=clock.sleep)
    return server


def test_operations_are_due_at_their_rate_even_behind_a_stall() -> None:
    server = measure(stall_ms=100)
    assert [due - server.due_ns[0] for due in server.due_ns] == [n * MILLISECOND for n in range(1000)]


def test_a_stall_of_the_server_shows_in_the_99th_percentile() -> None:
    quick, stalled = sorted(measure(stall_ms=0).times_ns), sorted(measure(stall_ms=100).times_ns)
    assert percentile(quick, 99) == MILLISECOND // 10
    # one operation in a thousand was slow; a loop that waits for each answer would not see it at 99 %. The hundred that
    # were due meanwhile waited for it
    assert percentile(stalled, 99) > 85 * MILLISECOND
    assert percentile(stalled, 50) == MILLISECOND // 10
    assert sum(time > 10 * MILLISECOND for time in stalled) > 90
