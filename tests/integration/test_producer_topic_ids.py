"""Our producer names topics by their ids (KIP-516, Produce 13): what goes on when one is deleted and made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlog import Admin, Consumer, Producer
from fastlog.errors import DeliveryTimeoutError
from fastlog.protocol.api import ApiKey
from tests.integration.conftest import is_led
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess, wait_until
from tests.support.fake_broker import FakeCluster, MakeCluster
from tests.support.older_broker import OlderBroker

QUICK: dict[str, Any] = {"linger_ms": 0.1, "retry_backoff_ms": 5, "retry_backoff_max_ms": 20}
T_ID = b"t" * 16
BY_IDS, BY_NAMES = 13, 12


def with_ids(cluster: FakeCluster, highest: int = BY_IDS) -> FakeCluster:
    cluster.produce_versions = (3, highest)
    cluster.topic_ids["t"] = T_ID
    return cluster


def producer_for(cluster: FakeCluster, **settings: Any) -> Producer:
    return Producer([broker.bootstrap for broker in cluster.brokers], **{**QUICK, **settings})


@pytest.mark.parametrize(
    ("zmq", "linger_ms"), [(False, 0.1), (True, 0.1), (False, 0)], ids=["tcp", "zmq", "inline"]
)
def test_a_topic_goes_by_its_id(make_cluster: MakeCluster, zmq: bool, linger_ms: float) -> None:
    cluster = with_ids(make_cluster(zmq=zmq, partitions=2))
    with producer_for(cluster, linger_ms=linger_ms) as producer:
        sent = [producer.send("t", b"%d" % number, partition=number % 2) for number in range(20)]
        assert [(one.result(10).topic, one.result().offset) for one in sent] == [
            ("t", number // 2) for number in range(20)
        ]
    assert cluster.versions_seen == {BY_IDS}


@pytest.mark.parametrize("highest", [9, BY_NAMES])
def test_an_older_broker_is_told_the_name(make_cluster: MakeCluster, highest: int) -> None:
    cluster = with_ids(make_cluster(), highest)
    with producer_for(cluster) as producer:
        assert producer.send("t", b"x").result(10).offset == 0
    assert cluster.versions_seen == {highest}


def test_where_one_topic_has_no_id_all_go_by_their_names(make_cluster: MakeCluster) -> None:
    cluster = with_ids(make_cluster())
    cluster.add_topic("u", 1)
    with producer_for(cluster, linger_ms=50) as producer:
        sent = [producer.send(topic, b"x") for topic in ("t", "u")]
        assert [one.result(10).offset for one in sent] == [0, 0]
        assert producer.send("t", b"y").result(10).offset == 1
    assert BY_IDS in cluster.versions_seen
    assert BY_NAMES in cluster.versions_seen


@pytest.mark.parametrize("acks", ["all", 1])
def test_records_go_on_to_a_topic_that_is_made_anew(make_cluster: MakeCluster, acks: str | int) -> None:
    cluster = with_ids(make_cluster())
    with producer_for(cluster, acks=acks) as producer:
        for number in range(5):
            producer.send("t", b"%d" % number).result(10)
        before = cluster.make_anew("t")
        again = [producer.send("t", b"%d" % number) for number in range(5, 60)]
        assert [one.result(10).offset for one in again] == list(range(55))
    assert [record.value for record in before["t", 0].records] == [b"%d" % number for number in range(5)]
    assert cluster.values("t") == [b"%d" % number for number in range(5, 60)]
    assert cluster.versions_seen == {BY_IDS}


def test_an_answer_that_is_lost_while_the_topic_is_made_anew(make_cluster: MakeCluster) -> None:
    """The batch is in the old log; it is sent again under its number, and the new one takes it once."""
    cluster = with_ids(make_cluster(fault=lambda number: "drop after" if number == 1 else None))
    with producer_for(cluster) as producer:
        producer.send("t", b"0").result(10)
        lost = producer.send("t", b"1")
        wait_until("it is in the old log", lambda: cluster.brokers[0].produce_requests >= 2)
        cluster.make_anew("t")
        lost.result(10)
        producer.send("t", b"2").result(10)
    assert cluster.values("t") in ([b"2"], [b"1", b"2"])


def test_records_of_a_topic_that_is_gone_fail_and_say_so(make_cluster: MakeCluster) -> None:
    cluster = with_ids(make_cluster())
    with producer_for(cluster, delivery_timeout_ms=500, request_timeout_ms=400) as producer:
        producer.send("t", b"x").result(10)
        cluster.delete("t")
        error = producer.send("t", b"y").exception(10)
    assert isinstance(error, DeliveryTimeoutError)
    assert "UNKNOWN_TOPIC_ID" in str(error)
    assert "they are not in the log" in str(error)


# --- whole brokers ---


OLDER = "an older broker"


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a broker; the older one offers Produce to 12 only."""
    if request.param != OLDER:
        whole: KafkaServer | BrokerProcess = request.getfixturevalue(request.param)
        yield whole.bootstrap
        return
    older = OlderBroker({ApiKey.PRODUCE: BY_NAMES})
    settings = {"advertised.listeners": f"PLAINTEXT://{older.address}"}
    made = BrokerProcess(tmp_path / "data", settings=settings).start()
    older.begin(made.tcp_port)
    yield older.address
    assert older.versions(ApiKey.PRODUCE) == {BY_NAMES}
    older.close()
    assert made.stop() == 0, made.log()


# over ZeroMQ one would come to our broker past the proxy that makes it older
@pytest.mark.parametrize(
    ("bootstrap", "linger_ms"),
    [("kafka", 2), ("kafka", 0), ("broker", 2), ("broker", 0), (OLDER, 0)],
    indirect=["bootstrap"],
)
def test_a_producer_outlives_its_topic(bootstrap: str, topic_name: str, linger_ms: float) -> None:
    """Whoever sends while a topic is deleted and made anew finds what was sent since then in the new one."""
    settings = {**QUICK, "linger_ms": linger_ms}
    with Admin(bootstrap) as admin, Producer(bootstrap, **settings) as producer:
        for round_ in range(3):
            admin.create_topic(topic_name, partitions=2)
            wait_until("it has leaders", lambda: is_led(admin, topic_name), seconds=30)
            sent = [
                producer.send(topic_name, b"%d-%d" % (round_, number), partition=number % 2)
                for number in range(200)
            ]
            assert [one.result(60).offset for one in sent] == [number // 2 for number in range(200)]
            with Consumer(bootstrap, topics=topic_name, auto_offset_reset="earliest") as consumer:
                values: list[bytes | None] = []
                while len(values) < 200:
                    values += [record.value for record in consumer.poll(timeout=10)]
            assert set(values) == {b"%d-%d" % (round_, number) for number in range(200)}
            admin.delete_topic(topic_name)
