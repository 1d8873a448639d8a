"""A data directory on overlayfs, as a container's own file system is: nobody tells what of it is in memory."""

from __future__ import annotations

import os
from pathlib import Path

from fastlog import Producer
from tests.conftest import MakeBroker
from tests.fault.conftest import require
from tests.fault.test_stuck_disk import FETCH_VERSION, fetch
from tests.support.admin import create_topic
from tests.support.faults.loop_disk import run
from tests.support.raw import RawTcp

SECONDS = 60.0


def test_what_was_just_written_is_not_taken_for_cold(make_broker: MakeBroker, tmp_path: Path) -> None:
    require(os.geteuid() == 0, "only root may mount a file system")
    layers = {name: tmp_path / name for name in ("lowerdir", "upperdir", "workdir")}
    merged = tmp_path / "merged"
    for folder in (*layers.values(), merged):
        folder.mkdir()
    options = ",".join(f"{name}={folder}" for name, folder in layers.items())
    run("mount", "-t", "overlay", "overlay", "-o", options, str(merged))
    try:
        broker = make_broker("merged/data")
        topic = create_topic(broker.bootstrap, "t")
        # less than what a thread of the disk begins to write back, more than those batches whose places are kept
        values = [b"%d" % number * 100 for number in range(300)]
        with Producer(broker.bootstrap) as producer:
            for value in values:
                producer.send(topic, value).result(SECONDS)
        with RawTcp("127.0.0.1", broker.tcp_port) as connection:
            answer = connection.ask(fetch(topic, 0), FETCH_VERSION)
        records = bytes(answer.responses[0].partitions[0].records)
        assert all(value in records for value in values)
        names = {(task / "comm").read_text().strip() for task in Path(f"/proc/{broker.pid}/task").iterdir()}
        assert "fastlog-io-0" in names
        assert "fastlog-disk" not in names, "I/O threads send what is in memory"
        assert broker.stop() == 0, broker.log()
    finally:
        # one that fails leaves its broker to the fixture, which ends it later
        run("umount", "--lazy", str(merged))
