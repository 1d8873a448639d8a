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
    create_topic(broker.bootstrap, topic_name, config={"local.retention.ms": "7"})
    said = re.findall(r'event="setting has no meaning here" key=(\S+)', broker.log())
    assert sorted(said) == ["local.retention.ms", "metric.reporters", "num.io.threads"]


def test_a_setting_that_is_refused_ends_the_start(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"authorizer.class.name": "a.B"}, start=False)
    with pytest.raises(
        AssertionError, match=r"authorizer\.class\.name=a\.B: who may do what is not checked yet"
    ):
        broker.start()
