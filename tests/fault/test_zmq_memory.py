"""What libzmq itself does not bound: peers' memory, time and number. The broker does, and serves others meanwhile."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
import zmq

from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.onlooker import MIB, Onlooker
from tests.support.wire import (
    API_VERSIONS,
    FETCH,
    METADATA,
    Batch,
    RawConnection,
    produce_error,
    produce_request,
    record,
    request,
    string,
)
from tests.support.zmtp import ZmtpConnection, frame

BUDGET_BYTES = 64 * MIB
# the budget, what comes in between two looks, and the joined copy of a request
GROWTH_BYTES_MAX = 3 * BUDGET_BYTES
# more than any attack below needs to break the bound; without one the broker would take it all
SENT_BYTES_MAX = 1024 * MIB


@pytest.fixture
def small(make_broker: MakeBroker) -> BrokerProcess:
    """A broker that may hold little."""
    settings = {"queued.max.request.bytes": str(BUDGET_BYTES), "auto.create.topics.enable": "false"}
    return make_broker(settings=settings)


def send_until_closed(connection: ZmtpConnection, piece: bytes, sent_bytes_max: int) -> bool:
    """Whether the broker closed the connection before so much was sent."""
    for _ in range(sent_bytes_max // len(piece)):
        try:
            connection.send(piece)
        except (ConnectionError, TimeoutError):
            return True
    return False


@pytest.mark.parametrize(
    ("piece", "sent_bytes_max"),
    [
        # 2 bytes on the wire are 64 in memory
        pytest.param(frame(b"", more=True) * (MIB // 2), SENT_BYTES_MAX // 32, id="empty frames"),
        pytest.param(frame(bytes(40), more=True) * (MIB // 42), SENT_BYTES_MAX // 2, id="tiny frames"),
        pytest.param(frame(bytes(8 * MIB), more=True), SENT_BYTES_MAX, id="large frames"),
    ],
)
def test_a_message_that_never_ends_is_cut_off(
    small: BrokerProcess, piece: bytes, sent_bytes_max: int
) -> None:
    with Onlooker(small) as onlooker, ZmtpConnection(small.zmq_port, seconds=5) as attacker:
        assert send_until_closed(attacker, piece, sent_bytes_max), "all was taken"
    assert "bytes are held for ZeroMQ's peers" in small.log()
    assert onlooker.grown_bytes < GROWTH_BYTES_MAX, f"{onlooker.grown_bytes / MIB:.0f} MiB"


def test_claimed_frames_cost_no_memory(small: BrokerProcess) -> None:
    claim = frame(b"x", claim=100_000_000)
    with Onlooker(small) as onlooker:
        attackers = [ZmtpConnection(small.zmq_port) for _ in range(40)]
        for attacker in attackers:
            attacker.send(claim)
        with ZmtpConnection(small.zmq_port) as newcomer:
            newcomer.send(frame(request(API_VERSIONS, 0, b"")))
            assert struct.unpack_from(">ih", newcomer.receive_message()) == (7, 0)
        for attacker in attackers:
            attacker.socket.close()
    assert onlooker.grown_bytes < 16 * MIB, f"{onlooker.grown_bytes / MIB:.0f} MiB"


def test_answers_that_nobody_reads_are_given_up(small: BrokerProcess) -> None:
    names = b"".join(string(f"{number:0240}") for number in range(10_000))
    question = request(METADATA, 4, struct.pack(">i", 10_000) + names + b"\0")
    with Onlooker(small) as onlooker, zmq.Context() as context, context.socket(zmq.DEALER) as deaf:
        deaf.linger, deaf.rcvhwm, deaf.sndhwm, deaf.reconnect_ivl = 0, 1, 1, -1
        deaf.connect(small.zmq_endpoint)

        def is_closed() -> bool:
            if deaf.poll(20, zmq.POLLOUT):
                deaf.send(question, zmq.NOBLOCK)
            return "bytes are held for ZeroMQ's peers" in small.log()

        wait_until("the connection is closed", is_closed, seconds=60)
    assert onlooker.grown_bytes < GROWTH_BYTES_MAX, f"{onlooker.grown_bytes / MIB:.0f} MiB"


def test_many_answers_that_become_ready_at_once(small: BrokerProcess) -> None:
    """Long polls of a peer that reads nothing: a record that ends them all makes 100 answers of 16 MB."""
    topic = create_topic(small.bootstrap, "polled")
    poll = struct.pack(">iiiib", -1, 60_000, 16 * MIB, 100 * MIB, 0)
    poll += struct.pack(">i", 1) + string(topic) + struct.pack(">iiqi", 1, 0, 0, 100 * MIB)
    batch = produce_request(topic, Batch([record(0, bytes(900_000))]).encode())
    with Onlooker(small) as onlooker, RawConnection(small.tcp_port) as producer:
        for _ in range(19):
            assert produce_error(producer.ask(batch) or b"") == 0
        with ZmtpConnection(small.zmq_port) as deaf:
            deaf.send(frame(request(FETCH, 4, poll)))
            assert len(deaf.receive_message()) > 16 * MIB
        with ZmtpConnection(small.zmq_port) as deaf:
            last = poll.replace(struct.pack(">i", 16 * MIB), struct.pack(">i", 17 * MIB), 1)
            deaf.send(frame(request(FETCH, 4, last)) * 100)
            deaf.send(frame(request(API_VERSIONS, 0, b"")))
            # all polls are handled when this one, which has its answer at once, is
            assert struct.unpack_from(">ih", deaf.receive_message()) == (7, 0)
            for _ in range(2):
                assert produce_error(producer.ask(batch) or b"") == 0
            wait_until("it is closed", lambda: "bytes are held for ZeroMQ's peers" in small.log(), seconds=60)
    assert onlooker.grown_bytes < GROWTH_BYTES_MAX, f"{onlooker.grown_bytes / MIB:.0f} MiB"


def half_a_frame(connection: ZmtpConnection) -> None:
    connection.send(frame(bytes(2000), claim=4000))


def half_a_message(connection: ZmtpConnection) -> None:
    connection.send(frame(bytes(100), more=True) * 20)


@pytest.mark.parametrize("half", [half_a_frame, half_a_message])
def test_a_message_must_be_whole_in_time(
    make_broker: MakeBroker, half: Callable[[ZmtpConnection], None]
) -> None:
    broker = make_broker(settings={"fastlog.frame.timeout.ms": "500"})
    with ZmtpConnection(broker.zmq_port) as quiet:
        quiet.ping(1000)
        # the second one is closed long after the first bytes of the quiet one
        for _ in range(2):
            with ZmtpConnection(broker.zmq_port) as slow:
                half(slow)
                assert slow.is_closed()
        assert broker.log().count("a message was not whole after") == 2
        # who sends but heartbeats keeps its connection
        quiet.send(frame(request(API_VERSIONS, 0, b"")))
        assert struct.unpack_from(">ih", quiet.receive_message()) == (7, 0)


def test_frames_that_are_too_much_together_are_no_request(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"socket.request.max.bytes": "4096"})
    with ZmtpConnection(broker.zmq_port) as connection:
        connection.send(frame(bytes(4000), more=True) + frame(bytes(97)))
        connection.send(frame(request(API_VERSIONS, 0, b"")))
        assert struct.unpack_from(">ih", connection.receive_message()) == (7, 0)
    assert "its message has 4097 bytes, more than socket.request.max.bytes" in broker.log()


@pytest.mark.parametrize("setting", ["max.connections", "max.connections.per.ip"])
def test_connections_above_the_limit_are_closed(make_broker: MakeBroker, setting: str) -> None:
    broker = make_broker(settings={setting: "3"})
    welcome = [ZmtpConnection(broker.zmq_port) for _ in range(3)]
    try:
        with pytest.raises((EOFError, ConnectionError)), ZmtpConnection(broker.zmq_port) as fourth:
            fourth.receive_message()
        assert f"reason={setting}\n" in broker.log()
        for connection in welcome:
            connection.send(frame(request(API_VERSIONS, 0, b"")))
            assert struct.unpack_from(">ih", connection.receive_message()) == (7, 0)
        welcome.pop().socket.close()

        def has_room() -> bool:
            try:
                with ZmtpConnection(broker.zmq_port) as again:
                    again.send(frame(request(API_VERSIONS, 0, b"")))
                    return struct.unpack_from(">ih", again.receive_message()) == (7, 0)
            except (EOFError, ConnectionError):
                return False

        wait_until("the place is free", has_room)
    finally:
        for connection in welcome:
            connection.socket.close()
