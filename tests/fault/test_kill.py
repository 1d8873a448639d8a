"""kill -9 under load: every acknowledged record is there after a restart, at its offset, once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Producer as ConfluentProducer

from fastlog import Admin, Producer
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.clients import confluent

KILLS = 3
RECORDS_BETWEEN_KILLS = 20_000
# what waits while the broker is away is read back and compared at the end
IN_FLIGHT_MAX = 100_000
DELIVERY_SECONDS = 60.0


@dataclass
class Load:
    """What one producer was told: offset -> value of every acknowledged record, and the failures."""

    acknowledged: dict[int, bytes] = field(default_factory=dict)
    failures: list[object] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    sent: int = 0


def produce_with_confluent(bootstrap: str, topic: str, load: Load) -> None:
    """librdkafka, idempotent, acks=all, until `load.stop`."""
    config = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5}
    producer = ConfluentProducer({**config, "delivery.timeout.ms": 60_000, "reconnect.backoff.max.ms": 500})

    def delivered(error: object, message: object) -> None:
        if error is not None:
            load.failures.append(error)
        else:
            load.acknowledged[message.offset()] = message.value()

    while not load.stop.is_set():
        try:
            producer.produce(topic, b"%09d" % load.sent, partition=0, on_delivery=delivered)
            load.sent += 1
        except BufferError:
            producer.poll(0.05)
        producer.poll(0)
    assert producer.flush(DELIVERY_SECONDS) == 0


def produce_with_sdk(bootstrap: str, topic: str, load: Load) -> None:
    """Our own producer over ZeroMQ, until `load.stop`."""
    with Producer(bootstrap, linger_ms=5) as producer:
        waiting = deque()
        while not load.stop.is_set():
            if len(waiting) < IN_FLIGHT_MAX:
                value = b"%09d" % load.sent
                waiting.append((value, producer.send(topic, value, partition=0)))
                load.sent += 1
            else:
                note(load, *waiting.popleft())
            while waiting and waiting[0][1].done():
                note(load, *waiting.popleft())
        producer.flush(DELIVERY_SECONDS)
        for value, delivery in waiting:
            note(load, value, delivery)


def note(load: Load, value: bytes, delivery: object) -> None:
    error = delivery.exception(DELIVERY_SECONDS)
    if error is not None:
        load.failures.append(error)
    else:
        load.acknowledged[delivery.result().offset] = value


def wait_for_more(load: Load, count: int) -> None:
    goal = len(load.acknowledged) + count
    wait_until("records are acknowledged", lambda: len(load.acknowledged) >= goal, seconds=DELIVERY_SECONDS)


def kill_and_restart_under_load(broker: BrokerProcess, load: Load) -> None:
    for _ in range(KILLS):
        wait_for_more(load, RECORDS_BETWEEN_KILLS)
        broker.kill()
        time.sleep(0.3)
        broker.start()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("produce", [produce_with_confluent, produce_with_sdk])
def test_acknowledged_records_survive_kill_9(
    make_broker: MakeBroker, produce: Callable[[str, str, Load], None]
) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "load")
    load = Load()
    thread = threading.Thread(target=produce, args=(broker.bootstrap, topic, load))
    thread.start()
    try:
        kill_and_restart_under_load(broker, load)
    finally:
        load.stop.set()
        thread.join(2 * DELIVERY_SECONDS)
    assert not thread.is_alive()
    assert not load.failures, load.failures[:3]
    values = [sample.value for sample in confluent.consume(broker.bootstrap, topic, load.sent)]
    assert values == [b"%09d" % number for number in range(load.sent)], "lost, doubled or out of order"
    assert {offset: values[offset] for offset in load.acknowledged} == load.acknowledged


@pytest.mark.timeout(120)
@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_what_was_acknowledged_before_a_last_kill_is_there(make_broker: MakeBroker, durability: str) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "load", config={"fastlog.durability": durability})
    load = Load()
    config = {"bootstrap.servers": broker.bootstrap, "enable.idempotence": False, "linger.ms": 1}
    producer = ConfluentProducer({**config, "message.timeout.ms": 2000})

    def delivered(error: object, message: object) -> None:
        if error is None:
            load.acknowledged[message.offset()] = message.value()

    killed = False
    while not killed:
        producer.produce(topic, b"%09d" % load.sent, partition=0, on_delivery=delivered)
        load.sent += 1
        producer.poll(0)
        if len(load.acknowledged) > 5_000:
            broker.kill()
            killed = True
    producer.flush(10)
    broker.start()
    last = max(load.acknowledged)
    values = [sample.value for sample in confluent.consume(broker.bootstrap, topic, last + 1)]
    assert {offset: values[offset] for offset in load.acknowledged} == load.acknowledged


def test_sigterm_ends_with_status_0_and_everything_is_there_at_once(make_broker: MakeBroker) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "clean")
    load = Load()
    thread = threading.Thread(target=produce_with_confluent, args=(broker.bootstrap, topic, load))
    thread.start()
    wait_until("records are acknowledged", lambda: len(load.acknowledged) > 1000)
    load.stop.set()
    thread.join(DELIVERY_SECONDS)
    assert broker.stop() == 0, broker.log()
    assert broker.more_output() == []
    broker.start()
    values = [sample.value for sample in confluent.consume(broker.bootstrap, topic, load.sent)]
    assert values == [b"%09d" % number for number in range(load.sent)]


def test_a_broker_that_was_killed_while_idle_starts_again(make_broker: MakeBroker) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "idle")
    for _ in range(3):
        broker.kill()
        broker.start()
    assert broker.stop() == 0


def test_a_broker_alone_leads_in_a_new_epoch_after_any_end_but_a_clean_stop(make_broker: MakeBroker) -> None:
    """A kill may have been a disk that took not even the note that it failed, and clients are to see a cut log."""
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "led")

    def epoch() -> int:
        with Admin(broker.bootstrap) as admin:
            return admin.describe_topic(topic).partitions[0].leader_epoch

    first = epoch()
    assert broker.stop() == 0, broker.log()
    broker.start()
    assert epoch() == first
    broker.kill()
    broker.start()
    assert epoch() == first + 1
