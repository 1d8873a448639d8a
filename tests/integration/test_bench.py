"""`fastlog bench` as a user runs it, with tiny sizes: what it prints, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fastlog import Admin
from tests.conftest import MakeBroker
from tests.support.broker import PROGRAM, BrokerProcess, wait_until
from tests.support.cli import fastlog
from tests.unit.bench.test_result import KEYS

TINY = {
    "limits": ("--bytes", "200000", "--rounds", "1"),
    "append": ("--batches", "3", "--batch-bytes", "65536"),
    "fetch": ("--fetches", "5", "--fetch-bytes", "65536", "--batch-bytes", "16384"),
    "produce": ("--records", "3000", "--partitions", "2", "--batch-bytes", "16384", "--compression", "lz4"),
    "consume": ("--records", "3000", "--partitions", "2", "--batch-bytes", "16384"),
    "latency": ("--rate", "200", "--seconds", "0.5"),
    "commits": ("--clients", "3", "--seconds", "0.3"),
    "groups": ("--groups", "3", "--interval", "0.1", "--large", "3", "--committers", "2", "--seconds", "0.3"),
    "start": ("--idle-seconds", "0"),
    "clean": ("--bytes", "300000", "--keys", "100"),
    "topics": (
        "--topics",
        "1,30",
        "--per-request",
        "7",
        "--clients",
        "2",
        "--records",
        "500",
        "--idle-seconds",
        "0.1",
    ),
    "recovery": ("--bytes", "300000", "--batch-bytes", "65536"),
    "tiers": ("--bytes", "3000000", "--segment-bytes", "1048576", "--batch-bytes", "65536"),
}
WITHOUT_LIMIT = {"limits", "groups", "topics"}
WITHOUT_RECORDS = {"start", "topics"}
WITH_OWN_BROKER = ("fetch", "produce", "consume", "latency", "commits")


def processes_below(directory: Path) -> list[int]:
    """The processes that were told of a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(directory).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended meanwhile
    return [pid for pid in found if pid != os.getpid()]


def run(name: str, *more: str) -> list[dict[str, object]]:
    done = fastlog("bench", name, *TINY[name], *more, "--json")
    assert done.status == 0, done.err
    rows = done.rows()
    assert rows
    assert all(list(row)[: len(KEYS)] == KEYS and list(row)[-1] == "settings" for row in rows)
    return rows


@pytest.mark.parametrize("name", TINY)
def test_a_bench_says_what_it_found_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    for row in run(name, "--directory", str(tmp_path)):
        assert str(row["name"]).split(".")[0] == name
        assert row["seconds"] > 0
        if name not in WITHOUT_RECORDS:
            assert row["records"] > 0
            assert row["records_per_second"] == pytest.approx(row["records"] / row["seconds"], rel=1e-3)
        if name not in WITHOUT_LIMIT:
            assert row["limit"]
            assert 0 < row["ratio_min"] <= row["ratio_to_limit"] <= row["ratio_max"]
            assert row["settings"]["pairs"] == 5
        assert row["settings"]["directory"] == str(tmp_path)
        assert (row["p50_ms"] is None) == (row["p99_ms"] is None)
    assert list(tmp_path.iterdir()) == []
    assert processes_below(tmp_path) == []


@pytest.mark.parametrize("name", ["tiers", "start"])
def test_a_directory_may_be_named_from_where_one_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for row in run(name, "--directory", "here"):
        assert row["settings"]["directory"] == str(tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []


def test_a_directory_as_the_store_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("tiers", "--store", "store")[0]["settings"]["store"] == str(tmp_path / "store")


def test_a_broker_that_ends_at_once_is_told_as_that(tmp_path: Path) -> None:
    done = fastlog("bench", "tiers", *TINY["tiers"], "--store", "gs://bucket/x", "--directory", str(tmp_path))
    assert done.status == 1
    assert "it ended with status 2; its log ends with: fastlog: fastlog.remote.store.url=gs://" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["iterate", "poll", "values"])
def test_each_way_to_consume(mode: str, broker: BrokerProcess) -> None:
    (row,) = run("consume", "--mode", mode, "--bootstrap", broker.bootstrap)
    assert row["settings"]["mode"] == mode


@pytest.mark.parametrize("acks", ["0", "1"])
def test_send_many_with_fewer_acks(acks: str, broker: BrokerProcess) -> None:
    (row,) = run("produce", "--mode", "many", "--acks", acks, "--bootstrap", broker.bootstrap)
    assert (row["settings"]["mode"], row["settings"]["acks"], row["records"]) == ("many", acks, 3000)


@pytest.mark.parametrize("name", WITH_OWN_BROKER)
def test_a_cluster_that_is_named_is_measured_and_left_as_it_was(
    name: str, broker: BrokerProcess, tmp_path: Path
) -> None:
    with Admin(broker.bootstrap) as admin:
        before = {topic.name for topic in admin.list_topics()}
        rows = run(name, "--bootstrap", broker.bootstrap, "--directory", str(tmp_path))
        assert {topic.name for topic in admin.list_topics()} == before
    for row in rows:
        assert row["settings"]["bootstrap"] == broker.bootstrap
        assert row["broker_cpu_seconds_per_million_records"] is None, "whose time it would be is not known"
    assert list(tmp_path.iterdir()) == []


def test_the_own_brokers_processor_time_is_told() -> None:
    (row,) = run("produce")
    assert row["broker_cpu_seconds_per_million_records"] >= 0


def test_without_json_there_is_a_table(broker: BrokerProcess) -> None:
    done = fastlog("bench", "fetch", *TINY["fetch"], "--bootstrap", broker.bootstrap)
    assert done.status == 0, done.err
    lines = done.out.decode().splitlines()
    assert lines[0].split()[:2] == ["records/s", "MB/s"]
    assert lines[1].startswith("fetch ")
    assert lines[-1].startswith("settings: fetches=5 ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("produce", "--mode", "bulk"), "--mode"),
        (("produce", "--records", "0"), "--records"),
        (("produce", "--pairs", "4"), "--pairs"),
        (("produce", "--size", "7"), "--size"),
        (("consume", "--batch-bytes", "2000000"), "--batch-bytes"),
        (("latency", "--rate", "0"), "--rate"),
        (("append", "--directory", "/no/such/directory"), "--directory"),
        (("append", "--batch-bytes", "1024", "--size", "2000"), "--batch-bytes"),
        (("fetch", "--fetch-bytes", "1024", "--batch-bytes", "4096"), "--fetch-bytes"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_wrong_use_is_refused_before_anything_runs(arguments: tuple[str, ...], named: str) -> None:
    done = fastlog("bench", *arguments)
    assert done.status == 2
    assert named in done.err
    assert done.out == b""


def test_a_cluster_that_does_not_answer_is_status_3() -> None:
    done = fastlog("bench", "consume", *TINY["consume"], "--bootstrap", "127.0.0.1:1")
    assert done.status == 3
    assert "127.0.0.1:1" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    command = [PROGRAM, "bench", "produce", "--records", "50000000", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # the bench itself, its broker and the limit's ROUTER
        wait_until("all run", lambda: len(processes_below(tmp_path)) == 3, seconds=20)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, ""), err
    assert "interrupted" in err
    assert processes_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_stalled_broker_shows_in_the_99th_percentile(make_broker: MakeBroker) -> None:
    broker = make_broker()
    arguments = ("--rate", "200", "--seconds", "2", "--bootstrap", broker.bootstrap, "--json")
    command = [PROGRAM, "bench", "latency", *arguments]
    stopped = threading.Event()

    def stall() -> None:
        """More often than once in a round, which takes 0.4 s."""
        while not stopped.wait(0.15):
            os.kill(broker.pid, signal.SIGSTOP)
            time.sleep(0.2)
            os.kill(broker.pid, signal.SIGCONT)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        stalling = threading.Thread(target=stall)
        stalling.start()
        out, _ = process.communicate(timeout=60)
        stopped.set()
        stalling.join()
    assert process.returncode == 0
    acknowledged, _ = (json.loads(line) for line in out.splitlines())
    # many of all records were due while nothing could answer; a loop that waits for each answer would have one slow
    # record for each stall, below one in a hundred
    assert acknowledged["p99_ms"] > 120
