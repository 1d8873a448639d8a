"""The data plane on a made-up disk: what survives which death, and that the same calls give the same bytes."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from fastlog.config import Config, TopicSettings
from fastlog.errors import KafkaError, KafkaStorageError
from fastlog.native._engine import Engine
from fastlog.native._simulation import SimulatedNode
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.batches import seal

TOPIC_ID = bytes(range(16))
# smaller than a user may ask for, so that there are many segments
OS = msgspec.structs.replace(Config().topic({}), segment_bytes=4096)
FSYNC = msgspec.structs.replace(OS, fastlog_durability="fsync")


def started(seed: int = 1, settings: TopicSettings = OS) -> SimulatedNode:
    node = SimulatedNode(1, seed)
    node.set_wall_clock(1_700_000_000_000)
    assert node.start() == "clean"
    open_topic(node, settings)
    return node


def open_topic(node: SimulatedNode, settings: TopicSettings = OS, epoch: int = 0) -> None:
    node.open_partitions("t", TOPIC_ID, [(0, epoch)], settings)
    node.finish_opening()


def produce(node: SimulatedNode, value: str, *, token: int = 0, timeout_ms: int = 1_000) -> bytes | None:
    batch = seal([(1_700_000_000_000, None, value.encode(), ())])
    data = [TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=batch)])]
    request = ProduceRequest(acks=-1, timeout_ms=timeout_ms, topic_data=data)
    return node.handle(token, encode_request_frame(request, 9, 1, "test"))


def produced(answer: bytes | None) -> tuple[int, int]:
    """Error code and offset."""
    assert answer is not None
    response: Any = decode_response_frame(0, 9, answer)[1]
    partition = response.responses[0].partition_responses[0]
    return partition.error_code, partition.base_offset


def fetch(
    node: SimulatedNode, offset: int, *, wait_ms: int = 0, token: int = 0, inter_broker: bool = False
) -> bytes | None:
    partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    request = FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=1,
        session_epoch=0,
        topics=[FetchTopic(topic="t", partitions=[partition])],
    )
    return node.handle(token, encode_request_frame(request, 11, 1, "test"), inter_broker=inter_broker)


def fetched(answer: bytes | None) -> tuple[int, int]:
    """High watermark and bytes."""
    assert answer is not None
    response: Any = decode_response_frame(1, 11, answer)[1]
    partition = response.responses[0].partitions[0]
    return partition.high_watermark, len(partition.records)


def offsets(node: SimulatedNode) -> list[int]:
    return [offset for offset, *_ in node.records("t", 0, 0, 1_000)]


def test_what_is_produced_is_fetched_and_seen() -> None:
    node = started()
    assert [produced(produce(node, f"value {number}")) for number in range(3)] == [(0, 0), (0, 1), (0, 2)]
    high_watermark, length = fetched(fetch(node, 0))
    assert high_watermark == 3
    assert length > 0
    assert node.look("t", 0) == (0, 3, 3, [(0, 0)])
    assert [(offset, epoch) for offset, epoch, _ in node.records("t", 0, 1, 9)] == [(1, 0), (2, 0)]


def test_a_long_poll_ends_by_an_append_or_when_its_time_has_come() -> None:
    node = started()
    assert fetch(node, 0, wait_ms=500, token=7) is None
    assert fetch(node, 0, wait_ms=300, token=8) is None
    assert node.next_due_ms() == 300
    node.advance_to(299)
    assert node.drain() == []
    node.advance_to(400)
    ((token, answer, closed),) = node.drain()
    assert (token, closed, fetched(answer)) == (8, None, (0, 0))
    produce(node, "value")
    ((token, answer, _),) = node.drain()
    assert token == 7
    assert fetched(answer)[0] == 1


def test_the_death_of_the_process_loses_nothing() -> None:
    node = started()
    for number in range(100):
        produce(node, f"value {number}")
    before = node.records("t", 0, 0, 1_000)
    node.crash(lose_unsynced=False)
    assert node.start() == "process died"
    open_topic(node, epoch=1)
    assert node.records("t", 0, 0, 1_000) == before
    assert node.look("t", 0)[3] == [(0, 0), (1, 100)]


def test_the_death_of_the_machine_loses_a_tail_that_was_not_synced_and_no_more() -> None:
    lost = 0
    for seed in range(20):
        node = started(seed)
        for number in range(20):
            produce(node, f"value {number}")
        before = node.records("t", 0, 0, 1_000)
        node.crash(lose_unsynced=True)
        assert node.start() == "machine died", f"seed {seed}"
        open_topic(node, epoch=1)
        left = node.records("t", 0, 0, 1_000)
        assert left == before[: len(left)], f"seed {seed}"
        lost += len(before) - len(left)
    assert lost > 0


def test_what_is_acknowledged_as_synced_survives_the_machine() -> None:
    for seed in range(20):
        node = started(seed, FSYNC)
        assert produce(node, "waits", token=5) is None
        node.run_syncs()
        ((token, answer, _),) = node.drain()
        assert (token, produced(answer)) == (5, (0, 0))
        assert produce(node, "never synced", token=6) is None
        node.crash(lose_unsynced=True)
        node.start()
        open_topic(node, FSYNC, epoch=1)
        assert offsets(node)[:1] == [0], f"seed {seed}"


def acknowledged(node: SimulatedNode, value: str) -> bytes | None:
    """The answer to what is produced, once it is synced."""
    assert produce(node, value, token=9) is None
    node.run_syncs()
    ((_, answer, _),) = node.drain()
    return answer


def begun_anew(seed: int) -> tuple[SimulatedNode, Engine]:
    """A follower that has nothing and whose leader begins at 20, and then at 40."""
    node = started(seed, FSYNC)
    engine = node.engine(Config().broker())
    assert engine.apply_partitions([("t", TOPIC_ID, 0, 2, 1, 1, (1, 2), (2,), False)], {"t": FSYNC}) == [
        (0, "")
    ]
    for start in (20, 40):
        engine.restart_at("t", 0, 1, start)
        node.run_syncs()
    return node, engine


def test_a_follower_that_begins_anew_is_synced_and_may_fetch_on() -> None:
    """Found by the simulation of clusters: nobody asked for that sync, and it waited for one for ever."""
    _, engine = begun_anew(1)
    assert engine.fetch_positions([("t", 0)]) == [(40, -1, 40, 40, 40)]


def test_a_follower_begins_anew_within_a_batch() -> None:
    """Found by the simulation of clusters: its leader had deleted a part of the batch, which is sent whole."""
    leader, (_, follower) = started(2), begun_anew(1)
    batch = seal([(1_700_000_000_000, None, str(number).encode(), ()) for number in range(50)])
    data = [TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=batch)])]
    request = ProduceRequest(acks=-1, timeout_ms=1_000, topic_data=data)
    leader.handle(1, encode_request_frame(request, 9, 1, "test"))
    assert leader.engine(Config().broker()).delete_records("t", 0, 40) == 40
    partition = FetchPartition(partition=0, fetch_offset=40, partition_max_bytes=1 << 20)
    topic = FetchTopic(topic_id=TOPIC_ID, partitions=[partition])
    fetched = FetchRequest(max_wait_ms=0, min_bytes=0, session_epoch=-1, topics=[topic])
    answer = leader.handle(2, encode_request_frame(fetched, 13, 2, "test"))
    assert answer is not None
    taken = follower.append_fetched(answer, 13, {(TOPIC_ID, 0): (1, 40)})
    assert taken == [(TOPIC_ID, 0, 0, 50, None, "")]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_synced_after_it_began_anew_survives_the_machine(seed: int) -> None:
    node, engine = begun_anew(seed)
    assert engine.apply_partitions([("t", TOPIC_ID, 0, 1, 2, 2, (1, 2), (1,), False)], {"t": FSYNC}) == [
        (0, "")
    ]
    assert produced(acknowledged(node, "b")) == (0, 40)
    del engine
    node.crash(lose_unsynced=True)
    assert node.start() == "machine died"
    open_topic(node, FSYNC, epoch=2)
    assert node.look("t", 0)[0::2] == (40, 41)


def test_a_clean_stop_and_a_wiped_disk() -> None:
    node = started()
    produce(node, "kept")
    node.stop()
    assert node.start() == "clean"
    open_topic(node, epoch=1)
    assert offsets(node) == [0]
    node.wipe()
    assert node.start() == "clean"
    open_topic(node)
    assert offsets(node) == []


def test_a_full_disk_refuses_and_a_death_in_a_call_ends_all() -> None:
    node = started()
    produce(node, "kept")
    node.set_faults(room=10)
    assert produced(produce(node, "no room")) == (KafkaStorageError.code, -1)
    node.set_faults(die_in_calls=0)
    assert produced(produce(node, "torn"))[0] == KafkaStorageError.code
    assert node.is_dead()
    node.crash(lose_unsynced=False)
    node.start()
    open_topic(node, epoch=1)
    assert offsets(node) in ([0], [0, 1])
    with pytest.raises(KafkaError, match="runs already"):
        node.start()


def history(seed: int) -> list[object]:
    """Two brokers' lives, with everything they said."""
    said: list[object] = []
    for node in (started(seed), started(seed + 1, FSYNC)):
        for number in range(60):
            said += [produce(node, f"value {number}", token=number), fetch(node, number + 5, wait_ms=90)]
            node.advance_to(number * 40)
            said.append(node.drain())
            if number % 7 == 3:
                node.run_syncs()
            if number % 20 == 19:
                node.crash(lose_unsynced=number % 40 == 39)
                said.append(node.start())
                open_topic(node, OS, epoch=number)
        said += [node.look("t", 0), node.records("t", 0, 0, 1_000), node.drain()]
    return said


def test_the_same_calls_give_the_same_bytes() -> None:
    first = history(5)
    assert history(5) == first
    assert history(5) == first
    assert any(history(seed) != first for seed in range(6, 16)), "chance comes from the seed"


def test_a_life_is_short() -> None:
    """Thousands of seeds are run: a start costs well under a millisecond, a request some microseconds."""
    node = started()
    began = time.perf_counter()
    for number in range(50):
        produce(node, "value")
        node.crash(lose_unsynced=False)
        node.start()
        open_topic(node, epoch=number + 1)
    assert time.perf_counter() - began < 1.0
