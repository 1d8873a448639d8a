"""`fastlog.durability = fsync` as clients meet it: sixteen at once, changed while they send, and kill -9."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Producer as ConfluentProducer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from fastlog import Admin, Producer
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.clients import confluent

CLIENTS = 16
EACH = 40
SECONDS = 30.0

#: offset -> value of what one client was told is in the log
Acknowledged = dict[int, bytes]
Send = Callable[[str, str, int], Acknowledged]


def send_with_confluent(bootstrap: str, topic: str, number: int) -> Acknowledged:
    """librdkafka, each record acknowledged before the next; odd clients with acks=1."""
    acks = "1" if number % 2 else "all"
    producer = ConfluentProducer({"bootstrap.servers": bootstrap, "acks": acks, "linger.ms": 0})
    acknowledged: Acknowledged = {}

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        acknowledged[message.offset()] = message.value()

    for record in range(EACH):
        producer.produce(topic, b"%d-%d" % (number, record), partition=0, on_delivery=delivered)
        assert producer.flush(SECONDS) == 0
    return acknowledged


def send_with_sdk(bootstrap: str, topic: str, number: int) -> Acknowledged:
    """Our own producer, over ZeroMQ."""
    acknowledged: Acknowledged = {}
    with Producer(bootstrap, linger_ms=0, acks=1 if number % 2 else "all") as producer:
        for record in range(EACH):
            value = b"%d-%d" % (number, record)
            delivery = producer.send(topic, value, partition=0)
            producer.flush(SECONDS)
            acknowledged[delivery.result(SECONDS).offset] = value
    return acknowledged


def send_at_once(send: Send, bootstrap: str, topic: str) -> Acknowledged:
    """What sixteen clients were told; no offset was given twice."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        told = list(pool.map(lambda number: send(bootstrap, topic, number), range(CLIENTS)))
    together = {offset: value for one in told for offset, value in one.items()}
    assert len(together) == CLIENTS * EACH
    return together


def consumed(bootstrap: str, topic: str, count: int) -> dict[int, bytes]:
    values = [sample.value for sample in confluent.consume(bootstrap, topic, count)]
    return dict(enumerate(values))


def set_durability(bootstrap: str, topic: str, value: str) -> None:
    """By another project's admin client."""
    entry = ConfigEntry("fastlog.durability", value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(SECONDS)


def durability(bootstrap: str, topic: str) -> str:
    """As another project's admin client is told it."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = admin.describe_configs([resource]).values()
    return str(future.result(SECONDS)["fastlog.durability"].value)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("send", [send_with_confluent, send_with_sdk])
def test_what_sixteen_clients_were_told_is_what_consumers_get(
    broker: BrokerProcess, topic_name: str, send: Send
) -> None:
    topic = create_topic(broker.bootstrap, topic_name, config={"fastlog.durability": "fsync"})
    acknowledged = send_at_once(send, broker.bootstrap, topic)
    assert consumed(broker.bootstrap, topic, CLIENTS * EACH) == acknowledged


@pytest.mark.timeout(120)
def test_the_setting_changes_under_clients_that_send(broker: BrokerProcess, topic_name: str) -> None:
    topic = create_topic(broker.bootstrap, topic_name)
    assert durability(broker.bootstrap, topic) == "os"
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send_at_once, send_with_confluent, broker.bootstrap, topic)
        changes = 0
        while not sending.done() or changes < 4:
            value = "os" if changes % 2 else "fsync"
            set_durability(broker.bootstrap, topic, value)
            assert durability(broker.bootstrap, topic) == value
            changes += 1
        acknowledged = sending.result()
    assert consumed(broker.bootstrap, topic, CLIENTS * EACH) == acknowledged


@pytest.mark.timeout(120)
def test_acknowledged_records_of_a_synced_broker_survive_kill_9(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"fastlog.durability": "fsync"})
    topic = create_topic(broker.bootstrap, "synced")
    assert durability(broker.bootstrap, topic) == "fsync", "the broker's default"
    acknowledged = send_at_once(send_with_confluent, broker.bootstrap, topic)
    broker.kill()
    broker.start()
    with Admin(broker.bootstrap) as admin:
        latest = admin.list_offsets({(topic, 0): "latest"})[topic, 0]
        assert latest.offset == CLIENTS * EACH, "shown at once after the start"
    assert consumed(broker.bootstrap, topic, CLIENTS * EACH) == acknowledged


def test_a_topic_may_differ_from_its_broker(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"fastlog.durability": "fsync"})
    topic = create_topic(broker.bootstrap, "quick", config={"fastlog.durability": "os"})
    with Admin(broker.bootstrap) as admin:
        assert admin.describe_topic(topic).durability == "os"
        admin.alter_configs({"fastlog.durability": None}, topic=topic)
        assert admin.describe_topic(topic).durability == "fsync"
        admin.alter_configs({"fastlog.durability": "os"}, broker=1)
        assert admin.describe_topic(topic).durability == "os", "the broker's default changes it too"
        assert admin.describe_configs(topic=topic)["fastlog.durability"].source == "broker"
