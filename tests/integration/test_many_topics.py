"""Hundreds of topics made by one request, and by many clients at once: they survive a kill, hold no file while nobody
uses them, and work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from confluent_kafka.admin import NewTopic

from fastlog.bench.harness.processes import descriptor_count
from fastlog.client.connection import Connection
from fastlog.errors import NotReachableError
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest
from tests.conftest import MakeBroker
from tests.integration.test_topics import SECONDS, admin_of, produce, topic_ids, values_of
from tests.support.broker import BrokerProcess, wait_until

COUNT = 400
NAMES = [f"topic-{number}" for number in range(COUNT)]
#: of the broker itself and its clients' connections
DESCRIPTORS_MAX = 100
CLIENTS = 16


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


class Clients:
    """Clients that ask for one topic after the other, until the broker dies; and what they were told is done."""

    def __init__(
        self, broker: BrokerProcess, ask: Callable[[Connection, str], int], names: Sequence[str]
    ) -> None:
        self.done: list[str] = []
        self._ask = ask
        self._address = broker.bootstrap.rpartition(":")
        shares = [names[number::CLIENTS] for number in range(CLIENTS)]
        self._threads = [threading.Thread(target=self._run, args=(share,)) for share in shares]
        for thread in self._threads:
            thread.start()

    def _run(self, names: Sequence[str]) -> None:
        host, _, port = self._address
        with suppress(NotReachableError), Connection(host, int(port), client_id="test") as connection:
            for name in names:
                assert self._ask(connection, name) == 0
                self.done.append(name)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def create(connection: Connection, name: str) -> int:
    topic = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    answer = connection.request(CreateTopicsRequest(topics=[topic], timeout_ms=30_000), version=5)
    return int(answer.topics[0].error_code)


def delete(connection: Connection, name: str) -> int:
    answer = connection.request(DeleteTopicsRequest(topic_names=[name], timeout_ms=30_000), version=4)
    return int(answer.responses[0].error_code)


def test_what_many_clients_were_told_of_their_topics_survives_a_kill(make_broker: MakeBroker) -> None:
    broker = make_broker()
    creating = Clients(broker, create, NAMES)
    wait_until("a hundred are made", lambda: len(creating.done) >= 100)
    broker.kill()
    creating.join()
    broker.start()
    made = set(topic_ids(broker))
    assert made >= set(creating.done)
    # at most one of each client is under way
    assert len(made) <= len(creating.done) + CLIENTS
    kept, going = creating.done[:5], creating.done[5:]
    for name in kept:
        produce(broker, name, name.encode())
    deleting = Clients(broker, delete, going)
    wait_until("fifty are deleted", lambda: len(deleting.done) >= 50)
    broker.kill()
    deleting.join()
    broker.start()
    left = set(topic_ids(broker))
    assert left.isdisjoint(deleting.done)
    assert left >= made - set(going)
    directories = {path.name for path in broker.data_dir.iterdir() if path.name.endswith("-0")}
    assert directories == {f"{name}-0" for name in left}
    for name in kept:
        assert values_of(broker, name, 1) == [name.encode()]
