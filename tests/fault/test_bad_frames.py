"""Frames, headers and bodies that are wrong: the connection is closed or an error answered, and the broker lives."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.support.broker import BrokerProcess, wait_until
from tests.support.wire import (
    API_VERSIONS,
    CREATE_TOPICS,
    FETCH,
    METADATA,
    PRODUCE,
    RawConnection,
    request,
    string,
)

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _broker_lives(broker: BrokerProcess) -> Iterator[None]:
    """Whatever a test did, the broker runs afterwards and answers a newcomer."""
    yield
    assert broker.is_running(), broker.log()
    with RawConnection(broker.tcp_port) as connection:
        answer = connection.ask(request(API_VERSIONS, 0, b""))
    assert answer is not None
    assert struct.unpack_from(">ih", answer) == (7, 0)


def lines_about_closing(broker: BrokerProcess) -> int:
    return broker.log_file.read_text(errors="replace").count("\n")


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(struct.pack(">i", -1), id="length -1"),
        pytest.param(struct.pack(">i", -(2**31)), id="most negative length"),
        pytest.param(struct.pack(">i", 2**31 - 1), id="length 2 GiB"),
        pytest.param(struct.pack(">i", 100 * MIB + 1), id="one byte over socket.request.max.bytes"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512), id="TLS hello"),
        pytest.param(struct.pack(">i", 0), id="length 0"),
        pytest.param(struct.pack(">i", 3) + b"abc", id="shorter than any header"),
        pytest.param(struct.pack(">ihhih", 10, 3, 1, 7, 500), id="client id longer than the frame"),
        pytest.param(struct.pack(">ihhih", 10, 3, 1, 7, -2), id="client id of length -2"),
    ],
)
def test_a_bad_start_closes_the_connection_with_a_log_line(broker: BrokerProcess, start: bytes) -> None:
    before = lines_about_closing(broker)
    with RawConnection(broker.tcp_port) as connection:
        connection.send(start)
        assert connection.is_closed()
    wait_until("a log line", lambda: lines_about_closing(broker) > before)
    assert lines_about_closing(broker) - before <= 2


@pytest.mark.parametrize(
    ("api_key", "version"),
    [(999, 0), (-1, 0), (METADATA, 99), (METADATA, -1), (PRODUCE, 2), (FETCH, 3), (FETCH, 99)],
)
def test_unknown_apis_and_versions_close_the_connection(
    broker: BrokerProcess, api_key: int, version: int
) -> None:
    with RawConnection(broker.tcp_port) as connection:
        connection.send_frame(request(api_key, version, b"\0" * 32))
        assert connection.is_closed()


def test_api_versions_of_an_unknown_version_answers_35_and_the_list(broker: BrokerProcess) -> None:
    with RawConnection(broker.tcp_port) as connection:
        answer = connection.ask(request(API_VERSIONS, 99, b"\0\0\0"))
        assert answer is not None
        correlation_id, code, count = struct.unpack_from(">ihi", answer)
        assert (correlation_id, code) == (7, 35)
        rows = [struct.unpack_from(">hhh", answer, 10 + 6 * i) for i in range(count)]
        assert API_VERSIONS in {key for key, _low, _high in rows}
        # the connection stays: the client asks again with a version from the list
        again = connection.ask(request(API_VERSIONS, 0, b""))
        assert again is not None
        assert struct.unpack_from(">ih", again) == (7, 0)


@pytest.mark.parametrize(
    ("api_key", "version", "body"),
    [
        pytest.param(METADATA, 1, struct.pack(">i", 2**31 - 1), id="array of 2 billion"),
        pytest.param(METADATA, 1, struct.pack(">i", -2), id="array of -2"),
        pytest.param(METADATA, 1, struct.pack(">ih", 1, 30_000) + b"x", id="string longer than the frame"),
        pytest.param(METADATA, 1, b"\0\0", id="half a length"),
        pytest.param(METADATA, 9, b"\0\xff\xff\xff\xff\xff\xff", id="varint without end"),
        pytest.param(
            PRODUCE, 7, string(None) + struct.pack(">hii", -1, 1000, 2**30), id="topics by the billion"
        ),
        pytest.param(PRODUCE, 7, struct.pack(">h", -7), id="transactional id of length -7"),
        pytest.param(
            FETCH, 4, struct.pack(">iiiibi", -1, 100, 1, 1, 0, 2**30), id="fetch of a billion topics"
        ),
        pytest.param(CREATE_TOPICS, 2, struct.pack(">i", 2**30), id="a billion new topics"),
        pytest.param(METADATA, 1, struct.pack(">ih", 1, 2) + b"\xff\xfe", id="name that is not UTF-8"),
    ],
)
def test_a_body_that_does_not_parse_closes_the_connection(
    broker: BrokerProcess, api_key: int, version: int, body: bytes
) -> None:
    with RawConnection(broker.tcp_port) as connection:
        connection.send_frame(request(api_key, version, body))
        assert connection.is_closed()


def test_a_frame_cut_short_is_forgotten(broker: BrokerProcess) -> None:
    for length in (1, 3, 4, 10, 40):
        with RawConnection(broker.tcp_port) as connection:
            connection.send((struct.pack(">i", 60) + request(METADATA, 1, b"\0" * 60))[:length])


def test_random_bytes_never_hurt(broker: BrokerProcess) -> None:
    for _ in range(50):
        with RawConnection(broker.tcp_port) as connection:
            connection.send_frame(os.urandom(200))


def test_random_bodies_of_every_api_never_hurt(broker: BrokerProcess) -> None:
    for api_key in (0, 1, 2, 3, 18, 19, 20, 21, 22, 23, 32, 33, 35, 37, 44, 60):
        for version in range(6):
            with RawConnection(broker.tcp_port) as connection:
                connection.send_frame(request(api_key, version, os.urandom(100)))


def test_memory_follows_what_arrives_not_what_is_claimed(broker: BrokerProcess) -> None:
    before = broker.rss_bytes()
    sockets = []
    for _ in range(40):
        each = socket.create_connection(("127.0.0.1", broker.tcp_port))
        each.sendall(struct.pack(">i", 100 * MIB) + b"\0\0\0\1")
        sockets.append(each)
    wait_until(
        "the broker answers a newcomer", lambda: RawConnection(broker.tcp_port).ask(request(18, 0, b""))
    )
    grown = broker.rss_bytes() - before
    for each in sockets:
        each.close()
    assert grown < 80 * MIB, f"{grown / MIB:.0f} MiB for 160 bytes"


def test_ten_million_claimed_names_cost_nothing(broker: BrokerProcess) -> None:
    names = 2_000_000
    before = broker.rss_bytes()
    with RawConnection(broker.tcp_port) as connection:
        connection.send_frame(request(METADATA, 1, struct.pack(">i", names) + string("") * names))
        assert connection.is_closed()
    grown = broker.rss_bytes() - before
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB for a frame of 4 MB"


def test_requests_in_one_packet_are_answered_in_order(broker: BrokerProcess) -> None:
    frames = [request(API_VERSIONS, 0, b"", correlation_id=i) for i in range(20)]
    with RawConnection(broker.tcp_port) as connection:
        connection.send(b"".join(struct.pack(">i", len(frame)) + frame for frame in frames))
        answers = [connection.receive_frame() for _ in frames]
    assert [struct.unpack_from(">i", answer or b"\xff" * 4)[0] for answer in answers] == list(range(20))


def test_a_request_that_comes_byte_by_byte_is_answered(broker: BrokerProcess) -> None:
    frame = request(API_VERSIONS, 0, b"")
    with RawConnection(broker.tcp_port) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in struct.pack(">i", len(frame)) + frame:
            connection.send(bytes([byte]))
        answer = connection.receive_frame()
    assert answer is not None
