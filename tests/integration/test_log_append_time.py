"""A topic that takes the broker's time: what clients and look-ups by time see, whatever the compression."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer, TopicPartition
from confluent_kafka import Consumer as ConfluentConsumer

import fastlog
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.samples import COMPRESSIONS

SECONDS = 30.0
COUNT = 30
DAY_MS = 86_400_000


def now_ms() -> int:
    return int(time.time() * 1000)


def produce(bootstrap: str, topic: str, compression: str) -> list[int]:
    """Sends records that claim to be days old; the times that they are answered with."""
    stamped: list[int] = []

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        kind, at = message.timestamp()  # type: ignore[attr-defined]
        assert kind == TIMESTAMP_LOG_APPEND_TIME
        stamped.append(at)

    producer = Producer(
        {"bootstrap.servers": bootstrap, "compression.type": compression, "linger.ms": 50, "acks": "all"}
    )
    for number in range(COUNT):
        producer.produce(
            topic, b"v%d" % number + b"x" * 100, timestamp=number * DAY_MS, on_delivery=delivered
        )
    assert producer.flush(SECONDS) == 0
    return stamped


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_record_has_the_broker_s_time(broker: BrokerProcess, topic_name: str, compression: str) -> None:
    config = {"message.timestamp.type": "LogAppendTime", "message.timestamp.before.max.ms": "1"}
    create_topic(broker.bootstrap, topic_name, config=config)
    before = now_ms()
    early = produce(broker.bootstrap, topic_name, compression)
    between = max(now_ms(), *early) + 1
    while now_ms() <= between:
        time.sleep(0.001)
    late = produce(broker.bootstrap, topic_name, compression)
    after = now_ms()
    assert len(early) == len(late) == COUNT
    assert before <= min(early) <= max(early) < between < min(late) <= max(late) <= after

    consumer = ConfluentConsumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "unused", "enable.auto.commit": False}
    )
    try:
        consumer.assign([TopicPartition(topic_name, 0, 0)])
        read = [message.timestamp() for message in consumer.consume(2 * COUNT, SECONDS)]
        found = consumer.offsets_for_times(
            [TopicPartition(topic_name, 0, at) for at in (between,)], timeout=SECONDS
        )
    finally:
        consumer.close()
    assert read == [(TIMESTAMP_LOG_APPEND_TIME, at) for at in (*early, *late)]
    assert [each.offset for each in found] == [COUNT]

    with fastlog.Consumer(broker.bootstrap, auto_offset_reset="earliest") as ours:
        ours.subscribe([topic_name])
        records = []
        while len(records) < 2 * COUNT:
            records += ours.poll(timeout=SECONDS)
    assert [record.timestamp_ms for record in records] == [*early, *late]


def test_a_topic_may_change_its_mind(broker: BrokerProcess, topic_name: str) -> None:
    """Records keep the time that they were stored with."""
    create_topic(broker.bootstrap, topic_name)
    then = now_ms() - 60_000
    with fastlog.Admin(broker.bootstrap) as admin, fastlog.Producer(broker.bootstrap) as producer:
        first = producer.send(topic_name, b"mine", timestamp_ms=then).result(SECONDS)
        admin.alter_configs({"message.timestamp.type": "LogAppendTime"}, topic=topic_name)
        second = producer.send(topic_name, b"broker's", timestamp_ms=then).result(SECONDS)
    assert first.timestamp_ms == then
    assert second.timestamp_ms > then
    with fastlog.Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.subscribe([topic_name])
        records = []
        while len(records) < 2:
            records += consumer.poll(timeout=SECONDS)
    assert [record.timestamp_ms for record in records] == [then, second.timestamp_ms]
