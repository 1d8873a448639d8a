"""Backups: taken from a cluster, brought back to another, and nothing else than what was there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import confluent_kafka
import pytest

from fastlog import Admin, Consumer, Producer
from fastlog.backup.archive import manifest_of
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.errors import BackupError, PolicyViolationError, TopicAlreadyExistsError, UnreadableBackupError
from tests.conftest import MakeBroker
from tests.integration.kafka.server import KafkaServer
from tests.support.backups import CountingArchive, InterruptedHereError, log_of, make_topic, send
from tests.support.broker import BrokerProcess
from tests.support.cli import fastlog


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and runs of one batch."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.restoring.RUN_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)


@pytest.fixture
def other(make_broker: MakeBroker) -> BrokerProcess:
    """Where backups are brought back to."""
    return make_broker("other")


@pytest.fixture
def archive(tmp_path: Path) -> CountingArchive:
    return CountingArchive(tmp_path / "archive")


def test_the_same_bytes_are_at_the_same_offsets(
    broker: BrokerProcess, other: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    make_topic(broker, topic_name, partitions=3, retention_ms="-1", fastlog_durability="fsync")
    for compression in ("none", "gzip", "snappy", "lz4", "zstd"):
        send(broker, topic_name, 20, compression=compression)
    with Admin(broker.bootstrap) as admin:
        admin.delete_records({(topic_name, 0): 7, (topic_name, 2): -1})
    manifest = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    restore(other.bootstrap, archive, manifest)
    for partition in range(3):
        assert log_of(other, topic_name, partition) == log_of(broker, topic_name, partition)
    assert log_of(other, topic_name, 2)[0] > 0, "an empty log keeps its place"
    with Admin(other.bootstrap) as admin:
        configs = admin.describe_configs(topic=topic_name)
    own = {key: it.value for key, it in configs.items() if it.source == "topic"}
    restored = {"fastlog.restored.from": manifest.taken}
    assert own == {"retention.ms": "-1", "fastlog.durability": "fsync", **restored}
    # and it is a topic like any other
    ends = [log_of(other, topic_name, number)[1] for number in range(3)]
    send(other, topic_name, 10)
    assert sum(log_of(other, topic_name, number)[1] for number in range(3)) == sum(ends) + 10


def test_a_compacted_topic_keeps_its_gaps(
    make_broker: MakeBroker, other: BrokerProcess, archive: CountingArchive
) -> None:
    settings = {"log.cleaner.backoff.ms": "20", "log.retention.check.interval.ms": "50"}
    broker = make_broker("source", settings=settings)
    make_topic(broker, "table", cleanup_policy="compact", segment_ms="50", min_cleanable_dirty_ratio="0.01")
    send(broker, "table", 200)
    before = log_of(broker, "table")
    for first in range(200, 260):
        # an append rolls the segment, and the cleaner comes by
        send(broker, "table", 1, first=first)
        now = log_of(broker, "table")
        if len(now[2]) < len(before[2]):
            break
    else:
        pytest.fail("it was never compacted")
    manifest = back_up(broker.bootstrap, archive)
    restore(other.bootstrap, archive, manifest)
    with Admin(other.bootstrap) as admin:
        policy = admin.describe_configs(topic="table", keys=["cleanup.policy"])["cleanup.policy"]
    assert (policy.value, policy.source) == ("compact", "topic")
    kept = {offset for log in manifest.topics[0].partitions for offset in (log.start, log.end)}
    assert kept == {0, log_of(other, "table")[1]}


@pytest.mark.parametrize("with_another_between", [False, True])
def test_what_was_cleaned_before_a_topic_was_no_longer_compacted_is_not_backed_up_again(
    make_broker: MakeBroker, other: BrokerProcess, archive: CountingArchive, *, with_another_between: bool
) -> None:
    settings = {"log.cleaner.backoff.ms": "20", "log.retention.check.interval.ms": "50"}
    broker = make_broker("source", settings=settings)
    make_topic(broker, "table", cleanup_policy="compact", segment_ms="50", min_cleanable_dirty_ratio="0.01")
    send(broker, "table", 200)
    back_up(broker.bootstrap, archive)
    before = log_of(broker, "table")
    for first in range(200, 260):
        send(broker, "table", 1, first=first)
        if len(log_of(broker, "table")[2]) < len(before[2]):
            break
    else:
        pytest.fail("it was never compacted")
    with Admin(broker.bootstrap) as admin:
        admin.alter_configs({"cleanup.policy": "delete"}, topic="table")
    if with_another_between:
        make_topic(broker, "another")
        back_up(broker.bootstrap, archive, topics=["another"])
    restore(other.bootstrap, archive, back_up(broker.bootstrap, archive))
    assert log_of(other, "table") == log_of(broker, "table")


def test_a_group_goes_on_where_it_was(
    broker: BrokerProcess, other: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    make_topic(broker, topic_name)
    send(broker, topic_name, 50)
    group = f"group-of-{topic_name}"
    with Consumer(
        broker.bootstrap, group_id=group, topics=topic_name, auto_offset_reset="earliest"
    ) as consumer:
        seen: list[bytes | None] = []
        while len(seen) < 20:
            seen += [it.value for it in consumer.poll(max_records=20 - len(seen))]
        consumer.commit()
    manifest = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[group])
    restore(other.bootstrap, archive, manifest)
    with Consumer(other.bootstrap, group_id=group, topics=topic_name, auto_offset_reset="latest") as consumer:
        while len(seen) < 50:
            seen += [it.value for it in consumer.poll()]
    assert seen == [b"%d" % number for number in range(50)]


@pytest.mark.usefixtures("small_chunks")
def test_the_next_backup_brings_only_what_is_new(
    broker: BrokerProcess, other: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    make_topic(broker, topic_name)
    send(broker, topic_name, 10)
    first = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    assert len(archive.written) == 11
    send(broker, topic_name, 3, first=10)
    with Admin(broker.bootstrap) as admin:
        admin.delete_records({(topic_name, 0): 4})
    second = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    assert len(archive.written) == 15
    assert [it.start for it in second.topics[0].partitions[0].chunks] == list(range(4, 13))
    nothing = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    assert len(archive.written) == 16
    assert nothing.topics == second.topics
    # each of them is whole
    restore(other.bootstrap, archive, manifest_of(archive, first.taken))
    assert log_of(other, topic_name)[:2] == (0, 10)
    with Admin(other.bootstrap) as admin:
        admin.delete_topic(topic_name)
    restore(other.bootstrap, archive, manifest_of(archive))
    assert log_of(other, topic_name) == log_of(broker, topic_name)


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_that_nothing_depends_on_and_that_cannot_be_read_is_fetched_anew(
    broker: BrokerProcess, tmp_path: Path, topic_name: str
) -> None:
    make_topic(broker, topic_name)
    send(broker, topic_name, 10)
    place = tmp_path / "archive"
    with pytest.raises(InterruptedHereError):
        back_up(broker.bootstrap, CountingArchive(place, 7), topics=[topic_name], groups=[])
    bad = sorted(it for it in place.rglob("chunks/*/*/*"))[4]

    class BadDisk(CountingArchive):
        def get(self, name: str, size_max: int) -> bytes:
            if (place / name) == bad:
                raise UnreadableBackupError(f"reading {bad} failed: Input/output error")
            return super().get(name, size_max)

    again = BadDisk(place)
    manifest = back_up(broker.bootstrap, again, topics=[topic_name], groups=[])
    assert [it.end for it in manifest.topics[0].partitions[0].chunks] == list(range(1, 11))
    assert again.written[0] == str(bad.relative_to(place)), "what was before it is used"


def test_the_next_backup_goes_on_from_the_last_one_of_the_topic(
    broker: BrokerProcess, archive: CountingArchive, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{topic_name}-{number}" for number in range(3)]
    made = {}
    for name in names:
        make_topic(broker, name)
        send(broker, name, 10)
        made[name] = back_up(broker.bootstrap, archive, topics=[name], groups=[])
    archive.written.clear()
    was_read: list[str] = []
    get = archive.get
    monkeypatch.setattr(archive, "get", lambda name, size: was_read.append(name) or get(name, size))
    manifest = back_up(broker.bootstrap, archive, topics=names, groups=[], verify_percent=0)
    assert archive.written == [manifest.object_name]
    assert [it.partitions for it in manifest.topics] == [made[name].topics[0].partitions for name in names]
    assert [it for it in was_read if it.startswith("chunks/")] == []


@pytest.mark.usefixtures("small_chunks")
def test_a_topic_that_was_made_anew_is_another_one(
    broker: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    for count in (5, 3):
        make_topic(broker, topic_name)
        send(broker, topic_name, count, first=count)
        manifest = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
        assert manifest.topics[0].partitions[0].end == count
        with Admin(broker.bootstrap) as admin:
            admin.delete_topic(topic_name)
    assert len(archive.written) == 10


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("puts", [0, 1, 7, 10])
def test_a_backup_that_was_interrupted_goes_on(
    broker: BrokerProcess, tmp_path: Path, topic_name: str, puts: int
) -> None:
    make_topic(broker, topic_name)
    send(broker, topic_name, 10)
    place = tmp_path / "archive"
    with pytest.raises(InterruptedHereError):
        back_up(broker.bootstrap, CountingArchive(place, puts), topics=[topic_name], groups=[])
    again = CountingArchive(place)
    with pytest.raises(BackupError, match="no backup"):
        manifest_of(again)
    manifest = back_up(broker.bootstrap, again, topics=[topic_name], groups=[])
    assert len(again.written) == 10 - puts + 1
    assert [it.end for it in manifest.topics[0].partitions[0].chunks] == list(range(1, 11))


@pytest.mark.usefixtures("small_chunks")
def test_restoring_goes_on_after_the_death_of_the_broker(
    broker: BrokerProcess, other: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    make_topic(broker, topic_name)
    send(broker, topic_name, 30)
    manifest = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    sent = 0

    def die(_bytes: int) -> None:
        nonlocal sent
        sent += 1
        if sent == 11:
            other.kill()
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        restore(other.bootstrap, archive, manifest, done=die)
    other.start()
    with Producer(other.bootstrap) as producer, pytest.raises(PolicyViolationError):
        producer.send(topic_name, b"a record of somebody else").result()
    told: list[int] = []
    restore(other.bootstrap, archive, manifest, done=told.append)
    assert len(told) <= 30 - 10
    assert log_of(other, topic_name) == log_of(broker, topic_name)


@pytest.mark.usefixtures("small_chunks")
def test_a_damaged_backup_is_told_and_the_topic_stays_closed(
    broker: BrokerProcess, other: BrokerProcess, tmp_path: Path, topic_name: str
) -> None:
    archive = CountingArchive(tmp_path / "archive")
    make_topic(broker, topic_name)
    send(broker, topic_name, 10)
    manifest = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    path = tmp_path / "archive" / manifest.topics[0].partitions[0].chunks[5].name
    good = path.read_bytes()
    damages: Mapping[str, bytes | None] = {
        "is not what was kept": good[:-1] + bytes([good[-1] ^ 1]),
        "is not what was kept there": good[:-5],
        "is missing": None,
    }
    where = str(tmp_path / "archive")
    for says, bad in damages.items():
        path.unlink() if bad is None else path.write_bytes(bad)
        checked = fastlog("restore", where, "--check")
        assert checked.status == 1
        assert says in checked.err
        with pytest.raises(BackupError, match=says):
            restore(other.bootstrap, archive, manifest)
    with Producer(other.bootstrap) as producer, pytest.raises(PolicyViolationError):
        producer.send(topic_name, b"v").result()
    path.write_bytes(good)
    restore(other.bootstrap, archive, manifest)
    assert log_of(other, topic_name) == log_of(broker, topic_name)


def test_another_backup_does_not_go_on_in_a_topic_that_is_being_restored(
    broker: BrokerProcess, other: BrokerProcess, tmp_path: Path, topic_name: str
) -> None:
    manifests = []
    archives = [CountingArchive(tmp_path / name) for name in "ab"]
    for archive, first in zip(archives, (0, 100), strict=True):
        make_topic(broker, topic_name)
        send(broker, topic_name, 10, first=first)
        manifests.append(back_up(broker.bootstrap, archive, topics=[topic_name], groups=[]))
        with Admin(broker.bootstrap) as admin:
            admin.delete_topic(topic_name)
    chunk = manifests[0].topics[0].partitions[0].chunks[0]
    with pytest.raises(InterruptedHereError):
        restore(other.bootstrap, archives[0], manifests[0], done=interrupt)
    assert chunk.end == 10
    with pytest.raises(BackupError, match="is being restored from another backup"):
        restore(other.bootstrap, archives[1], manifests[1])


def interrupt(_count: int) -> None:
    raise InterruptedHereError


def test_archives_of_two_clusters_are_not_mixed(
    broker: BrokerProcess, other: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    for one in (broker, other):
        make_topic(one, topic_name)
    back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    with pytest.raises(BackupError, match="has backups of the cluster"):
        back_up(other.bootstrap, archive, topics=[topic_name], groups=[])


def test_the_command_line_shows_what_there_is(
    broker: BrokerProcess, other: BrokerProcess, tmp_path: Path, topic_name: str
) -> None:
    make_topic(broker, topic_name)
    send(broker, topic_name, 4)
    where = str(tmp_path / "archive")
    at, to = ("--bootstrap", broker.bootstrap), ("--bootstrap", other.bootstrap)
    missing = fastlog("restore", where, *to)
    assert missing.status == 1
    assert missing.err == f"fastlog: there is no backup in {where}\n"
    unknown = fastlog("backup", where, "--topic", "nowhere", *at)
    assert unknown.status == 1
    assert "nowhere" in unknown.err
    done = fastlog("backup", where, "--topic", topic_name, *at)
    assert (done.status, done.err) == (0, "")
    assert done.out.decode().splitlines()[-1].startswith("backed up: 2")
    (listed,) = fastlog("restore", where, "--list", "--json").rows()[0]
    assert listed["topics"] == 1
    absent = fastlog("restore", where, "--topic", "elsewhere", *to)
    assert absent.status == 1
    assert f"the backup has no topic 'elsewhere'; it has {topic_name}" in absent.err
    assert fastlog("restore", where, "--config", "retention.ms=5", *to).status == 0
    with Admin(other.bootstrap) as admin:
        entry = admin.describe_configs(topic=topic_name, keys=["retention.ms"])["retention.ms"]
    assert entry.value == "5"
    send(other, topic_name, 1)
    twice = fastlog("restore", where, *to)
    assert twice.status == 0
    assert "was restored from" in twice.err
    assert "and is left as it is" in twice.err
    assert fastlog("backup", where, "--topic", topic_name, *at).status == 0
    newer = fastlog("restore", where, *to)
    assert newer.status == 1
    assert "exists (it was restored from 2" in newer.err
    assert "and what is in it is not written over" in newer.err
    assert log_of(other, topic_name)[:2] == (0, 5)


def test_a_plain_topic_takes_no_offsets_from_a_client(
    broker: BrokerProcess, other: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    make_topic(broker, topic_name)
    send(broker, topic_name, 4)
    manifest = back_up(broker.bootstrap, archive, topics=[topic_name], groups=[])
    make_topic(other, topic_name)
    with pytest.raises(BackupError, match="exists"):
        restore(other.bootstrap, archive, manifest)
    assert log_of(other, topic_name)[:2] == (0, 0)
    with pytest.raises(TopicAlreadyExistsError):
        make_topic(other, topic_name)


def test_transactions_of_a_kafka_cluster_are_what_they_were(
    kafka: KafkaServer, other: BrokerProcess, archive: CountingArchive, topic_name: str
) -> None:
    with Admin(kafka.bootstrap) as admin:
        admin.create_topic(topic_name)
    options = {"bootstrap.servers": kafka.bootstrap, "transactional.id": topic_name}
    producer = confluent_kafka.Producer(options)
    producer.init_transactions(30)
    for number in range(12):
        producer.begin_transaction()
        producer.produce(topic_name, b"%d" % number)
        producer.produce(topic_name, b"%d again" % number)
        producer.flush(30)
        if number % 3 == 1:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    # one that is open now is not in the backup, and nothing behind it
    producer.begin_transaction()
    producer.produce(topic_name, b"undecided")
    producer.flush(30)
    with Producer(kafka.bootstrap) as plain:
        plain.send(topic_name, b"behind it").result()
    manifest = back_up(kafka.bootstrap, archive, topics=[topic_name], groups=[])
    producer.abort_transaction(30)
    restore(other.bootstrap, archive, manifest)
    decided = [n for n in range(12) if n % 3 != 1]
    expected = [it for n in decided for it in (b"%d" % n, b"%d again" % n)]
    assert committed(other.bootstrap, topic_name) == expected
    with Consumer(
        other.bootstrap, topics=topic_name, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        seen: list[bytes | None] = []
        while len(seen) < len(expected):
            seen += [it.value for it in consumer.poll(timeout=30)]
    assert seen == expected
    assert committed(kafka.bootstrap, topic_name) == [*expected, b"behind it"]


def committed(bootstrap: str, topic: str) -> list[bytes | None]:
    """What librdkafka's consumer makes of it."""
    options = {"bootstrap.servers": bootstrap, "group.id": "nobody", "isolation.level": "read_committed"}
    consumer = confluent_kafka.Consumer({**options, "enable.partition.eof": True})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)])
    found = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None
            error = message.error()
            if error is not None:
                assert error.code() == confluent_kafka.KafkaError._PARTITION_EOF, error
                return found
            found.append(message.value())
    finally:
        consumer.close()
