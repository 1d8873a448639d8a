"""The worker's thread: in order, in time, and not ended by what fails on it."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from fastlog.broker.controller.loop import Loop
from fastlog.broker.system import SystemClock

SECONDS = 10


def test_what_is_put_is_done_in_order_and_all_of_it_before_the_end() -> None:
    done: list[int] = []
    loop = Loop("test", SystemClock(), lambda error: None)
    for number in range(1000):
        loop.put(lambda number=number: done.append(number))  # type: ignore[misc]
    loop.start()
    loop.stop()
    assert done == list(range(1000))


def test_what_is_due_later_is_done_in_the_order_of_its_time() -> None:
    done: SimpleQueue[str] = SimpleQueue()
    loop = Loop("test", SystemClock(), lambda error: None)

    def begin() -> None:
        loop.after(40, lambda: done.put("second"))
        loop.after(10, lambda: done.put("first"))
        loop.after(0, lambda: done.put("now"))

    loop.put(begin)
    loop.start()
    assert [done.get(timeout=SECONDS) for _ in range(3)] == ["now", "first", "second"]
    loop.stop()


def test_much_to_do_keeps_nothing_back_that_is_due() -> None:
    loop = Loop("test", SystemClock(), lambda error: None)
    was_due = threading.Event()

    def busy() -> None:
        # there is always more to do
        if not was_due.is_set():
            loop.put(busy)

    loop.put(lambda: loop.after(20, was_due.set))
    loop.put(busy)
    loop.start()
    assert was_due.wait(SECONDS)
    loop.stop()


def test_an_error_is_told_and_the_thread_goes_on() -> None:
    errors: list[Exception] = []
    done = threading.Event()
    loop = Loop("test", SystemClock(), errors.append)

    def fail() -> None:
        raise ValueError("planned")

    loop.put(fail)
    loop.put(done.set)
    loop.start()
    assert done.wait(SECONDS)
    loop.stop()
    assert [str(it) for it in errors] == ["planned"]


def test_an_error_in_what_is_done_about_errors_does_not_end_the_thread() -> None:
    done = threading.Event()

    def fail(*_: object) -> None:
        raise ValueError("again")

    loop = Loop("test", SystemClock(), fail)
    loop.put(fail)
    loop.put(done.set)
    loop.start()
    assert done.wait(SECONDS)
    loop.stop()
