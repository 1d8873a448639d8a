"""Bytes turn at rest under brokers that run: the scrub finds them, and other replicas have them still."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.conftest import watched
from tests.support.faults.cluster_witness import ClusterWitness, batches

pytestmark = pytest.mark.timeout(180)

#: so short that there are closed segments at once
SEGMENT_MS = "2000"
WHOLE_SECONDS = 60.0


SCRUBBED = {"fastlog.scrub.interval.ms": "1000", "fastlog.scrub.max.bytes.per.second": "100000000"}
UNSCRUBBED = {"fastlog.scrub.interval.ms": "-1"}


@pytest.fixture
def settings() -> dict[str, str]:
    return SCRUBBED


@pytest.fixture
def witness(cluster: Cluster, topic_name: str) -> ClusterWitness:
    return watched(cluster, topic_name, configs={"segment.ms": SEGMENT_MS})


def directory(broker: ClusterBroker, witness: ClusterWitness) -> Path:
    return broker.data_dir / f"{witness.topic}-0"


def turn(broker: ClusterBroker, witness: ClusterWitness, *, at: int, of_batch: int = 5) -> int:
    """Turns a byte of a batch of partition 0, `at` bytes behind its start, in place; the batch's offset."""
    offset, batch = sorted(batches(directory(broker, witness)).items())[of_batch]
    path = max(it for it in directory(broker, witness).glob("*.log") if int(it.stem) <= offset)
    position = path.read_bytes().index(batch)
    with path.open("r+b") as file:
        file.seek(position + at)
        (byte,) = file.read(1)
        file.seek(position + at)
        file.write(bytes([byte ^ 0xFF]))
    return offset


def others(cluster: Cluster, witness: ClusterWitness) -> list[ClusterBroker]:
    leader = cluster.leader_of(witness.topic)
    return [it for it in cluster.brokers.values() if it is not leader]


def closed_segments(witness: ClusterWitness, broker: ClusterBroker) -> None:
    """Returns when there are several segments."""
    while len(list(directory(broker, witness).glob("*.log"))) < 3:
        witness.wait_for_more(300)


def wait_mended(cluster: Cluster, broker: ClusterBroker, offset: int) -> None:
    cluster.wait_until(
        f"broker {broker.broker_id} says that offset {offset} is mended",
        lambda: any(
            "mended damaged records from another replica" in line and f"{offset}" in line
            for line in broker.log().splitlines()
        ),
        WHOLE_SECONDS,
    )


# the length of the batch, its CRC, a record: what the broker walks by, and what only a checksum tells
@pytest.mark.parametrize("at", [9, 18, 70], ids=["length", "crc", "record"])
def test_a_followers_bytes_are_found_and_mended(cluster: Cluster, witness: ClusterWitness, at: int) -> None:
    with witness:
        follower = others(cluster, witness)[0]
        closed_segments(witness, follower)
        offset = turn(follower, witness, at=at)
        wait_mended(cluster, follower, offset)
        witness.wait_for_more()
    assert "the scrub found records that turned bad" in follower.log()
    witness.check()


def test_a_leaders_bytes_are_mended_while_it_leads(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        leader = cluster.leader_of(witness.topic)
        closed_segments(witness, leader)
        offset = turn(leader, witness, at=70)
        wait_mended(cluster, leader, offset)
        witness.wait_for_more()
        assert cluster.leader_of(witness.topic) is leader
    witness.check()


def test_bytes_turn_on_all_replicas_each_elsewhere(cluster: Cluster, witness: ClusterWitness) -> None:
    """None of them is whole, all together are: no copy is thrown away before it is needed."""
    with witness:
        brokers = list(cluster.brokers.values())
        for broker in brokers:
            closed_segments(witness, broker)
        places = [turn(it, witness, at=70, of_batch=5 + 10 * number) for number, it in enumerate(brokers)]
        for broker, offset in zip(brokers, places, strict=True):
            wait_mended(cluster, broker, offset)
    witness.check()


# a record, which only a checksum tells; the base offset and the leader epoch, which no checksum covers
@pytest.mark.parametrize("at", [70, 6, 14], ids=["record", "base-offset", "leader-epoch"])
@pytest.mark.parametrize("settings", [UNSCRUBBED], ids=["without a scrub"])
def test_a_leaders_bad_batch_is_not_appended_by_a_follower_but_reported(
    cluster: Cluster, witness: ClusterWitness, at: int
) -> None:
    """A follower that has lost everything meets the bad batch on its way, and gets the good one in the end."""
    with witness:
        leader, (lost, _) = cluster.leader_of(witness.topic), others(cluster, witness)
        closed_segments(witness, leader)
        lost.kill()
        for path in directory(lost, witness).glob("*"):
            path.unlink()
        offset = turn(leader, witness, at=at)
        lost.restart()
        cluster.wait_ready()
        wait_mended(cluster, leader, offset)
        cluster.wait_in_sync(witness.topic, 3)
    # where a batch contradicts its neighbours the leader may see it by itself, when it looks for an offset
    is_seen = at != 70 and "is damaged at byte" in leader.log()
    assert is_seen or "what a leader sent was not appended, it is fetched again" in lost.log()
    witness.check()
