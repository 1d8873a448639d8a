"""When all logs of a broker's start count as open."""

from __future__ import annotations

import threading
from pathlib import Path

from fastlog.broker.opening import Opening

WAIT_SECONDS = 10.0


class Logs:
    def __init__(self) -> None:
        self.open: list[tuple[str, int, int]] = []
        self.finished = threading.Event()

    def log_sizes(self) -> list[tuple[str, int, int]]:
        return list(self.open)

    def finish_opening(self) -> list[Path]:
        self.finished.set()
        return []


def test_the_last_log_is_waited_for() -> None:
    logs = Logs()
    held = {("orders", 0), ("orders", 1)}
    opening = Opening(logs, lambda: held)
    logs.open.append(("orders", 0, 5))
    opening.start()
    assert not logs.finished.wait(0.3)
    logs.open.append(("orders", 1, 0))
    assert logs.finished.wait(WAIT_SECONDS)
    opening.stop()


def test_what_is_not_held_any_more_is_not_waited_for() -> None:
    logs = Logs()
    held = {("orders", 0)}
    opening = Opening(logs, lambda: held)
    opening.start()
    held.clear()
    assert logs.finished.wait(WAIT_SECONDS)
    opening.stop()


def test_a_stop_ends_the_wait() -> None:
    logs = Logs()
    opening = Opening(logs, lambda: {("orders", 0)})
    opening.start()
    opening.stop()
    assert not logs.finished.is_set()
