"""`fastlog.Broker`: a broker in the caller's process, which takes nothing over and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastlog
from fastlog.broker import embedded
from fastlog.config import Given
from fastlog.errors import ConfigError, FastlogError
from tests.support.admin import create_topic
from tests.support.clients import confluent, kcat
from tests.support.samples import samples, text_samples

BOTH = ("PLAINTEXT://127.0.0.1:0", "ZMQ://127.0.0.1:0")
PROGRAM_SECONDS = 30


def send_and_read(bootstrap: str, topic: str = "greetings") -> list[bytes | None]:
    """Sends one record and reads all there are."""
    with fastlog.Producer(bootstrap) as producer:
        producer.send(topic, b"hello").result(10)
    with fastlog.Consumer(bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([fastlog.TopicPartition(topic, 0)])
        return [record.value for record in consumer.poll(timeout=10.0)]


def run_program(text: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own, which reports what was not closed."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", text, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
    assert done.returncode == status, done.stderr
    return done


# ---- clients ----


@pytest.mark.parametrize("listeners", [BOTH[:1], BOTH], ids=["tcp", "zmq"])
def test_our_sdk(listeners: tuple[str, ...]) -> None:
    with fastlog.Broker(listeners=listeners) as broker:
        assert send_and_read(broker.bootstrap) == [b"hello"]
        assert (broker.zmq_endpoint is None) == (len(listeners) == 1)
        if broker.zmq_endpoint:
            host, port = broker.zmq_endpoint.removeprefix("tcp://").split(":")
            socket.create_connection((host, int(port))).close()


def test_confluent_kafka_and_kcat(fastlog_broker: fastlog.Broker) -> None:
    clients: tuple[tuple[ModuleType, Callable[[], list[object]]], ...] = (
        (confluent, samples),
        (kcat, text_samples),
    )
    for client, make in clients:
        topic = client.__name__.rsplit(".", 1)[-1]
        create_topic(fastlog_broker.bootstrap, topic)
        sent = make()
        client.produce(fastlog_broker.bootstrap, topic, sent, "lz4")
        assert len(client.consume(fastlog_broker.bootstrap, topic, len(sent))) == len(sent)


def test_several_at_once_have_their_own_ports_and_records() -> None:
    with fastlog.Broker() as first, fastlog.Broker() as second, fastlog.Broker() as third:
        brokers = (first, second, third)
        assert len({broker.bootstrap for broker in brokers}) == len({it.data_dir for it in brokers}) == 3
        for broker in brokers:
            assert send_and_read(broker.bootstrap) == [b"hello"]
        second.close()
        assert send_and_read(third.bootstrap) == [b"hello"] * 2


# ---- where the data is ----


def test_a_directory_keeps_what_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with fastlog.Broker("data") as broker:
        assert broker.data_dir == tmp_path / "data"
        # a program may go elsewhere meanwhile
        monkeypatch.chdir("/")
        assert send_and_read(broker.bootstrap) == [b"hello"]
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()
    with fastlog.Broker(settings={"log.dirs": str(tmp_path / "data")}) as broker:
        assert send_and_read(broker.bootstrap) == [b"hello"] * 2


def test_memory_is_private_and_given_back() -> None:
    with fastlog.Broker() as broker:
        assert broker.data_dir.name.startswith(f"fastlog-{os.getpid()}-")
        assert broker.data_dir.stat().st_mode & 0o777 == 0o700
        assert broker.data_dir.parent == (embedded._memory() or Path("/tmp"))
    assert not broker.data_dir.exists()


def test_memory_is_a_tmpfs_with_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"none {tmp_path} tmpfs rw 0 0\n")
    assert embedded._memory(tmp_path, mounts) == tmp_path
    mounts.write_text(f"none {tmp_path} tmpfs rw 0 0\n/dev/vda {tmp_path} ext4 rw 0 0\n")
    assert embedded._memory(tmp_path, mounts) is None
    assert embedded._memory(tmp_path, tmp_path / "absent") is None
    monkeypatch.setattr(embedded, "ROOM_BYTES_MIN", 1 << 60)
    mounts.write_text(f"none {tmp_path} tmpfs rw 0 0\n")
    assert embedded._memory(tmp_path, mounts) is None


# ---- settings and errors ----


def test_settings_by_key_and_by_keyword() -> None:
    given = {"num.partitions": 2, "log.retention.ms": -1, "auto.create.topics.enable": True}
    with (
        fastlog.Broker(settings=given, num_partitions=3) as broker,
        fastlog.Admin(broker.bootstrap) as admin,
    ):
        assert admin.create_topic("orders").partition_count == 3
        assert admin.describe_configs(topic="orders")["retention.ms"].value == "-1"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"log.segment.byte": 1}, "the nearest known one is log.segment.bytes"),
        ({"log_segment_bytes": 1}, "out of range"),
        ({"listeners": "HTTP://x:1"}, "unknown scheme HTTP"),
        ({"node.id": "one"}, "node.id=one: not a whole number"),
        ({"node.id": 1.5j}, "node.id: a setting takes a word"),
    ],
)
def test_a_bad_setting_is_the_error_that_serve_gives(settings: dict[str, Given], says: str) -> None:
    keywords = {key: value for key, value in settings.items() if "_" in key}
    others = {key: value for key, value in settings.items() if "_" not in key}
    with pytest.raises(ConfigError, match=says):
        fastlog.Broker(settings=others, **keywords)


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    with fastlog.Broker(tmp_path / "data", listeners=BOTH) as broker:
        assert broker.zmq_endpoint
        with pytest.raises(FastlogError, match="a running broker has it"):
            fastlog.Broker(tmp_path / "data")
        with pytest.raises(
            OSError, match=f"cannot listen at PLAINTEXT://{broker.bootstrap}: Address already"
        ):
            fastlog.Broker(listeners=f"PLAINTEXT://{broker.bootstrap}")
        zmq = broker.zmq_endpoint.replace("tcp", "ZMQ")
        with pytest.raises(OSError, match=f"cannot listen at {zmq}: Address already"):
            fastlog.Broker(listeners=["PLAINTEXT://127.0.0.1:0", zmq])
        with pytest.raises(FastlogError, match="cannot make the data directory"):
            fastlog.Broker(tmp_path / "data" / "meta.properties" / "x")
    with pytest.raises(FastlogError, match="it belongs to node 1, not 7"):
        fastlog.Broker(tmp_path / "data", node_id=7)


# ---- what it leaves alone, and behind ----

# What a process has, in one of its own: clients that other tests of a worker left open come and go there.
STATE = """
import gc, os, sys, threading, time
from pathlib import Path
import fastlog

def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass
    return found

def files():
    return sorted(str(path) for place in ("/dev/shm", "/tmp") for path in Path(place).glob(f"fastlog-{os.getpid()}-*"))

def state():
    return descriptors(), threading.enumerate(), os.listdir("/proc/self/task"), files()

def check_state(before):
    # the system forgets a thread some microseconds after it was joined
    deadline = time.monotonic() + 5
    while state() != before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert state() == before, (before, state())
"""

LEAVES_NOTHING = (
    STATE
    + """
def turn():
    with fastlog.Broker(listeners=sys.argv[1:]) as broker:
        with fastlog.Producer(broker.bootstrap) as producer:
            producer.send("t", b"v").result(10)
        with fastlog.Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.assign([fastlog.TopicPartition("t", 0)])
            assert len(consumer.poll(timeout=10.0)) == 1
        assert len(files()) == 1

# nothing of a broker or a client may wait for the collector: a program may have turned it off
gc.disable()
turn()
deadline = time.monotonic() + 5
while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
before = state()
for _ in range(20):
    turn()
    check_state(before)
"""
)

CANNOT_START = (
    STATE
    + """
def refuse(*arguments, **keywords):
    try:
        fastlog.Broker(*arguments, **keywords)
    except (fastlog.errors.FastlogError, OSError):
        return
    raise AssertionError(f"it starts with {arguments} {keywords}")

place = Path(sys.argv[1])
tcp, zmq = "PLAINTEXT://127.0.0.1:0", "ZMQ://127.0.0.1:0"
with fastlog.Broker(place, listeners=[tcp, zmq]) as broker:
    gc.disable()
    before = state()
    refuse(place)
    refuse(listeners=f"PLAINTEXT://{broker.bootstrap}")
    refuse(listeners=[tcp, broker.zmq_endpoint.replace("tcp", "ZMQ")])
    refuse(place / "meta.properties" / "x")
    check_state(before)
before = state()
refuse(place, node_id=7)
check_state(before)
"""
)


@pytest.mark.parametrize("listeners", [BOTH[:1], BOTH], ids=["tcp", "zmq"])
def test_twenty_times_nothing_is_left(listeners: tuple[str, ...]) -> None:
    assert run_program(LEAVES_NOTHING, *listeners).stderr == ""


def test_what_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    assert run_program(CANNOT_START, str(tmp_path / "data")).stderr == ""


def test_the_program_s_own_affairs_are_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    def affairs() -> object:
        root, ours = logging.getLogger(), logging.getLogger("fastlog")
        return (
            {number: signal.getsignal(number) for number in signal.valid_signals()},
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            sys.getswitchinterval(),
            asyncio.get_event_loop_policy(),
            [(it.level, list(it.handlers), it.propagate, it.disabled) for it in (root, ours)],
            (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr, Path.cwd(), os.environ.copy()),
        )

    before = affairs()
    with fastlog.Broker(listeners=BOTH) as broker:
        assert send_and_read(broker.bootstrap) == [b"hello"]
        assert affairs() == before
    assert affairs() == before
    assert capfd.readouterr() == ("", "")


def test_what_it_says_goes_to_loggers_below_fastlog(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastlog")
    with fastlog.Broker() as broker:
        pass
    said = [record.getMessage() for record in caplog.records if record.name == "fastlog.broker"]
    assert f"ready listeners=PLAINTEXT://{broker.bootstrap} node_id=1" in said
    assert said[-1] == "stopped"


def test_the_page_in_docs_works_as_it_stands() -> None:
    page = Path(__file__).parents[2] / "docs" / "embedded.md"
    first, second = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert run_program(first).stdout == "b'hello'\n"
    assert run_program(second).stdout.startswith("tcp://127.0.0.1:")


# ---- where it runs ----


def test_in_a_thread() -> None:
    read: list[bytes | None] = []

    def work() -> None:
        with fastlog.Broker() as broker:
            read.extend(send_and_read(broker.bootstrap))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert read == [b"hello"]


def test_in_a_running_loop() -> None:
    async def work() -> list[bytes | None]:
        loop = asyncio.get_running_loop()
        with fastlog.Broker() as broker:
            read = await asyncio.to_thread(send_and_read, broker.bootstrap)
        assert asyncio.get_running_loop() is loop
        return read

    assert asyncio.run(work(), debug=True) == [b"hello"]


def test_closing_again_and_from_several_threads() -> None:
    broker = fastlog.Broker()
    host, port = broker.bootstrap.split(":")
    threads = [threading.Thread(target=broker.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    broker.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    assert not broker.data_dir.exists()


FORGOTTEN = """
import sys, threading
import fastlog

kept = fastlog.Broker(sys.argv[1])
in_memory = fastlog.Broker(listeners=["PLAINTEXT://127.0.0.1:0", "ZMQ://127.0.0.1:0"])
print(in_memory.data_dir)
producers = [fastlog.Producer(broker.bootstrap, linger_ms=60_000) for broker in (kept, in_memory)]
for producer in producers:
    producer.send("unknown so far", b"v")
consumer = fastlog.Consumer(in_memory.bootstrap, auto_offset_reset="earliest")
consumer.assign([fastlog.TopicPartition("t", 0)])
consumer.poll(timeout=0.1)
if sys.argv[2] == "error":
    raise SystemExit(3)
"""


@pytest.mark.parametrize(("end", "status"), [("normal", 0), ("error", 3)])
def test_a_forgotten_one_ends_with_the_program(tmp_path: Path, end: str, status: int) -> None:
    text = FORGOTTEN.replace("unknown so far", "orders")
    done = run_program(text, str(tmp_path / "data"), end, status=status)
    assert not Path(done.stdout.strip()).exists()
    assert "Traceback" not in done.stderr
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()
    # the producers end before the brokers that they were made after
    with fastlog.Broker(tmp_path / "data") as broker:
        assert send_and_read(broker.bootstrap, "orders") == [b"v", b"hello"]


FORKED = """
import os, fastlog
broker = fastlog.Broker()
child = os.fork()
if child == 0:
    broker.close()
    raise SystemExit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
with fastlog.Producer(broker.bootstrap) as producer:
    producer.send("t", b"v").result(10)
broker.close()
assert not broker.data_dir.exists()
"""


def test_a_forked_child_ends_without_it() -> None:
    run_program(FORKED)
