"""The topic of groups is cleaned: it stays small, and the groups are those that they were."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

import fastlog
from fastlog.errors import GroupIdNotFoundError
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until

SETTINGS = {"group.initial.rebalance.delay.ms": "0", "log.cleaner.backoff.ms": "100"}
CLEANED_SOON = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0"}
COMMITS = 300
PATIENCE_SECONDS = 60.0
pytestmark = pytest.mark.timeout(300)


def largest(broker: BrokerProcess) -> int:
    """Bytes of the largest partition of the topic of groups."""
    partitions = Path(broker.data_dir).glob("__consumer_offsets-*")
    return max(sum(log.stat().st_size for log in each.glob("*.log")) for each in partitions)


def test_groups_outlive_the_cleaning_of_their_topic(make_broker: MakeBroker) -> None:
    broker = make_broker(settings=SETTINGS)
    create_topic(broker.bootstrap, "t", 2)
    member = fastlog.Consumer(
        broker.bootstrap, group_id="members", group_protocol="consumer", enable_auto_commit=False
    )
    standalone = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "standalone"})
    removed = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "removed"})
    offsets = itertools.count(1)

    def commit(count: int = 1) -> int:
        offset = 0
        for offset in itertools.islice(offsets, count):
            standalone.commit(offsets=[TopicPartition("t", 0, offset)], asynchronous=False)
        return offset

    with member, fastlog.Admin(broker.bootstrap) as admin:
        member.subscribe("t")
        wait_until("it has both", lambda: not member.poll(timeout=0.1) and len(member.assignment()) == 2)
        member.commit({fastlog.TopicPartition("t", 1): 77})
        removed.commit(offsets=[TopicPartition("t", 0, 5)], asynchronous=False)
        admin.delete_groups(["removed"])
        commit(COMMITS)
        before = largest(broker)
        admin.alter_configs(CLEANED_SOON, topic="__consumer_offsets")

        def is_cleaned() -> bool:
            # the active segment is not cleaned: another commit begins the next one
            commit()
            return largest(broker) < before / 3

        wait_until("it is cleaned", is_cleaned, seconds=PATIENCE_SECONDS)
        last = commit()
        broker.kill()
        broker.start()
        (found,) = standalone.committed([TopicPartition("t", 0)], timeout=PATIENCE_SECONDS)
        assert found.offset == last
        place = fastlog.TopicPartition("t", 1)
        assert member.committed([place], timeout=PATIENCE_SECONDS)[place].offset == 77
        with pytest.raises(GroupIdNotFoundError):
            admin.describe_groups(["removed"])
        with fastlog.Producer(broker.bootstrap) as producer:
            producer.send("t", b"on", partition=0).result()
        wait_until("the member goes on", lambda: bool(member.poll(timeout=0.1)), seconds=PATIENCE_SECONDS)
        assert len(member.assignment()) == 2
    standalone.close()
    removed.close()
