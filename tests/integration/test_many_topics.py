"""Hundreds of topics made by one request: they survive a kill, hold no file while nobody uses them, and work."""

from __future__ import annotations

from confluent_kafka.admin import NewTopic

from fastlog.bench.harness.processes import descriptor_count
from tests.conftest import MakeBroker
from tests.integration.test_topics import SECONDS, admin_of, produce, topic_ids, values_of
from tests.support.broker import BrokerProcess

COUNT = 400
NAMES = [f"topic-{number}" for number in range(COUNT)]
#: of the broker itself and its clients' connections
DESCRIPTORS_MAX = 100


def files_of(broker: BrokerProcess, name: str) -> list[str]:
    return sorted(path.name for path in (broker.data_dir / f"{name}-0").iterdir())


def test_many_topics_made_by_one_request(make_broker: MakeBroker) -> None:
    broker = make_broker()
    admin = admin_of(broker)
    made = admin.create_topics([NewTopic(name, 1, 1) for name in NAMES], request_timeout=60)
    for future in made.values():
        future.result(60)
    assert files_of(broker, "topic-7") == ["00000000000000000000.log", "partition.metadata"]
    assert descriptor_count(broker.pid) < DESCRIPTORS_MAX
    broker.kill()
    broker.start()
    ids = topic_ids(broker)
    assert sorted(ids) == sorted(NAMES)
    assert descriptor_count(broker.pid) < DESCRIPTORS_MAX
    for name in NAMES[:3]:
        produce(broker, name, b"first of", name.encode())
    assert broker.stop() == 0
    broker.start()
    assert topic_ids(broker) == ids
    assert descriptor_count(broker.pid) < DESCRIPTORS_MAX
    for name in NAMES[:3]:
        assert values_of(broker, name, 2) == [b"first of", name.encode()]
        assert "leader-epoch-checkpoint" in files_of(broker, name)
    produce(broker, NAMES[-1], b"only")
    assert values_of(broker, NAMES[-1], 1) == [b"only"]
    again = admin_of(broker)
    ((name, future),) = again.create_topics([NewTopic(NAMES[5], 1, 1)]).items()
    assert "TOPIC_ALREADY_EXISTS" in str(future.exception(SECONDS)), name
