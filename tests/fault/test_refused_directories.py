"""Data directories that are not to be used: one clear line, exit status 1, and nothing in them is touched."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import PROGRAM, BrokerProcess
from tests.support.clients import confluent
from tests.support.samples import Sample

# SQLite's index of its write-ahead log: in memory as far as SQLite is concerned, rebuilt by whoever opens the file
DERIVED = "metadata.sqlite-shm"


def refusal(data_dir: Path, *arguments: str) -> str:
    """The last line of `fastlog serve`, which must end with status 1 and leave everything as it was."""
    before = tree(data_dir)
    ended = subprocess.run(
        [PROGRAM, "serve", "--data-dir", str(data_dir), "--listen", "PLAINTEXT://127.0.0.1:0", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Traceback" not in ended.stderr
    assert tree(data_dir) == before
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("fastlog: ")]
    assert line == ended.stderr.splitlines()[-1]
    return line


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Name -> hash and inode of each file: also a file that was replaced by its like has been touched."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_ino)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != DERIVED
    }


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def cluster_id(broker: BrokerProcess) -> str:
    lines = (broker.data_dir / "meta.properties").read_text().splitlines()
    return next(line for line in lines if line.startswith("cluster.id=")).removeprefix("cluster.id=")


def make_store_newer(data_dir: Path) -> None:
    with sqlite3.connect(data_dir / "metadata.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


OTHER_CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill], ids=["stopped", "killed"])
@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        (None, ("--node-id", "7"), ["it belongs to node 1, not 7", "set node.id"]),
        (
            lambda data_dir: replace(data_dir / "meta.properties", "version=1", "version=2"),
            (),
            ['its meta.properties has version "2"', "use the release that wrote it"],
        ),
        (
            lambda data_dir: replace(data_dir / "fastlog.run", "version: 0", "version: 1"),
            (),
            ['its fastlog.run has version "1"', "use the release that wrote it"],
        ),
        (make_store_newer, (), ["has format 99", "written by a newer fastlog, which is the one to start"]),
    ],
    ids=["other node", "newer layout", "newer run file", "newer metadata store"],
)
def test_a_directory_of_another_or_a_newer_broker(
    make_broker: MakeBroker,
    end: Callable[[BrokerProcess], object],
    change: Callable[[Path], None] | None,
    arguments: tuple[str, ...],
    says: list[str],
) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "kept")
    confluent.produce(broker.bootstrap, topic, [Sample(None, b"kept", (), None)], "none")
    end(broker)
    if change:
        change(broker.data_dir)
    line = refusal(broker.data_dir, *arguments)
    for words in says:
        assert words in line
    assert str(broker.data_dir) in line


@pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill], ids=["stopped", "killed"])
def test_a_directory_of_another_cluster(
    make_broker: MakeBroker, end: Callable[[BrokerProcess], object]
) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "kept")
    end(broker)
    ours = cluster_id(broker)
    replace(broker.data_dir / "meta.properties", f"cluster.id={ours}", f"cluster.id={OTHER_CLUSTER}")
    line = refusal(broker.data_dir)
    for words in (
        f"is of cluster {ours}, its directory of {OTHER_CLUSTER}",
        "moved here from another broker",
    ):
        assert words in line


def test_a_directory_in_use(make_broker: MakeBroker) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "kept")
    line = refusal(broker.data_dir)
    for words in (str(broker.data_dir), "a running broker has it", "name another directory"):
        assert words in line
    samples = [Sample(None, b"%d" % number, (), None) for number in range(10)]
    confluent.produce(broker.bootstrap, topic, samples, "none")
    assert broker.stop() == 0, broker.log()


@pytest.mark.parametrize("damage", [b"", b"not a properties file\n", b"\xff\xfe\x00"])
def test_a_directory_whose_owner_cannot_be_read(make_broker: MakeBroker, damage: bytes) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "kept")
    assert broker.stop() == 0
    (broker.data_dir / "meta.properties").write_bytes(damage)
    line = refusal(broker.data_dir)
    assert "meta.properties" in line
    assert "no cluster.id or no node.id" in line


def test_a_directory_that_lost_its_owner_keeps_its_cluster(make_broker: MakeBroker) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "kept")
    ours = cluster_id(broker)
    assert broker.stop() == 0
    (broker.data_dir / "meta.properties").unlink()
    line = refusal(broker.data_dir)
    assert f"is of cluster {ours}" in line
    assert "meta.properties" in line
