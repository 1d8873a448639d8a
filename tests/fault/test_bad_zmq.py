"""Garbage on the ZeroMQ port: dropped or disconnected, and the next client is served."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
import zmq

from tests.support.broker import BrokerProcess
from tests.support.wire import API_VERSIONS, METADATA, Batch, produce_request, request

WAIT_MS = 10_000
SILENCE_MS = 300
# the start of a ZMTP 3.1 greeting: signature, version, the NULL mechanism, not a server
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)


@pytest.fixture
def dealer(broker: BrokerProcess) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as made:
        made.linger = 0
        made.connect(broker.zmq_endpoint)
        yield made


@pytest.fixture(autouse=True)
def _broker_lives(broker: BrokerProcess) -> Iterator[None]:
    """Whatever a test did, the broker runs afterwards and answers a newcomer on ZeroMQ."""
    yield
    assert broker.is_running(), broker.log()
    with zmq.Context() as context, context.socket(zmq.DEALER) as newcomer:
        newcomer.linger = 0
        newcomer.connect(broker.zmq_endpoint)
        newcomer.send(request(API_VERSIONS, 0, b"", correlation_id=99))
        assert newcomer.poll(WAIT_MS), broker.log()
        assert struct.unpack_from(">ih", newcomer.recv()) == (99, 0)


def test_a_request_over_zmq_is_answered_as_over_tcp(dealer: zmq.Socket[bytes]) -> None:
    dealer.send(request(API_VERSIONS, 0, b""))
    assert dealer.poll(WAIT_MS)
    assert struct.unpack_from(">ih", b"".join(dealer.recv_multipart())) == (7, 0)


def test_frames_of_one_message_are_one_request(dealer: zmq.Socket[bytes]) -> None:
    whole = request(API_VERSIONS, 0, b"")
    dealer.send_multipart([whole[:3], whole[3:9], b"", whole[9:]])
    assert dealer.poll(WAIT_MS)
    assert struct.unpack_from(">ih", b"".join(dealer.recv_multipart())) == (7, 0)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param([b""], id="empty"),
        pytest.param([b"abc"], id="shorter than any header"),
        pytest.param([b"", b"", b""], id="empty frames"),
        pytest.param([os.urandom(500)], id="random"),
        pytest.param([b"x"] * 200, id="two hundred frames"),
        pytest.param([request(999, 0, b"")], id="unknown key"),
        pytest.param([request(METADATA, 99, b"")], id="unknown version"),
        pytest.param([request(METADATA, 1, struct.pack(">i", 2**30))], id="array of a billion"),
    ],
)
def test_a_message_that_is_no_request_gets_no_answer(
    dealer: zmq.Socket[bytes], message: list[bytes], broker: BrokerProcess
) -> None:
    before = broker.rss_bytes()
    dealer.send_multipart(message)
    assert not dealer.poll(SILENCE_MS)
    assert broker.rss_bytes() - before < 64 << 20


def test_a_bad_batch_over_zmq_has_the_same_error(broker: BrokerProcess, dealer: zmq.Socket[bytes]) -> None:
    dealer.send(produce_request("no-such-topic", Batch(crc=1).encode()))
    assert dealer.poll(WAIT_MS)
    assert b"no-such-topic" in b"".join(dealer.recv_multipart())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(os.urandom(4096), id="random"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(struct.pack(">i", 40) + request(API_VERSIONS, 0, b""), id="a Kafka frame"),
        pytest.param(GREETING[:10], id="half a greeting"),
        pytest.param(GREETING + os.urandom(200), id="greeting and junk"),
        pytest.param(GREETING + b"\x02" + struct.pack(">Q", 2**62), id="greeting and a huge frame"),
    ],
)
def test_bytes_that_are_not_zmtp(broker: BrokerProcess, data: bytes) -> None:
    before = broker.rss_bytes()
    with socket.create_connection(("127.0.0.1", broker.zmq_port), 5) as raw:
        raw.sendall(data)
        raw.settimeout(0.3)
        try:
            while raw.recv(4096):
                pass
        except (TimeoutError, ConnectionResetError):
            pass
    assert broker.rss_bytes() - before < 64 << 20
