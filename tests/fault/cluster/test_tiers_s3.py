"""Tiers of a cluster whose store is a real S3 server, behind a network that denies, delays, breaks off and lies."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from fastlog.testing import Cluster
from tests.support.cluster_load import Load, read_all
from tests.support.cluster_tiers import (
    DIGITS,
    EARLIEST,
    EARLIEST_LOCAL,
    LATEST_TIERED,
    TOPIC,
    offset,
    settings,
    storms,
    wait_tiered,
)
from tests.support.object_store import BUCKET, DENIED, FaultyStore, ObjectStore

pytestmark = pytest.mark.timeout(300)

PREFIX = "tiers"
SEGMENTS_KEPT = 3
SLOW_SECONDS = 0.5
#: of a hundred requests so many are denied, answered late, broken off before and within the answer, and lied to
EACH_OF_HUNDRED = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture
def s3(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """A proxy before the server, which the environment of the brokers names."""
    with FaultyStore(server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def cluster(s3: FaultyStore) -> Iterator[Cluster]:
    with Cluster(3, settings=settings(f"s3://{BUCKET}/{PREFIX}")) as started:
        yield started


class Faults:
    """One request in four goes wrong, in one of five ways."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.seen = dict.fromkeys(("denied", "late", "no answer", "half an answer", "another bit"), 0)

    def __call__(self, method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int] | None:
        number = self._chance.randrange(100) // EACH_OF_HUNDRED
        # of a listing there is no checksum but that of the connection
        has_checksum = method == "GET" and status in (200, 206) and key.startswith(PREFIX)
        if has_checksum and not self.seen["another bit"]:
            # few objects are read: left to chance, none may be lied about
            number = list(self.seen).index("another bit")
        if number >= len(self.seen):
            return status, body, len(body)
        kind = list(self.seen)[number]
        if kind == "another bit" and not has_checksum:
            return status, body, len(body)
        self.seen[kind] += 1
        match kind:
            case "denied":
                return 403, DENIED, len(DENIED)
            case "late":
                time.sleep(SLOW_SECONDS)
                return status, body, len(body)
            case "no answer":
                return None
            case "half an answer":
                return status, body[: len(body) // 2], len(body)
        place = self._chance.randrange(len(body))
        return status, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :], len(body)


def kill_while_it_uploads(cluster: Cluster, topic: str, proxy: FaultyStore, server: ObjectStore) -> None:
    """The leader dies when a segment of it lies in the store, and before it hears so."""
    leader = cluster.leader_of(topic)
    before = len(proxy.requests)
    proxy.goes_on.clear()

    def put() -> list[str]:
        return [key for method, key in proxy.requests[before:] if method == "PUT" and key.endswith(".log")]

    cluster.wait_until("it uploads a segment", lambda: bool(put()), 60)
    leader.kill()
    (stray,) = put()
    proxy.goes_on.set()
    cluster.wait_until("another one leads", lambda: cluster.leader_of(topic) is not leader, 60)
    cluster.wait_until("and removes what nobody names", lambda: stray not in server.keys(PREFIX), 60)
    leader.restart()
    cluster.wait_ready()
    cluster.wait_in_sync(topic, 3)


def objects_of(server: ObjectStore, topic: str) -> list[str]:
    return server.keys(f"{PREFIX}/{topic}-")


def log_objects(server: ObjectStore, topic: str) -> list[str]:
    return [it for it in objects_of(server, topic) if it.endswith(".log")]


def test_s3_denies_breaks_off_and_lies_while_leaders_die(
    cluster: Cluster, s3: FaultyStore, server: ObjectStore, topic_name: str
) -> None:
    seed = time.time_ns()
    print("seed", seed)  # shown where it fails
    faults = Faults(seed)
    with cluster.admin() as admin:
        admin.create_topic(topic_name, partitions=1, replication_factor=3, configs=TOPIC)
    with Load(cluster, topic_name, digits=DIGITS) as load:
        wait_tiered(cluster, topic_name)
        kill_while_it_uploads(cluster, topic_name, s3, server)
        s3.fault = faults
        storms(cluster, topic_name, load)
    # also what is read meanwhile is what was written, or comes later
    load.check()
    assert all(faults.seen.values()), faults.seen
    s3.fault = None
    leader = cluster.leader_of(topic_name)
    # in this order: it may upload and delete meanwhile
    local = offset(leader, topic_name, EARLIEST_LOCAL)
    tiered = offset(leader, topic_name, LATEST_TIERED)
    assert offset(leader, topic_name, EARLIEST) == 0
    assert 0 < local <= tiered + 1
    with cluster.admin() as admin:
        admin.alter_configs(
            {"retention.bytes": str(SEGMENTS_KEPT * int(TOPIC["segment.bytes"]))}, topic=topic_name
        )
        cluster.wait_until(
            "retention deletes in the store",
            lambda: len(log_objects(server, topic_name)) <= SEGMENTS_KEPT,
            60,
        )
        # some of what the faults held up may be deleted before it is uploaded
        cluster.wait_until(
            "what is kept is uploaded",
            lambda: 0 < offset(leader, topic_name, EARLIEST) <= offset(leader, topic_name, LATEST_TIERED),
            60,
        )
        start = offset(leader, topic_name, EARLIEST)
        found = read_all(cluster.bootstrap, topic_name, 1, start)
        kept = {place: value for value, place in load.acknowledged.items() if place[1] >= start}
        assert kept.items() <= found.items()
        admin.delete_topic(topic_name)
        cluster.wait_until("the store has nothing of it", lambda: not objects_of(server, topic_name), 60)
    left = [f"{PREFIX}/fastlog-probe", f"{PREFIX}/fastlog-store"]
    assert server.keys(PREFIX) == left, "tries of the store left something"
    for broker in cluster.brokers.values():
        assert "Traceback" not in broker.log()
