"""The consumer against scripted brokers: what it delivers, in which order, and where its positions stand."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlog.client.consumer import Consumer, TopicPartition
from fastlog.errors import ConfigError, CorruptMessageError, NoPositionError, OffsetOutOfRangeError
from fastlog.native._records import Record
from tests.support.batches import CODECS, NOW_MS, seal, with_fields, with_section
from tests.support.fake_cluster import FakeCluster

MakeConsumer = Callable[..., Consumer]
TRANSACTIONAL, CONTROL = 0x10, 0x20


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as running:
        yield running


@pytest.fixture
def make_consumer(cluster: FakeCluster) -> Iterator[MakeConsumer]:
    made = []

    def make(**options: Any) -> Consumer:
        options = {
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 50,
            "retry_backoff_ms": 10,
            **options,
        }
        made.append(Consumer(cluster.bootstrap, **options))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


def read(consumer: Consumer, count: int, seconds: float = 10.0) -> list[Record]:
    """`count` records; fewer fail the test."""
    records: list[Record] = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        records += consumer.poll(count - len(records), timeout=0.2)
    assert len(records) == count
    return records


def pass_over(consumer: Consumer, position: int, seconds: float = 10.0) -> None:
    """Polls until t-0 stands at `position`; a record on the way fails the test."""
    deadline = time.monotonic() + seconds
    while consumer.position(("t", 0)) != position:
        assert time.monotonic() < deadline, consumer.positions()
        assert consumer.poll(timeout=0.05) == []


def values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def test_every_compression_is_read_in_order(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    for codec in CODECS.values():
        partition.append(f"{codec}-a".encode(), f"{codec}-b".encode(), compression=codec)
    records = read(make_consumer(topics="t"), 10)
    assert values(records) == [f"{codec}-{x}".encode() for codec in CODECS.values() for x in "ab"]
    assert [record.offset for record in records] == list(range(10))
    assert [record.timestamp_ms for record in records] == [NOW_MS + n for n in range(10)]


def test_null_and_empty_values_differ(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    partition.append(None, b"", b"x")
    assert values(read(make_consumer(topics="t"), 3)) == [None, b"", b"x"]


def test_a_partial_last_batch_is_normal(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    for n in range(50):
        partition.append(b"%d" % n * 50)
    consumer = make_consumer(topics="t", max_partition_fetch_bytes=333)
    assert values(read(consumer, 50)) == [b"%d" % n * 50 for n in range(50)]


def test_positions_pass_control_batches_empty_batches_and_gaps(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    partition.append(b"a", attributes=TRANSACTIONAL, producer_id=7)
    partition.append(b"marker", attributes=TRANSACTIONAL | CONTROL, producer_id=7)
    partition.skip(5)
    partition.append(b"b")
    empty = with_fields(with_section(b"", 0), base_offset=partition.end, last_offset_delta=2)
    partition.append_batch(empty, 3)
    consumer = make_consumer(topics="t")
    assert [(record.offset, record.value) for record in read(consumer, 2)] == [(0, b"a"), (7, b"b")]
    pass_over(consumer, 11)
    partition.append(b"c")
    assert read(consumer, 1)[0].offset == 11


def test_a_log_that_ends_in_control_batches_is_read_to_its_end(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    partition.append(b"marker", attributes=TRANSACTIONAL | CONTROL, producer_id=7)
    consumer = make_consumer(topics="t")
    pass_over(consumer, 1)


def test_read_committed_hides_aborted_transactions(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    partition.append(b"aborted", attributes=TRANSACTIONAL, producer_id=7)
    partition.append(b"committed", attributes=TRANSACTIONAL, producer_id=8)
    key = b"\0\0\0\0"
    abort = with_fields(
        seal([(NOW_MS, key, b"\0" * 6, ())]),
        attributes=TRANSACTIONAL | CONTROL,
        producer_id=7,
        base_offset=partition.end,
    )
    partition.append_batch(abort, 1)
    partition.append(b"later", attributes=TRANSACTIONAL, producer_id=7)
    partition.aborted = [(7, 0)]
    assert values(read(make_consumer(topics="t", isolation_level="read_committed"), 2)) == [
        b"committed",
        b"later",
    ]
    partition.aborted = []
    assert values(read(make_consumer(topics="t"), 3)) == [b"aborted", b"committed", b"later"]


def test_a_flipped_byte_is_an_error_and_no_record_is_lost_or_skipped(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    for value in (b"good", b"bad!", b"after"):
        partition.append(value)
    partition.mangle = lambda data: data.replace(b"bad!", b"BAD!")
    consumer = make_consumer(topics="t")
    assert values(read(consumer, 1)) == [b"good"]
    for _ in range(2):
        with pytest.raises(CorruptMessageError, match=r"offset 1 of t-0 .*CRC"):
            read(consumer, 1)
    assert consumer.position(("t", 0)) == 1
    partition.mangle = bytes
    assert values(read(consumer, 2)) == [b"bad!", b"after"]


def test_one_can_seek_past_a_corrupt_batch(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    for value in (b"good", b"bad!", b"after"):
        partition.append(value)
    partition.mangle = lambda data: data.replace(b"bad!", b"BAD!")
    consumer = make_consumer(topics="t")
    read(consumer, 1)
    with pytest.raises(CorruptMessageError):
        read(consumer, 1)
    consumer.seek(("t", 0), 2)
    assert values(read(consumer, 1)) == [b"after"]


def test_a_malformed_record_with_a_good_crc_is_an_error(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    partition.append_batch(with_section(b"\xff" * 40, 3), 3)
    consumer = make_consumer(topics="t")
    with pytest.raises(CorruptMessageError, match="t-0"):
        read(consumer, 1)


def test_iteration_and_poll_go_over_the_same_stream(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    partition.append(*(b"%d" % n for n in range(10)))
    consumer = make_consumer(topics="t")
    first = list(itertools.islice(consumer, 4))
    assert consumer.position(("t", 0)) == 4
    assert [
        record.offset for record in first + read(consumer, 3) + list(itertools.islice(consumer, 3))
    ] == list(range(10))


def test_a_seek_within_an_iteration_takes_effect_at_once(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    partition.append(*(b"%d" % n for n in range(10)))
    consumer = make_consumer(topics="t")
    seen = []
    for record in consumer:
        seen.append(record.offset)
        if len(seen) == 3:
            consumer.seek(("t", 0), 8)
            assert consumer.position(("t", 0)) == 8
        if len(seen) == 5:
            break
    assert seen == [0, 1, 2, 8, 9]


def test_seeks_to_the_ends_and_to_a_timestamp(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    partition.append(*(b"%d" % n for n in range(10)))
    partition.log_start = 2
    consumer = make_consumer(topics="t")
    assert read(consumer, 1)[0].offset == 2
    consumer.seek_to_end()
    assert consumer.position(("t", 0)) == 10
    consumer.seek_to_beginning(("t", 0))
    assert consumer.position(("t", 0)) == 2
    consumer.seek_to_timestamp(NOW_MS + 5)
    assert read(consumer, 1)[0].offset == 5
    consumer.seek_to_timestamp(NOW_MS + 1000)
    assert consumer.position(("t", 0)) == 10


def test_a_paused_partition_is_silent_and_goes_on_where_it_stood(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    for number, partition in enumerate(cluster.create("t", 2)):
        partition.append(*(b"%d-%d" % (number, n) for n in range(20)))
    consumer = make_consumer()
    consumer.assign([("t", 0), ("t", 1)])
    first = read(consumer, 5)
    busy = first[0].partition
    assert {record.partition for record in first} == {busy}
    consumer.pause(("t", busy))
    assert consumer.paused() == {TopicPartition("t", busy)}
    assert {record.partition for record in read(consumer, 20)} == {1 - busy}
    assert consumer.poll(timeout=0.2) == []
    consumer.resume(("t", busy))
    assert [record.offset for record in read(consumer, 15)] == list(range(5, 20))


def test_one_busy_partition_does_not_starve_the_others(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    busy, calm = cluster.create("t", 2)
    for _ in range(400):
        busy.append(*(b"x" * 100 for _ in range(50)))
    calm.append(b"calm")
    consumer = make_consumer(topics="t", max_partition_fetch_bytes=20_000)
    seen = [record.partition for record in read(consumer, 2_000)]
    assert 1 in seen


def test_prefetching_is_bounded(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    for _ in range(300):
        partition.append(b"x" * 10_000)
    consumer = make_consumer(topics="t", prefetch_bytes=200_000, max_partition_fetch_bytes=50_000)
    read(consumer, 1)
    time.sleep(0.3)
    assert consumer._fetcher.buffered_bytes <= 260_000
    assert len(read(consumer, 299)) == 299


def test_assign_with_positions_begins_there(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    for partition in cluster.create("t", 2):
        partition.append(*(b"%d" % n for n in range(10)))
    consumer = make_consumer()
    consumer.assign([("t", 1)], positions={("t", 0): 7})
    records = read(consumer, 13)
    assert sorted((record.partition, record.offset) for record in records) == [
        *((0, n) for n in range(7, 10)),
        *((1, n) for n in range(10)),
    ]
    again = make_consumer()
    again.assign(positions=consumer.positions())
    assert again.poll(timeout=0.2) == []


def test_an_offset_that_is_gone_follows_the_reset_policy(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    partition.append(*(b"%d" % n for n in range(10)))
    partition.log_start = 4
    consumer = make_consumer()
    consumer.assign(positions={("t", 0): 1})
    assert read(consumer, 1)[0].offset == 4
    consumer.seek(("t", 0), 500)
    assert read(consumer, 1)[0].offset == 4
    strict = make_consumer(auto_offset_reset="none")
    strict.assign(positions={("t", 0): 1})
    for _ in range(2):
        with pytest.raises(OffsetOutOfRangeError, match=r"offset 1 of t-0"):
            read(strict, 1)
    strict.seek(("t", 0), 9)
    assert read(strict, 1)[0].offset == 9


def test_what_was_fetched_before_the_log_was_cut_is_still_delivered(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    (partition,) = cluster.create("t")
    for n in range(10):
        partition.append(b"%d" % n)
    consumer = make_consumer(topics="t")
    assert read(consumer, 1)[0].offset == 0
    time.sleep(0.2)
    partition.skip(90)
    partition.append(b"new")
    partition.batches = partition.batches[-1:]
    partition.log_start = 100
    time.sleep(0.2)
    assert [record.offset for record in read(consumer, 10)] == [*range(1, 10), 100]


def test_without_a_policy_a_position_is_needed(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    cluster.create("t")[0].append(b"x")
    consumer = make_consumer(topics="t", auto_offset_reset="none")
    with pytest.raises(NoPositionError, match="t-0"):
        read(consumer, 1)
    consumer.seek(("t", 0), 0)
    assert values(read(consumer, 1)) == [b"x"]


def test_latest_begins_at_the_end(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    partition.append(b"before")
    consumer = make_consumer(topics="t", auto_offset_reset="latest")
    assert consumer.position(("t", 0)) == 1
    partition.append(b"after")
    assert values(read(consumer, 1)) == [b"after"]


def test_poll_returns_no_more_than_asked(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    partition.append(*(b"%d" % n for n in range(10)))
    consumer = make_consumer(topics="t")
    assert [len(consumer.poll(3, timeout=10)) for _ in range(4)] == [3, 3, 3, 1]
    started = time.monotonic()
    assert consumer.poll(3, timeout=0.2) == []
    assert time.monotonic() - started >= 0.2


def test_batches_are_given_whole(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    partition.append(b"a", b"b")
    partition.append(b"c")
    consumer = make_consumer(topics="t")
    batches = consumer.batches(timeout=10)
    assert [batch.values() for batch in itertools.islice(batches, 2)] == [[b"a", b"b"], [b"c"]]
    assert list(consumer.batches(timeout=0.1)) == []
    assert consumer.position(("t", 0)) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"group_id": ""},
        {"group_id": 7},
        {"on_assign": print},
        {"auto_offset_reset": "smallest"},
        {"isolation_level": "serializable"},
        {"fetch_max_bytes": 0},
        {"fetch_max_wait_ms": "soon"},
        {"no_such_option": 1},
        {"bootstrap": "nowhere"},
        {"topics": []},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Consumer(**options)


def test_bad_arguments_are_refused(make_consumer: MakeConsumer, cluster: FakeCluster) -> None:
    cluster.create("t")
    consumer = make_consumer()
    consumer.assign([("t", 0)])
    for call in (
        lambda: consumer.assign([("t", -1)]),
        lambda: consumer.assign(positions={("t", 0): -5}),
        lambda: consumer.seek(("t", 0), -1),
        lambda: consumer.seek(("other", 0), 1),
        lambda: consumer.seek_to_timestamp(-1),
        lambda: consumer.poll(0),
    ):
        with pytest.raises(ConfigError):
            call()
