"""One of several disks fails: what it has is offline, the others serve, and it is back when its disk is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fastlog
from fastlog.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from tests.conftest import MakeBroker
from tests.fault.conftest import Inject, MakeDisk
from tests.fault.test_io_errors import refusal, send
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.loop_disk import LoopDisk
from tests.support.faults.witness import read_all
from tests.support.raw import RawTcp

KAFKA_STORAGE_ERROR = 56


def broker_with(make_broker: MakeBroker, second: Path) -> BrokerProcess:
    broker = make_broker(start=False)
    broker.arguments = ("--data-dir", str(second))
    return broker.start()


def described(broker: BrokerProcess) -> dict[str, tuple[int, set[str]]]:
    """Error and topics of each directory."""
    with RawTcp("127.0.0.1", broker.tcp_port) as connection:
        results = connection.ask(DescribeLogDirsRequest(topics=None), 4).results
    return {it.log_dir: (it.error_code, {topic.name for topic in it.topics}) for it in results}


def topic_in(broker: BrokerProcess, directory: Path, *, name: str) -> str:
    """Makes topics until one is there."""
    for number in range(10):
        topic = create_topic(broker.bootstrap, f"{name}-{number}")
        if topic in described(broker)[str(directory)][1]:
            return topic
    raise AssertionError(f"ten topics, and none in {directory}")


def check_the_others_serve(broker: BrokerProcess, topic: str, kept: int, second: Path) -> None:
    """Appends and reads of `topic`, and topics that are made now."""
    assert send(broker.bootstrap, topic, b"on") == [kept]
    assert len(read_all(broker.bootstrap, topic)) == kept + 1
    codes = {path: code for path, (code, _) in described(broker).items()}
    assert codes == {str(broker.data_dir): 0, str(second): KAFKA_STORAGE_ERROR}
    for number in range(3):
        fresh = create_topic(broker.bootstrap, f"fresh-{kept}-{number}")
        assert send(broker.bootstrap, fresh, b"first") == [0]
        assert fresh in described(broker)[str(broker.data_dir)][1]


def test_an_error_of_one_disk_leaves_the_others_alone(
    inject: Inject, make_broker: MakeBroker, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    broker = broker_with(make_broker, second)
    good = topic_in(broker, broker.data_dir, name="good")
    bad = topic_in(broker, second, name="bad")
    for topic in (good, bad):
        send(broker.bootstrap, topic, b"kept")
    segment = second / f"{bad}-0" / f"{0:020d}.log"
    with inject(broker.pid, "pwritev", "error=EIO", [segment]):
        assert "Input/output error" in refusal(broker.bootstrap, bad)
    # it answers well again, but nobody knows what is on it
    assert f"the data directory {second} is offline" in refusal(broker.bootstrap, bad)
    assert read_all(broker.bootstrap, bad) == {0: b"kept"}
    check_the_others_serve(broker, good, 1, second)
    assert broker.stop() == 1
    marks = [path / ".kafka_cleanshutdown" for path in (broker.data_dir, second)]
    assert [it.exists() for it in marks] == [True, False]
    broker.start()
    for topic, count in ((good, 2), (bad, 1)):
        assert len(read_all(broker.bootstrap, topic)) == count
        assert send(broker.bootstrap, topic, b"after") == [count]
    assert broker.stop() == 0, broker.log()


@pytest.mark.parametrize("fail", [LoopDisk.fail, LoopDisk.make_read_only], ids=["EIO", "read-only"])
def test_a_broker_starts_without_a_disk_that_failed_and_has_it_back(
    make_disk: MakeDisk, make_broker: MakeBroker, fail: Callable[[LoopDisk], None]
) -> None:
    disk = make_disk("second")
    second = disk.path / "data"
    broker = broker_with(make_broker, second)
    # a small disk gets topics only where they promise little
    create = {"segment.bytes": "1048576"}
    good = create_topic(broker.bootstrap, "good", config=create)
    assert good in described(broker)[str(broker.data_dir)][1]
    assert broker.stop() == 0
    # as an operator would move it
    shutil.move(broker.data_dir / "good-0", second / "good-0")
    broker.start()
    bad, good = good, create_topic(broker.bootstrap, "better", config=create)
    assert described(broker)[str(second)] == (0, {bad})
    values = [b"%d" % number for number in range(20)]
    for topic in (good, bad):
        send(broker.bootstrap, topic, *values)
    assert broker.stop() == 0, broker.log()
    broker.start()
    fail(disk)
    assert "KAFKA_STORAGE_ERROR" in refusal(broker.bootstrap, bad)
    check_the_others_serve(broker, good, 20, second)
    broker.kill()

    broker.start()
    assert "a data directory failed, what it has is offline" in broker.log()
    assert str(second) in broker.log()
    assert "KAFKA_STORAGE_ERROR" in refusal(broker.bootstrap, bad)
    check_the_others_serve(broker, good, 21, second)
    assert broker.stop() == 0, broker.log()
    disk.restore_power()
    broker.start()
    assert list(read_all(broker.bootstrap, bad).values()) == values
    assert send(broker.bootstrap, bad, b"after") == [20]
    assert broker.stop() == 0, broker.log()


def test_a_topic_of_a_disk_that_failed_is_deleted_at_once(
    make_disk: MakeDisk, make_broker: MakeBroker, tmp_path: Path
) -> None:
    """What the disk has of it goes when it is back, and a topic of the same name that was made meanwhile does not."""
    disk = make_disk("second")
    second = disk.path / "data"
    broker = broker_with(make_broker, second)
    create = {"segment.bytes": "1048576"}
    topic = create_topic(broker.bootstrap, "again", config=create)
    assert broker.stop() == 0
    shutil.move(broker.data_dir / "again-0", second / "again-0")
    broker.start()
    send(broker.bootstrap, topic, b"old", b"old")
    # synced, so that the disk has all of it when it is back
    assert broker.stop() == 0
    broker.start()
    disk.fail()
    assert "KAFKA_STORAGE_ERROR" in refusal(broker.bootstrap, topic)

    with fastlog.Admin(broker.bootstrap) as admin:
        admin.delete_topic(topic)
        assert topic not in {it.name for it in admin.list_topics()}
    assert "its directory stays until a start at which its disk is well" in broker.log()
    create_topic(broker.bootstrap, topic, config=create)
    assert send(broker.bootstrap, topic, b"new") == [0]
    broker.kill()

    # first without it
    broker.start()
    assert read_all(broker.bootstrap, topic) == {0: b"new"}
    assert broker.stop() == 0, broker.log()
    disk.restore_power()
    assert (second / "again-0").is_dir()
    broker.start()
    assert not (second / "again-0").exists()
    wait_until("its files are gone", lambda: not list(second.glob("again-0*")))
    assert read_all(broker.bootstrap, topic) == {0: b"new"}
    assert "directory of no known topic" not in broker.log()
    assert not list(tmp_path.rglob("fastlog.deleted"))
    assert broker.stop() == 0, broker.log()
