"""Every control request gets an answer, whatever its handler does; housekeeping keeps its turns."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from fastlog.broker import worker
from fastlog.broker.control_api import ControlApi, Lane
from fastlog.broker.control_loop import IN_HAND_MAX, ControlLoop
from fastlog.broker.housekeeping import Housekeeping, Task, cleaner_task, scrub_task
from fastlog.broker.later import Later
from fastlog.broker.serving import Serving
from fastlog.config import load
from fastlog.errors import KafkaStorageError
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_request_header, decode_response_frame, encode_request_frame
from fastlog.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from tests.support.broker import wait_until


class Asked:
    """A request; what became of it is noted."""

    principal = "User:ANONYMOUS"
    listener = "PLAINTEXT"
    client_address = "127.0.0.1:5"
    local_address = ("127.0.0.1", 9092)

    def __init__(self, message: Any = None, *, cut: int = 0, api_key: int | None = None) -> None:
        frame = encode_request_frame(message or DescribeClusterRequest(), 1, 7, "test")
        key, self.api_version, self.correlation_id, self.client_id, self.body_offset = decode_request_header(
            frame
        )
        self.api_key = key if api_key is None else api_key
        self.request = frame[: len(frame) - cut]
        self.result: Any = None

    def answer(self, frame: bytes) -> None:
        self.result = decode_response_frame(self.api_key, 1, frame)

    def answer_by_engine(self) -> None:
        self.result = "engine"

    def close(self, reason: str) -> None:
        self.result = reason


class Source:
    """The engine's side: a pipe instead of an eventfd."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        self.waiting: list[Asked] = []

    def put(self, *asked: Asked) -> None:
        self.waiting += asked
        os.write(self.write, b"x")

    def control_fd(self) -> int:
        return self.read

    def drain_control(self, limit: int) -> list[Asked]:
        with contextlib.suppress(BlockingIOError):
            os.read(self.read, 1000)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    def drain_events(self) -> tuple[list[tuple[str, str, dict[str, str]]], int]:
        return [("warning", "said by the engine", {"topic": "orders", "client": "c"})], 0

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.close()


def api(handle: Any, *, refuse: Any = None) -> ControlApi:
    return ControlApi(
        key=ApiKey.DESCRIBE_CLUSTER,
        versions=(0, 1),
        lane=Lane.ASKS,
        handle=handle,
        refuse=refuse or (lambda request, error: DescribeClusterResponse(error_code=error.code)),
    )


def run(source: Source, served: ControlApi, *asked: Asked) -> None:
    loop = ControlLoop(source, Serving(None, [served]))  # type: ignore[arg-type]
    loop.start()
    source.put(*asked)
    wait_until("all have an answer", lambda: all(it.result is not None for it in asked))
    loop.stop()


def test_an_answer_carries_the_correlation_id(source: Source) -> None:
    asked = Asked()
    run(source, api(lambda *_: DescribeClusterResponse(cluster_id="c")), asked)
    number, response = asked.result
    assert (number, response.cluster_id, response.error_code) == (7, "c", 0)


def test_what_the_engine_says_has_its_fields_in_order(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    run(source, api(lambda *_: DescribeClusterResponse()), Asked())
    said = {record.getMessage() for record in caplog.records if record.name == "fastlog.engine"}
    assert said == {"said by the engine client=c topic=orders"}


def test_a_store_that_cannot_be_used_now_is_a_storage_error_that_clients_try_again(source: Source) -> None:
    asked = Asked()

    def handle(*_: object) -> None:
        raise StoreUnavailableError("the disk is full")

    run(source, api(handle), asked)
    assert asked.result[1].error_code == KafkaStorageError.code == 56


def test_what_a_handler_did_not_foresee_is_answered_with_minus_one_and_logged(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nobody")

    asked, next_one = Asked(), Asked()
    run(source, api(fail), asked, next_one)
    assert asked.result[1].error_code == next_one.result[1].error_code == -1
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_that_cannot_be_written_is_minus_one_too(source: Source) -> None:
    asked = Asked()
    run(source, api(lambda *_: DescribeClusterResponse(controller_id=2**40)), asked)
    assert asked.result[1].error_code == -1


def test_a_body_that_does_not_parse_closes_its_connection(source: Source) -> None:
    asked = Asked(cut=1)
    run(source, api(lambda *_: DescribeClusterResponse()), asked)
    assert "does not parse" in asked.result


def test_a_key_that_nobody_serves_closes_its_connection(source: Source) -> None:
    asked = Asked(api_key=999)
    run(source, api(lambda *_: DescribeClusterResponse()), asked)
    assert "999" in asked.result


def test_none_leaves_the_answer_to_the_engine(source: Source) -> None:
    asked = Asked()
    run(source, api(lambda *_: None), asked)
    assert asked.result == "engine"


def test_more_requests_than_may_be_in_hand_are_all_answered(source: Source) -> None:
    many = [Asked() for _ in range(5 * IN_HAND_MAX)]
    run(source, api(lambda *_: DescribeClusterResponse()), *many)
    assert all(asked.result for asked in many)


def test_requests_that_wait_for_their_answer_keep_nobody_else_from_being_served(source: Source) -> None:
    waiting: list[Later] = []

    def handle(*_: object) -> Later:
        waiting.append(Later())
        return waiting[-1]

    many, other = [Asked(JoinGroupRequest()) for _ in range(2 * IN_HAND_MAX)], Asked()
    waits = msgspec.structs.replace(api(handle), key=ApiKey.JOIN_GROUP)
    asks = api(lambda *_: DescribeClusterResponse(cluster_id="c"))
    control = ControlLoop(source, Serving(None, [waits, asks]))  # type: ignore[arg-type]
    control.start()
    try:
        source.put(*many, other)
        wait_until("another has its answer", lambda: other.result is not None)
        assert other.result[1].cluster_id == "c"
        assert [asked.result for asked in many] == [None] * len(many)
        for later in waiting:
            later.answer(JoinGroupResponse(generation_id=5))
        assert [asked.result[1].generation_id for asked in many] == [5] * len(many)
    finally:
        control.stop()


def test_who_only_asks_does_not_wait_behind_who_has_to_change_something_first(source: Source) -> None:
    may_change = threading.Event()
    threads = []

    def handle(_: object, asked: Asked, __: object) -> Any:
        return Lane.CHANGES if asked is first else DescribeClusterResponse(cluster_id="asked")

    def change(*_: object) -> DescribeClusterResponse:
        threads.append(threading.current_thread().name)
        may_change.wait()
        return DescribeClusterResponse(cluster_id="changed")

    first, second = Asked(), Asked()
    served = msgspec.structs.replace(api(handle), change=change)
    control = ControlLoop(source, Serving(None, [served]))  # type: ignore[arg-type]
    control.start()
    try:
        source.put(first, second)
        wait_until("the second has its answer", lambda: second.result is not None)
        assert second.result[1].cluster_id == "asked"
        assert first.result is None
    finally:
        may_change.set()
        # what was taken is answered first
        control.stop()
    assert first.result is not None
    assert first.result[1].cluster_id == "changed"
    assert threads == ["fastlog-changes"]


class Together:
    """Serves changes; notes which were served together, and holds the first up until `go`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.served: list[int] = []
        self.began, self.go = threading.Event(), threading.Event()
        self.error = error

    def handle(self, _: object, asked: Asked, request: object) -> Any:
        raise AssertionError("it is to be served with those that came with it")

    def together(self, _: object, asked: Sequence[tuple[Any, Any]]) -> list[DescribeClusterResponse]:
        self.served.append(len(asked))
        self.began.set()
        self.go.wait()
        if self.error is not None:
            raise self.error
        return [DescribeClusterResponse(cluster_id=it.client_address) for it, _ in asked]

    def run(self, source: Source, first: Asked, *others: Asked) -> None:
        """Serves the first, and the others that come while it is at that."""
        served = msgspec.structs.replace(api(self.handle), lane=Lane.CHANGES, together=self.together)
        control = ControlLoop(source, Serving(None, [served]))  # type: ignore[arg-type]
        control.start()
        source.put(first)
        self.began.wait()
        source.put(*others)
        wait_until("they were taken", lambda: not source.waiting)
        self.go.set()
        wait_until("all have an answer", lambda: all(it.result is not None for it in (first, *others)))
        control.stop()


def test_changes_that_came_together_are_served_together_and_each_has_its_answer(source: Source) -> None:
    served, first, others = Together(), Asked(), [Asked() for _ in range(5)]
    for number, asked in enumerate(others):
        asked.client_address = f"client {number}"
    broken = Asked(cut=1)
    served.run(source, first, *others[:3], broken, *others[3:])
    assert [asked.result[1].cluster_id for asked in others] == [asked.client_address for asked in others]
    assert "does not parse" in broken.result
    assert sum(served.served) == 6
    # the engine's queue may be drained in two halves
    assert len(served.served) <= 3


def test_no_more_are_held_together_than_a_bound(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large request becomes hundreds of MiB of objects: those that wait behind it are not decoded yet."""
    served, first, others = Together(), Asked(), [Asked() for _ in range(6)]
    monkeypatch.setattr("fastlog.broker.control_loop.TOGETHER_BYTES_MAX", 2 * len(first.request) + 1)
    others[2].request += bytes(3 * len(first.request))
    served.run(source, first, *others)
    assert max(served.served) <= 2
    assert sum(served.served) == 6
    assert "does not parse" in others[2].result


@pytest.mark.parametrize(
    ("error", "code"), [(StoreUnavailableError("the disk is full"), 56), (ZeroDivisionError("by nobody"), -1)]
)
def test_where_changes_that_came_together_fail_each_is_told(
    source: Source, error: Exception, code: int
) -> None:
    served, asked = Together(error), [Asked() for _ in range(4)]
    served.run(source, *asked)
    assert [it.result[1].error_code for it in asked] == [code] * 4


def test_changes_that_wait_hold_up_no_other_change_and_nobody_who_asks(source: Source) -> None:
    may_change = threading.Event()

    def handle(_: object, asked: Asked, __: object) -> DescribeClusterResponse:
        if asked is not last:
            may_change.wait()
        return DescribeClusterResponse(cluster_id="changed")

    many, last, asks = [Asked() for _ in range(20)], Asked(), Asked(JoinGroupRequest())
    changes = msgspec.structs.replace(api(handle), lane=Lane.CHANGES)
    other = msgspec.structs.replace(api(lambda *_: JoinGroupResponse()), key=ApiKey.JOIN_GROUP)
    control = ControlLoop(source, Serving(None, [changes, other]), changes_at_once=30)  # type: ignore[arg-type]
    control.start()
    try:
        source.put(*many, last, asks)
        wait_until("the last has its answer", lambda: last.result is not None)
        wait_until("who asks has one", lambda: asks.result is not None)
        assert [asked.result for asked in many] == [None] * len(many)
    finally:
        may_change.set()
        control.stop()
    assert all(asked.result is not None for asked in many)


@pytest.mark.parametrize("at_once", [1, 3])
def test_more_changes_than_may_be_at_it_are_all_done(source: Source, at_once: int) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def handle(*_: object) -> DescribeClusterResponse:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        with lock:
            now[0] -= 1
        return DescribeClusterResponse()

    many = [Asked() for _ in range(5 * IN_HAND_MAX)]
    changes = msgspec.structs.replace(api(handle), lane=Lane.CHANGES)
    control = ControlLoop(source, Serving(None, [changes]), changes_at_once=at_once)  # type: ignore[arg-type]
    control.start()
    source.put(*many)
    wait_until("all have an answer", lambda: all(it.result is not None for it in many))
    control.stop()
    assert most[0] <= at_once


def test_threads_that_have_nothing_to_do_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.01)
    workers, done = worker.Workers("test-idle", 5), []
    for number in range(20):
        workers.put(done.append, number)

    def running() -> list[str]:
        return [it.name for it in threading.enumerate() if it.name == "test-idle"]

    wait_until("all is done", lambda: len(done) == 20)
    wait_until("they have ended", lambda: not running())
    workers.put(done.append, 20)
    workers.stop()
    assert sorted(done) == list(range(21))
    assert not running()


def test_an_error_of_ours_in_the_loop_ends_its_thread_and_the_stop_does_not_wait_for_it(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    fails = [True]

    def noticed() -> None:
        if fails:
            fails.clear()
            raise ZeroDivisionError("by nobody")

    control = ControlLoop(source, Serving(None, ()), noticed=noticed)  # type: ignore[arg-type]
    control.start()
    wait_until("it has failed", lambda: failed)
    assert failed[0].exc_type is ZeroDivisionError
    assert failed[0].thread is not None
    assert failed[0].thread.name == "fastlog-control"
    control.stop()


class TestClock:
    """Time that stands still unless it is moved."""

    __test__ = False

    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms


class LateLine(Source):
    """Says something while the descriptor is cleared, which is then not readable for it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, dict[str, str]]] = []

    def drain_control(self, limit: int) -> list[Asked]:
        taken = super().drain_control(limit)
        if taken:
            self.lines.append(("warning", "said in between", {}))
        return taken

    def drain_events(self) -> tuple[list[tuple[str, str, dict[str, str]]], int]:
        lines, self.lines = self.lines, []
        return lines, 0


def test_a_line_that_comes_while_requests_are_taken_does_not_wait_for_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with contextlib.closing(LateLine()) as source:
        control = ControlLoop(source, Serving(None, []))  # type: ignore[arg-type]
        control.start()
        try:
            source.put(Asked())
            wait_until("it is written", lambda: "said in between" in caplog.text)
        finally:
            control.stop()


def test_what_else_the_engine_notices_is_handed_on_after_the_descriptor_is_clear(source: Source) -> None:
    seen: list[int] = []
    loop = ControlLoop(source, Serving(None, ()), noticed=lambda: seen.append(len(source.waiting)))  # type: ignore[arg-type]
    loop.start()
    try:
        wait_until("it has looked once", lambda: seen)
        source.put()
        wait_until("it is told", lambda: len(seen) >= 2)
    finally:
        loop.stop()


def test_housekeeping_runs_each_task_at_its_interval() -> None:
    clock, done = TestClock(), []
    tasks = [
        Task("often", 10, lambda: done.append("often")),
        Task("seldom", 25, lambda: done.append("seldom")),
    ]
    housekeeping = Housekeeping(tasks, clock)
    waits = []
    for _ in range(5):
        waits.append(housekeeping.run_due())
        clock.ms += waits[-1]
    assert waits == [10, 10, 5, 5, 10]
    assert done == ["often", "often", "seldom", "often"]


def test_a_task_that_fails_does_not_stop_the_others() -> None:
    clock, done = TestClock(), []

    def fail() -> None:
        raise OSError("disk on fire")

    housekeeping = Housekeeping([Task("bad", 10, fail), Task("good", 10, lambda: done.append(1))], clock)
    for _ in range(3):
        clock.ms += 10
        housekeeping.run_due()
    assert len(done) == 3


def test_a_task_that_finds_the_disk_full_says_why_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = TestClock()

    def fail() -> None:
        raise KafkaStorageError("could not write /data/scrub-checkpoint: No space left on device")

    housekeeping = Housekeeping([Task("scrub", 10, fail)], clock)
    clock.ms += 10
    housekeeping.run_due()
    (record,) = caplog.records
    assert "task=scrub" in record.getMessage()
    assert "/data/scrub-checkpoint: No space left on device" in record.getMessage()
    assert record.exc_info is None


def test_the_cleaner_goes_on_until_nothing_is_left() -> None:
    class Logs:
        left = 3

        def clean_one(self, now_ms: int) -> bool:
            self.left -= 1
            return self.left >= 0

        def stop_cleaner(self) -> None:
            raise AssertionError("nobody stops it")

    logs = Logs()
    task = cleaner_task(logs, load(assignments=["log.cleaner.backoff.ms=0"]).broker, TestClock())
    assert task.interval() > 0, "it never spins"
    task.run()
    assert logs.left == -1


def test_the_scrub_goes_on_until_nothing_is_due() -> None:
    class Logs:
        left = 3

        def scrub_next(self, now_ms: int) -> bool:
            self.left -= 1
            return self.left >= 0

        def stop_scrub(self) -> None:
            raise AssertionError("nobody stops it")

    logs = Logs()
    task = scrub_task(logs, TestClock())
    assert task.interval() > 0, "it never spins"
    # it steps back for good, so not on this thread
    thread = threading.Thread(target=task.run)
    thread.start()
    thread.join()
    assert logs.left == -1


def test_housekeeping_stops_at_once() -> None:
    housekeeping = Housekeeping([Task("never", 3_600_000, lambda: None)], TestClock())
    housekeeping.start()
    housekeeping.stop()
