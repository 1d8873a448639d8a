"""Clients that nobody here wrote follow leaders that die, stop in order, and come back."""

from __future__ import annotations

import pytest

from fastlog.testing import Cluster
from tests.support.clients.running import EVERYBODY, Running
from tests.support.cluster_load import read_all

PARTITIONS = 3
SOME = 150

pytestmark = pytest.mark.timeout(240)


def test_they_lose_nothing_and_write_nothing_twice(cluster: Cluster, topic_name: str) -> None:
    everybody = [kind(cluster.bootstrap, f"{topic_name}-{kind.name}", PARTITIONS) for kind in EVERYBODY]
    with cluster.admin() as admin:
        for client in everybody:
            admin.create_topic(client.topic, partitions=PARTITIONS, replication_factor=3)
    for client in everybody:
        client.start()
    goes_on(cluster, everybody)
    # each leads a partition of every topic
    for broker in list(cluster.brokers.values())[:2]:
        broker.kill()
        goes_on(cluster, everybody)
        broker.restart()
        cluster.wait_ready()
        for client in everybody:
            cluster.wait_in_sync(client.topic, 3)
    last = cluster.leader_of(everybody[0].topic)
    last.stop()
    goes_on(cluster, everybody)
    last.restart()
    cluster.wait_ready()
    for client in everybody:
        client.finish()
    for client in everybody:
        check(cluster, client)


def goes_on(cluster: Cluster, everybody: list[Running]) -> None:
    """Each client reads what was written from now on."""
    for client in everybody:
        before = max(client.consumed.values(), default=0)

        def has_more(client: Running = client, before: int = before) -> bool:
            assert not client.failures, f"{client.name}: {client.failures[:3]}"
            return len([it for it in list(client.consumed.values()) if it > before]) >= SOME

        cluster.wait_until(f"{client.name} goes on", has_more, 60)


def check(cluster: Cluster, client: Running) -> None:
    """All that was acknowledged is there, once, in order, and was consumed."""
    assert not client.failures, f"{client.name}: {client.failures[:3]}"
    found = {
        place: int(value) for place, value in read_all(cluster.bootstrap, client.topic, PARTITIONS).items()
    }
    numbers = list(found.values())
    assert len(set(numbers)) == len(numbers), f"{client.name}: {len(numbers) - len(set(numbers))} twice"
    assert client.acknowledged <= set(numbers), f"{client.name} lost {client.acknowledged - set(numbers)}"
    for partition in range(PARTITIONS):
        inside = [number for (of, _), number in sorted(found.items()) if of == partition]
        assert inside == sorted(inside), f"{client.name}: partition {partition} is out of order"
    other = {place: number for place, number in client.consumed.items() if found.get(place) != number}
    assert not other, f"{client.name} consumed what is not there: {other}"
    assert client.acknowledged <= set(client.consumed.values()), f"{client.name} was not given all"
