"""When all logs of a broker's start count as open."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fastlog.broker import opening as opening_module
from fastlog.broker.opening import Opening
from tests.support.broker import wait_until

WAIT_SECONDS = 10.0


class Logs:
    def __init__(self) -> None:
        self.open: list[tuple[str, int, int]] = []
        self.offline: list[tuple[str, bytes, int]] = []
        self.finished = threading.Event()

    def log_sizes(self) -> list[tuple[str, int, int]]:
        return list(self.open)

    def offline_replicas(self) -> list[tuple[str, bytes, int]]:
        return list(self.offline)

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


def test_what_is_on_a_disk_that_failed_is_not_waited_for() -> None:
    logs = Logs()
    opening = Opening(logs, lambda: {("orders", 0)})
    opening.start()
    assert not logs.finished.wait(0.3)
    logs.offline.append(("orders", bytes(16), 0))
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


def test_directories_of_a_topic_that_cannot_be_read_are_named_and_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs = Logs()
    unreadable = {Path("/data/orders-0"): "orders"}
    opening = Opening(logs, set, lambda: dict(unreadable))
    opening.start()
    assert not logs.finished.wait(0.5)
    (said,) = [it.getMessage() for it in caplog.records if "cannot be read" in it.getMessage()]
    assert "topic=orders directory=/data/orders-0" in said
    # it was mended, and another controller told of it
    unreadable.clear()
    assert logs.finished.wait(WAIT_SECONDS)
    opening.stop()


def test_logs_that_stay_closed_are_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "COMPLAIN_SECONDS", 0.3)
    logs = Logs()
    opening = Opening(logs, lambda: {("orders", 0)})
    opening.start()
    wait_until("it is named", lambda: "partitions=orders-0" in caplog.text)
    assert not logs.finished.wait(0.6)
    opening.stop()
    assert caplog.text.count("some logs are not open") == 1


def test_an_error_of_ours_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def held() -> set[tuple[str, int]]:
        raise ZeroDivisionError("by nobody")

    opening = Opening(Logs(), held)
    opening.start()
    opening.stop()
    assert "the next start recovers all of them" in caplog.text


def test_a_stop_ends_the_wait() -> None:
    logs = Logs()
    opening = Opening(logs, lambda: {("orders", 0)})
    opening.start()
    opening.stop()
    assert not logs.finished.is_set()
