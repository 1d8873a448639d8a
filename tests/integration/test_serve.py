"""`fastlog serve` as a user runs it: how it starts, what it says, how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.describe_cluster import DescribeClusterRequest
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.conftest import MakeBroker
from tests.support.broker import PROGRAM, BrokerProcess
from tests.support.raw import RawTcp, RawZmq


def serve(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "serve", *arguments], check=False, capture_output=True, text=True, timeout=30, cwd=cwd
    )


def test_one_ready_line_and_a_clean_end(make_broker: MakeBroker) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        broker = make_broker(number.name)
        assert broker.ready_line == f"ready PLAINTEXT://{broker.bootstrap} ZMQ://127.0.0.1:{broker.zmq_port}"
        assert broker.process
        broker.process.send_signal(number)
        assert broker.process.wait(20) == 0
        assert broker.more_output() == []
        assert (broker.data_dir / ".kafka_cleanshutdown").exists()


def test_a_port_in_use_is_one_clear_line(make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker()
    listeners = {
        f"PLAINTEXT://{broker.bootstrap}": "ZMQ://127.0.0.1:0",
        f"ZMQ://127.0.0.1:{broker.zmq_port}": "PLAINTEXT://127.0.0.1:0",
    }
    for taken, free in listeners.items():
        ended = serve("--data-dir", str(tmp_path / "other"), "--listen", taken, "--listen", free)
        assert (ended.returncode, ended.stdout) == (1, "")
        last = ended.stderr.splitlines()[-1]
        assert f"cannot listen at {taken}" in last
        assert "Address already in use" in last
        assert "Traceback" not in ended.stderr
        assert (tmp_path / "other" / ".kafka_cleanshutdown").exists()


def test_a_data_directory_in_use_is_refused(make_broker: MakeBroker) -> None:
    broker = make_broker()
    ended = serve("--data-dir", str(broker.data_dir), "--listen", "PLAINTEXT://127.0.0.1:0")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "a running broker has it" in ended.stderr.splitlines()[-1]
    assert broker.is_running()


def test_a_data_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = serve("--data-dir", str(tmp_path / "file" / "data"), "--listen", "PLAINTEXT://127.0.0.1:0")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "cannot make the data directory" in ended.stderr.splitlines()[-1]


def test_another_node_s_directory_is_refused_untouched(make_broker: MakeBroker) -> None:
    broker = make_broker()
    broker.stop()
    before = {path: path.read_bytes() for path in broker.data_dir.rglob("*") if path.is_file()}
    ended = serve("--data-dir", str(broker.data_dir), "--node-id", "7", "--listen", "PLAINTEXT://127.0.0.1:0")
    assert ended.returncode == 1
    assert "it belongs to node 1, not 7" in ended.stderr.splitlines()[-1]
    assert {path: path.read_bytes() for path in broker.data_dir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "log.segment.byte=1"], "the nearest known one is log.segment.bytes"),
        (["--set", "log.segment.bytes=1"], "out of range"),
        (["--listen", "HTTP://x:1"], "unknown scheme HTTP"),
        (["--node-id", "one"], "node.id=one: not a whole number"),
        (["--config", "absent.toml"], "absent.toml"),
    ],
)
def test_a_bad_setting_is_a_usage_error(arguments: list[str], says: str, tmp_path: Path) -> None:
    ended = serve(*arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(f'"node.id" = 5\n"log.dirs" = "{tmp_path}/data"\nnum.partitions = 3\n')
    broker = BrokerProcess(
        tmp_path / "ignored", arguments=("--config", str(file), "--data-dir", f"{tmp_path}/data")
    )
    broker.start()
    try:
        with RawTcp("127.0.0.1", broker.tcp_port) as raw:
            created = raw.ask(CreateTopicsRequest(topics=[CreatableTopic("t", -1, -1)]), 7)
            assert created.topics[0].num_partitions == 3
            assert raw.ask(MetadataRequest(topics=None), 12).controller_id == 5
    finally:
        assert broker.stop() == 0


def told(broker: BrokerProcess, host: str) -> set[tuple[str, int, str | None]]:
    """What Metadata and DescribeCluster say to who connects to `host`."""
    with RawTcp(host, broker.tcp_port) as raw:
        metadata = raw.ask(MetadataRequest(topics=[]), 12).brokers[0]
        cluster = raw.ask(DescribeClusterRequest(), 1).brokers[0]
    assert (metadata.host, metadata.port) == (cluster.host, cluster.port)
    return {(metadata.host, metadata.port, metadata.zmq_endpoint)}


def test_metadata_names_the_address_that_the_client_connected_to(tmp_path: Path) -> None:
    arguments = ("--set", "listeners=PLAINTEXT://0.0.0.0:0,ZMQ://0.0.0.0:0")
    broker = BrokerProcess(tmp_path / "data", arguments=arguments)
    broker.command = lambda: [str(PROGRAM), "serve", "--data-dir", str(broker.data_dir), *arguments]  # type: ignore[method-assign]
    broker.start()
    try:
        for host in ("127.0.0.1", "127.0.0.2"):
            assert told(broker, host) == {(host, broker.tcp_port, f"{host}:{broker.zmq_port}")}
    finally:
        assert broker.stop() == 0


def test_advertised_listeners_are_told_instead(make_broker: MakeBroker) -> None:
    broker = make_broker(
        settings={"advertised.listeners": "PLAINTEXT://logs.example:19092,ZMQ://logs.example:19192"}
    )
    assert told(broker, "127.0.0.1") == {("logs.example", 19092, "logs.example:19192")}
    with RawZmq(broker.zmq_endpoint) as raw:
        answered = raw.ask(MetadataRequest(topics=[]), 12).brokers[0]
    assert (answered.host, answered.port, answered.zmq_endpoint) == ("logs.example", 19192, None)


def test_topics_are_made_on_asking_for_their_metadata(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"num.partitions": "2"})
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        wanted = [MetadataRequestTopic(name="made"), MetadataRequestTopic(name="../x")]
        made, bad = raw.ask(MetadataRequest(topics=wanted), 12).topics
        assert (made.error_code, len(made.partitions), bad.error_code) == (0, 2, 17)
        forbidding = MetadataRequest(
            topics=[MetadataRequestTopic(name="not")], allow_auto_topic_creation=False
        )
        refused = raw.ask(forbidding, 12)
        assert refused.topics[0].error_code == 3
        assert [topic.name for topic in raw.ask(MetadataRequest(topics=None), 12).topics] == ["made"]


def test_topics_are_not_made_where_the_broker_forbids_it(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"auto.create.topics.enable": "false"})
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        answer = raw.ask(MetadataRequest(topics=[MetadataRequestTopic(name="not")]), 12)
        assert answer.topics[0].error_code == 3


def test_a_broker_that_was_never_reached_stops_at_once(make_broker: MakeBroker) -> None:
    broker = make_broker()
    with socket.create_connection(("127.0.0.1", broker.tcp_port)):
        assert broker.stop() == 0
