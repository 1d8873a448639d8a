"""Publishers and subscribers, over real sockets on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fastlog.transport.binding import BindError
from fastlog.transport.publisher import QUEUE_MESSAGES, Publisher
from fastlog.transport.subscriber import Subscriber

WAIT_SECONDS = 10.0


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    made = Subscriber()
    yield made
    made.close()


def published(host: str = "127.0.0.1", port: int = 0) -> tuple[Publisher, tuple[str, int]]:
    publisher = Publisher()
    return publisher, (host, publisher.bind(host, port))


def until(subscriber: Subscriber, publisher: Publisher, text: bytes) -> Iterator[bytes]:
    """Says it until it is heard, since nobody tells a publisher who listens; all that is heard meanwhile."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        publisher.send(text)
        while (message := subscriber.receive(20)) is not None:
            yield message
            if message == text:
                return
    raise AssertionError(f"{text!r} was not heard within {WAIT_SECONDS} s")


def hears(subscriber: Subscriber, publisher: Publisher, text: bytes) -> bool:
    return list(until(subscriber, publisher, text))[-1] == text


def test_all_publishers_are_heard(subscriber: Subscriber) -> None:
    first, at_first = published()
    second, at_second = published("::1")
    subscriber.listen_to([at_first, at_second])
    assert hears(subscriber, first, b"one")
    assert hears(subscriber, second, b"two")
    # and the first no more, once it is not wanted
    subscriber.listen_to([at_second])
    assert hears(subscriber, second, b"two again")
    first.send(b"lost")
    heard = list(until(subscriber, second, b"last"))
    assert b"lost" not in heard
    first.close()
    second.close()


def test_a_publisher_that_comes_back_is_heard(subscriber: Subscriber) -> None:
    publisher, at = published()
    subscriber.listen_to([at])
    assert hears(subscriber, publisher, b"before")
    publisher.close()
    publisher, _ = published(*at)
    assert hears(subscriber, publisher, b"after")
    publisher.close()


def test_an_order_is_kept(subscriber: Subscriber) -> None:
    publisher, at = published()
    subscriber.listen_to([at])
    assert hears(subscriber, publisher, b"here")
    count = QUEUE_MESSAGES // 2
    for number in range(count):
        publisher.send(b"%d" % number)
    heard: list[int] = []
    while len(heard) < count:
        message = subscriber.receive(WAIT_SECONDS * 1000)
        assert message is not None
        if message != b"here":
            heard.append(int(message))
    assert heard == list(range(count))
    publisher.close()


def test_a_wake_ends_the_wait(subscriber: Subscriber) -> None:
    began = time.monotonic()
    timer = threading.Timer(0.05, subscriber.wake)
    timer.start()
    assert subscriber.receive(WAIT_SECONDS * 1000) is None
    assert time.monotonic() - began < WAIT_SECONDS / 2
    timer.join()
    # it was taken
    assert subscriber.receive(1) is None


def test_a_wait_without_anything_ends(subscriber: Subscriber) -> None:
    assert subscriber.receive(10) is None


def test_a_name_that_does_not_resolve_hinders_nobody(subscriber: Subscriber) -> None:
    publisher, at = published()
    subscriber.listen_to([("no-such-host.invalid", 9), at])
    assert hears(subscriber, publisher, b"here")
    publisher.close()


def test_a_subscriber_that_stands_still_holds_up_nobody(subscriber: Subscriber) -> None:
    publisher, at = published()
    subscriber.listen_to([at])
    assert hears(subscriber, publisher, b"here")
    block = b"x" * 100_000
    for _ in range(2000):
        publisher.send(block)
    heard = 0
    while subscriber.receive(500) is not None:
        heard += 1
    # what was beyond all queues is lost
    assert 0 < heard < 2000
    publisher.close()


def test_an_address_in_use_is_an_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=f"METADATA://127.0.0.1:{port}.*choose another"):
            Publisher().bind("127.0.0.1", port)
