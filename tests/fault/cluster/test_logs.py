"""What a broker's disk may do to its logs: bytes turn, everything is gone, no room; and what the others make of it."""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from fastlog.errors import KafkaStorageError
from fastlog.native._records import read_batches
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.conftest import SETTINGS, watched
from tests.fault.conftest import MakeDisk
from tests.support.faults.cluster_witness import PRELUDE_BYTES, ClusterWitness
from tests.support.faults.loop_disk import LoopDisk, set_earlier_boot
from tests.support.raw import RawTcp

SESSION_SECONDS = 4.0

pytestmark = pytest.mark.timeout(150)


def back_in_sync(cluster: Cluster, topic: str) -> None:
    cluster.wait_ready()
    cluster.wait_in_sync(topic, 3)


def turn_bytes(segment: Path) -> None:
    """Turns some in the middle."""
    data = bytearray(segment.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(it ^ 0xFF for it in data[middle : middle + 8])
    segment.write_bytes(data)


def next_leader(cluster: Cluster, topic: str) -> ClusterBroker:
    """Who leads partition 0 when its leader stops."""
    with cluster.admin() as admin:
        state = admin.describe_topic(topic).partitions[0]
    return next(cluster[it] for it in state.replicas if it != state.leader)


def turn_a_followers_bytes(cluster: Cluster, witness: ClusterWitness, *, was_machine: bool) -> ClusterBroker:
    """A follower dies, with its machine or alone, and finds other bytes in its segment when it comes back."""
    witness.wait_for_more(600)
    follower = next_leader(cluster, witness.topic)
    follower.kill()
    (segment,) = (follower.data_dir / f"{witness.topic}-0").glob("*.log")
    turn_bytes(segment)
    if was_machine:
        set_earlier_boot(follower.data_dir)
    witness.wait_for_more()
    follower.restart()
    back_in_sync(cluster, witness.topic)
    return follower


def test_bytes_of_a_followers_segment_turn_as_its_machine_dies(
    cluster: Cluster, witness: ClusterWitness
) -> None:
    """What it still has is checked, and what was behind the bad bytes is fetched again."""
    with witness:
        turn_a_followers_bytes(cluster, witness, was_machine=True)
        # it may lead now, and has good bytes
        for broker in cluster.brokers.values():
            if broker is not cluster.leader_of(witness.topic):
                continue
            broker.stop()
            witness.wait_for_more()
            broker.restart()
            back_in_sync(cluster, witness.topic)
    witness.check()


def served(broker: ClusterBroker, topic: str, end: int) -> tuple[dict[int, bytes], set[int]]:
    """What a leader serves of partition 0 below `end` to a client that checks nothing: values by offset, and the
    offsets at which it is told that the storage failed."""
    values: dict[int, bytes] = {}
    refused: set[int] = set()
    offset = 0
    with RawTcp("127.0.0.1", broker.ports["PLAINTEXT"]) as connection:
        while offset < end:
            wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
            request = FetchRequest(max_bytes=1 << 20, topics=[FetchTopic(topic, partitions=[wanted])])
            answer = connection.ask(request, 11).responses[0].partitions[0]
            if answer.error_code:
                assert answer.error_code == KafkaStorageError.code
                refused.add(offset)
                offset += 1
                continue
            for batch in read_batches(whole_batches(bytes(answer.records)), from_offset=offset):
                values.update((it.offset, it.value or b"") for it in batch)
                offset = batch.next_offset
    return values, refused


def whole_batches(records: bytes) -> bytes:
    """Without the part of a batch at the end."""
    end = 0
    while end + PRELUDE_BYTES <= len(records):
        (length,) = struct.unpack_from(">i", records, end + 8)
        if end + PRELUDE_BYTES + length > len(records):
            break
        end += PRELUDE_BYTES + length
    return records[:end]


def test_bytes_that_turned_at_rest_are_never_served_as_records(
    cluster: Cluster, witness: ClusterWitness
) -> None:
    """A process that starts after one that died looks at all that was not synced. As leader it refuses the bad batch
    until it is mended; what is before and behind it is served, and the others have it whole.
    """
    with witness:
        damaged = turn_a_followers_bytes(cluster, witness, was_machine=False)
        leader = cluster.leader_of(witness.topic)
        leader.stop()
        cluster.wait_until("it leads", lambda: cluster.leader_of(witness.topic) is damaged)
        witness.wait_for_more()
    places = {place[1]: b"%d" % it for it, place in witness.acknowledged.items() if place[0] == 0}
    values, refused = served(damaged, witness.topic, max(places) + 1)
    assert "is damaged at byte" in damaged.log(), "the turned bytes are nowhere"
    assert {it: value for it, value in values.items() if places[it] != value} == {}
    assert values.keys() | refused == places.keys()
    leader.restart()
    back_in_sync(cluster, witness.topic)
    damaged.stop()
    cluster.wait_until("another one leads", lambda: cluster.leader_of(witness.topic) is not damaged)
    assert witness.lost() == []


def test_bytes_that_turned_at_rest_are_fetched_again(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        turn_a_followers_bytes(cluster, witness, was_machine=False)
    witness.check_replicas(seconds=60)
    witness.check()


def test_a_wiped_broker_returns(cluster: Cluster, witness: ClusterWitness) -> None:
    """Leader and all: neither its empty log nor its place in the ISR of before counts for anything."""
    with witness:
        witness.wait_for_more(300)
        wiped = cluster.leader_of(witness.topic)
        wiped.kill()
        shutil.rmtree(wiped.data_dir)
        # without its directory it cannot prove that the registration of before is its own: it waits for its end
        witness.wait_for_more()
        cluster.wait_ready()
        wiped.restart()
        back_in_sync(cluster, witness.topic)
    witness.check()


def test_a_wiped_broker_alone_does_not_win(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        witness.wait_for_more(300)
    wiped = cluster.leader_of(witness.topic)
    for broker in cluster.brokers.values():
        broker.kill()
    shutil.rmtree(wiped.data_dir)
    time.sleep(SESSION_SECONDS + 1)
    wiped.restart()
    # it is the only one there is, and knows nothing
    with cluster.admin(wiped.broker_id) as admin:
        cluster.wait_until(
            "the topic is known, and not led by the wiped one",
            lambda: (
                wiped.broker_id not in {it.leader for it in admin.describe_topic(witness.topic).partitions}
            ),
        )
    for broker in cluster.brokers.values():
        if broker is not wiped:
            broker.restart()
    back_in_sync(cluster, witness.topic)
    witness.check()


# --- a full disk ---

# a second of them is more than what is reserved ahead
VALUE_BYTES = 1000
OWN_SETTINGS = {"replica.lag.time.max.ms": "3000"}


class OnDisk(Cluster):
    """A cluster of which one broker has a small disk of its own."""

    def __init__(self, disk: LoopDisk, folder: Path, settings: Mapping[str, str]) -> None:
        super().__init__(3, folder=folder, settings=SETTINGS | OWN_SETTINGS | settings)
        self._disk = disk

    def add(self, broker_id: int, settings: Mapping[str, str] | None = None) -> ClusterBroker:
        broker = super().add(broker_id, settings)
        if broker_id == 1:
            broker.data_dir = self._disk.path / "data"
        return broker


@pytest.fixture
def disk(make_disk: MakeDisk) -> LoopDisk:
    return make_disk("small", mebibytes=64)


@pytest.fixture
def on_disk(disk: LoopDisk, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A test may give settings as its parameter."""
    with OnDisk(disk, tmp_path / "cluster", getattr(request, "param", {})) as started:
        yield started


@pytest.mark.parametrize(
    ("on_disk", "told"),
    [
        # under load it may be out of sync for a while before it meets the end of the disk, and has nothing to say
        pytest.param({"fastlog.disk.floor.bytes": "0"}, "", id="to the last byte"),
        pytest.param({}, "a disk has less room than it is to keep", id="to the floor"),
    ],
    indirect=["on_disk"],
)
def test_a_full_disk_takes_one_broker_out_and_no_more(
    on_disk: Cluster, disk: LoopDisk, topic_name: str, told: str
) -> None:
    """As a leader it can take nothing, as a follower it falls behind; the others go on, and all resumes by itself."""
    with watched(on_disk, topic_name, digits=VALUE_BYTES) as witness:
        with on_disk.admin() as admin:
            leaders = {it.partition: it.leader for it in admin.describe_topic(topic_name).partitions}
        elsewhere = [partition for partition, leader in leaders.items() if leader != 1]
        (here,) = leaders.keys() - set(elsewhere)
        with disk.filled():
            # first what is reserved ahead is used up
            on_disk.wait_until("it is out of sync", lambda: in_sync(on_disk, topic_name, elsewhere) == {2, 3})
            witness.wait_for_more(300, partitions=elsewhere)
            refused = len(witness.moments[here])
            witness.wait_for_more(300, partitions=elsewhere)
            assert len(witness.moments[here]) == refused, "it took records that it has no room for"
            on_disk.wait_until("it says why", lambda: told in on_disk[1].log_file.read_text())
        witness.wait_for_more()
        assert on_disk[1].is_running
        back_in_sync(on_disk, topic_name)
        print(f"full disk: {witness.gap():.2f} s without an acknowledgement")
    witness.check()


def in_sync(cluster: Cluster, topic: str, partitions: Iterable[int]) -> set[int]:
    """Who is in sync in any of these partitions."""
    with cluster.admin(2) as admin:
        found = admin.describe_topic(topic).partitions
    return {broker for it in found if it.partition in partitions for broker in it.isr}
