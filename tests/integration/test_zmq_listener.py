"""The ZeroMQ listener: every request that TCP takes, and nothing that harms."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest
import zmq

from fastlog.protocol.messages.api_versions import ApiVersionsRequest
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.init_producer_id import InitProducerIdRequest
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.conftest import MakeBroker
from tests.support.broker import BrokerProcess
from tests.support.raw import RawTcp, RawZmq


@pytest.fixture
def raw(broker: BrokerProcess) -> Iterator[RawZmq]:
    with RawZmq(broker.zmq_endpoint) as connected:
        yield connected


def check_alive(broker: BrokerProcess) -> None:
    with RawZmq(broker.zmq_endpoint) as zmq_client:
        assert zmq_client.ask(ApiVersionsRequest("test", "1"), 3).error_code == 0
    with RawTcp("127.0.0.1", broker.tcp_port) as tcp_client:
        assert tcp_client.ask(ApiVersionsRequest("test", "1"), 3).error_code == 0


def test_requests_of_both_planes(raw: RawZmq, topic_name: str) -> None:
    assert raw.ask(ApiVersionsRequest("test", "1"), 3).error_code == 0
    created = raw.ask(CreateTopicsRequest(topics=[CreatableTopic(topic_name, 2, 1)]), 7)
    assert created.topics[0].error_code == 0
    described = raw.ask(MetadataRequest(topics=[MetadataRequestTopic(name=topic_name)]), 12)
    assert len(described.topics[0].partitions) == 2
    assert raw.ask(InitProducerIdRequest(transactional_id=None), 4).error_code == 0
    deleted = raw.ask(DeleteTopicsRequest(topics=[DeleteTopicState(name=topic_name)]), 6)
    assert deleted.responses[0].error_code == 0


def test_frames_are_parts_of_one_request(raw: RawZmq) -> None:
    for frames in (1, 2, 7):
        assert raw.ask(MetadataRequest(topics=[]), 12, frames=frames).brokers[0].node_id == 1


def test_an_auto_created_topic_is_answered_over_zmq(raw: RawZmq, topic_name: str) -> None:
    answer = raw.ask(MetadataRequest(topics=[MetadataRequestTopic(name=topic_name)]), 12)
    assert answer.topics[0].error_code == 0


def test_many_requests_in_flight_are_all_answered(raw: RawZmq) -> None:
    sent = [raw.send(InitProducerIdRequest(transactional_id=None), 4) for _ in range(200)]
    answers = [raw.receive(22, 4) for _ in sent]
    assert sorted(number for number, _ in answers) == sent
    assert len({answer.producer_id for _, answer in answers}) == 200


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0", b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\0\x12\0\x03" + b"\x7f" * 30],
)
def test_garbage_is_dropped_and_said_once(broker: BrokerProcess, raw: RawZmq, garbage: bytes) -> None:
    raw.socket.send(garbage)
    raw.socket.send_multipart([garbage, garbage])
    assert raw.ask(ApiVersionsRequest("test", "1"), 3).error_code == 0
    check_alive(broker)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", os.urandom(300), b"\xff" + b"\0" * 8 + b"\x7f\x03"]
)
def test_what_is_no_zeromq_at_all(broker: BrokerProcess, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", broker.zmq_port), timeout=10) as client:
        client.sendall(garbage)
        client.settimeout(0.5)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            client.recv(1000)
    check_alive(broker)


def test_half_a_greeting_is_cut_off_in_time(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"fastlog.zmq.handshake.ms": "500"})
    with socket.create_connection(("127.0.0.1", broker.zmq_port), timeout=10) as client:
        client.sendall(b"\xff\0\0\0\0")
        started = time.monotonic()
        while client.recv(1000):
            pass
        assert 0.3 < time.monotonic() - started < 5


def test_a_message_that_is_too_large_ends_its_connection_only(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"socket.request.max.bytes": "1024"})
    with RawZmq(broker.zmq_endpoint, seconds=1.0) as client:
        client.socket.send(bytes(100_000))
        with pytest.raises(zmq.Again):
            client.socket.recv()
    check_alive(broker)


def test_a_peer_s_unanswered_requests_are_bounded(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"fastlog.zmq.identity.requests.max": "1"})
    with RawZmq(broker.zmq_endpoint, seconds=2.0) as client:
        sent = [client.send(InitProducerIdRequest(transactional_id=None), 4) for _ in range(50)]
        answered = [client.receive(22, 4)[0]]
        while client.socket.poll(1000):
            answered.append(client.receive(22, 4)[0])
        assert set(answered) <= set(sent)
    check_alive(broker)


def test_a_peer_that_never_reads_does_not_stop_the_others(make_broker: MakeBroker) -> None:
    broker = make_broker(
        settings={"fastlog.zmq.queue.messages": "10", "fastlog.zmq.parked.answers.max": "20"}
    )
    context = zmq.Context()
    deaf = context.socket(zmq.DEALER)
    deaf.set(zmq.RCVHWM, 1)
    deaf.set(zmq.RCVBUF, 4096)
    deaf.set(zmq.LINGER, 0)
    deaf.connect(broker.zmq_endpoint)
    frame = b"\0\x03\0\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff"
    for _ in range(3000):
        deaf.send(frame)
    check_alive(broker)
    deaf.close()
    context.term()
    check_alive(broker)
    began = time.monotonic()
    assert broker.stop() == 0
    # fastlog.shutdown.timeout.ms is 10 s, which answers to a peer that is gone do not use up
    assert time.monotonic() - began < 5


def test_a_clean_stop_with_a_connected_peer(make_broker: MakeBroker) -> None:
    broker = make_broker()
    with RawZmq(broker.zmq_endpoint) as client:
        assert client.ask(ApiVersionsRequest("test", "1"), 3).error_code == 0
        assert broker.stop() == 0
