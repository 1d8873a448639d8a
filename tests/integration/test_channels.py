"""TCP and ZeroMQ channels against sockets: they connect once, end once, and say why."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import zmq

from fastlog.transport.channel import Bytes, Channel, ConnectionLostError, wait
from fastlog.transport.dealer import DealerContext
from fastlog.transport.tcp import TcpChannel


def run_until(channel: Channel, wanted: Callable[[list[Bytes]], bool], seconds: float = 5) -> list[Bytes]:
    """Drives the channel until `wanted(messages so far)`; raises what the channel raises."""
    messages: list[Bytes] = []
    deadline = time.monotonic() + seconds
    while not wanted(messages):
        assert time.monotonic() < deadline, "nothing more came"
        wait([channel], 50)
        channel.advance()
        messages += channel.receive()
    return messages


@pytest.fixture
def dealers() -> Iterator[DealerContext]:
    context = DealerContext()
    yield context
    context.close()


@pytest.fixture
def router() -> Iterator[tuple[zmq.Socket[bytes], int]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket_:
        socket_.linger = 0
        yield socket_, socket_.bind_to_random_port("tcp://127.0.0.1")


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_messages_go_both_ways_over_zeromq(
    dealers: DealerContext, router: tuple[zmq.Socket[bytes], int]
) -> None:
    peer, port = router
    channel = dealers.open("localhost", port, 1000)
    large = b"x" * 1_000_000
    channel.send(b"early")
    run_until(channel, lambda _: channel.connected)
    channel.send(large)
    identity, first = peer.recv_multipart()
    assert (first, peer.recv_multipart()[1]) == (b"early", large)
    # in parts, into the same memory each time
    for size in (3, 100_000, 10):
        channel.send(b"a" * size, memoryview(b"b" * size), b"c")
    for size in (3, 100_000, 10):
        assert peer.recv_multipart()[1:] == [b"a" * size + b"b" * size + b"c"]
    peer.send_multipart([identity, b"one"])
    peer.send_multipart([identity, b"tw", b"o"])
    assert run_until(channel, lambda got: len(got) == 2) == [b"one", b"two"]
    channel.close()


def test_what_came_before_a_send_is_found_after_it(
    dealers: DealerContext, router: tuple[zmq.Socket[bytes], int]
) -> None:
    peer, port = router
    with closing(dealers.open("localhost", port, 1000)) as channel:
        channel.send(b"hello")
        run_until(channel, lambda _: channel.connected)
        identity, _ = peer.recv_multipart()
        for number in range(20):
            answer = b"%d" % number
            peer.send_multipart([identity, answer])
            assert select.select([descriptor for descriptor, _ in channel.descriptors()], [], [], 5)[0]
            # libzmq may take note of the answer while it sends, and its descriptor then falls silent
            channel.send(b"next")
            assert run_until(channel, bool) == [answer]
            peer.recv_multipart()


def test_a_lost_router_ends_the_channel_and_it_does_not_come_back(
    dealers: DealerContext, router: tuple[zmq.Socket[bytes], int]
) -> None:
    peer, port = router
    channel = dealers.open("127.0.0.1", port, 1000)
    run_until(channel, lambda _: channel.connected)
    peer.unbind(f"tcp://127.0.0.1:{port}")
    peer.close()
    with pytest.raises(ConnectionLostError, match="closed by the broker"):
        run_until(channel, lambda _: False)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as again:
        again.linger = 0
        again.bind(f"tcp://127.0.0.1:{port}")
        channel.send(b"to nobody")
        assert not again.poll(300)
    channel.close()


def test_a_refused_zeromq_connection_is_told_at_once(dealers: DealerContext) -> None:
    # long before the connection's own time is over
    channel = dealers.open("127.0.0.1", unused_port(), 60_000)
    with pytest.raises(ConnectionLostError, match="refused"):
        run_until(channel, lambda _: False)
    channel.close()


def test_a_listener_that_is_not_zeromq_is_told(dealers: DealerContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = dealers.open("127.0.0.1", server.getsockname()[1], 300)
        with pytest.raises(ConnectionLostError, match="handshake"):
            run_until(channel, lambda _: False)
        channel.close()


def test_names_that_do_not_resolve_are_told(dealers: DealerContext) -> None:
    with pytest.raises(ConnectionLostError, match="could not be made"):
        dealers.open("no-such-host.invalid", 1, 300)
    with pytest.raises(ConnectionLostError, match="does not resolve"):
        TcpChannel("no-such-host.invalid", 1)


def test_messages_of_any_size_go_both_ways_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(100_000):
                    connection.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        channel = TcpChannel("127.0.0.1", server.getsockname()[1])
        wanted = [b"", b"small", b"y" * 5_000_000]
        for message in wanted:
            channel.send(message)
        assert run_until(channel, lambda got: len(got) == 3) == wanted
        assert channel.backlog() == 0
        channel.close()


def test_a_refused_or_closed_tcp_connection_is_told() -> None:
    with pytest.raises(ConnectionLostError, match="refused"):
        run_until(TcpChannel("127.0.0.1", unused_port()), lambda _: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = TcpChannel("127.0.0.1", server.getsockname()[1])
        server.accept()[0].close()
        with pytest.raises(ConnectionLostError, match="closed by the broker"):
            run_until(channel, lambda _: False)


def test_an_answer_of_an_impossible_length_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = TcpChannel("127.0.0.1", server.getsockname()[1])
        connection, _ = server.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ConnectionLostError, match=r"gave an answer that is not Kafka's"):
            run_until(channel, lambda _: False)
        connection.close()
