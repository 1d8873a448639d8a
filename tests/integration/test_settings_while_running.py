"""Settings of brokers that are changed while they run, and what says so at once."""

from __future__ import annotations

import re

import pytest

import fastlog
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import wait_until
from tests.support.wire import API_VERSIONS, RawConnection, request


def is_served(port: int) -> bool:
    """Whether one more connection is answered."""
    with RawConnection(port) as connection:
        try:
            return connection.ask(request(API_VERSIONS, 0, b"")) is not None
        except OSError:
            return False


def test_the_limit_of_connections_holds_from_its_change_on(make_broker: MakeBroker) -> None:
    broker = make_broker()
    with RawConnection(broker.tcp_port), fastlog.Admin(broker.bootstrap) as admin:
        admin.alter_configs({"max.connections.per.ip": "1"}, broker=1)
        wait_until("one more is refused", lambda: not is_served(broker.tcp_port))
        admin.alter_configs({"max.connections.per.ip": "100"}, broker=1)
        wait_until("one more is served", lambda: is_served(broker.tcp_port))


def test_the_cleaner_comes_sooner_from_its_change_on(make_broker: MakeBroker, topic_name: str) -> None:
    broker = make_broker(settings={"log.cleaner.backoff.ms": "3600000"})
    config = {"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0"}
    create_topic(broker.bootstrap, topic_name, config=config)
    with fastlog.Producer(broker.bootstrap) as producer:
        for number in range(10):
            producer.send(topic_name, b"%d" % number, key=b"key").result()

    def left() -> list[bytes | None]:
        with fastlog.Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.assign([(topic_name, 0)])
            found: list[bytes | None] = []
            while not found or found[-1] != b"9":
                found += [record.value for record in consumer.poll(timeout=1.0)]
            return found

    assert len(left()) == 10
    with fastlog.Admin(broker.bootstrap) as admin:
        admin.alter_configs({"log.cleaner.backoff.ms": "100"}, broker=1)
    # the active segment is not cleaned, and the one before it is the last that is
    wait_until("it is cleaned", lambda: len(left()) <= 2, seconds=60)


def test_what_was_changed_holds_after_a_start(make_broker: MakeBroker) -> None:
    broker = make_broker()
    with fastlog.Admin(broker.bootstrap) as admin:
        admin.alter_configs({"max.connections.per.ip": "1"}, broker=1)
    broker.kill()
    broker.start()
    with RawConnection(broker.tcp_port):
        wait_until("one more is refused", lambda: not is_served(broker.tcp_port))


def test_a_setting_without_meaning_is_taken_with_one_warning(
    make_broker: MakeBroker, topic_name: str
) -> None:
    broker = make_broker(settings={"num.io.threads": "16", "metric.reporters": "a.B"})
    create_topic(broker.bootstrap, topic_name, config={"compression.lz4.level": "7"})
    said = re.findall(r'event="setting has no meaning here" key=(\S+)', broker.log())
    assert sorted(said) == ["compression.lz4.level", "metric.reporters", "num.io.threads"]


def test_a_setting_that_is_refused_ends_the_start(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"authorizer.class.name": "a.B"}, start=False)
    with pytest.raises(
        AssertionError, match=r"authorizer\.class\.name=a\.B: who may do what is not checked yet"
    ):
        broker.start()
