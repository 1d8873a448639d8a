"""The command line against a running broker: what goes in comes out, and the exit status tells what happened."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from fastlog import Admin
from fastlog.testing.ports import free_ports
from tests.conftest import MakeBroker
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import PROGRAM, BrokerProcess, wait_until
from tests.support.cli import Run, fastlog
from tests.support.clients import confluent
from tests.support.samples import Sample, samples

Cli = Callable[..., Run]


@pytest.fixture
def cli(broker: BrokerProcess) -> Cli:
    """Runs a command against the shared broker."""

    def run(*arguments: str, stdin: bytes = b"") -> Run:
        return fastlog(*arguments, "--bootstrap", broker.bootstrap, stdin=stdin)

    return run


def test_a_topic_from_its_making_to_its_end(cli: Cli, topic_name: str) -> None:
    made = cli(
        "topics", "create", topic_name, "--partitions", "3", "--config", "retention.ms=3600000", "--json"
    )
    assert made.status == 0, made.err
    (created,) = json.loads(made.out)["created"]
    assert (created["name"], created["partition_count"], created["replication_factor"]) == (topic_name, 3, 1)
    assert topic_name in cli("topics", "list").out.decode().split()

    assert (
        cli("topics", "alter", topic_name, "--partitions", "5", "--config", "segment.bytes=2097152").status
        == 0
    )
    (described,) = json.loads(cli("topics", "describe", topic_name, "--json").out)["topics"]
    assert [entry["partition"] for entry in described["partitions"]] == [0, 1, 2, 3, 4]
    assert described["configs"]["retention.ms"]["value"] == "3600000"
    assert described["configs"]["segment.bytes"] == {"value": "2097152", "source": "topic"}

    assert cli("topics", "alter", topic_name, "--delete-config", "retention.ms").status == 0
    shown = cli("topics", "describe", topic_name).out.decode()
    assert "retention.ms" not in shown
    assert "log end offset" in shown
    assert cli("topics", "delete", topic_name).status == 0
    assert topic_name not in cli("topics", "list").out.decode().split()


def test_durability_is_shown_with_a_topic(cli: Cli, topic_name: str) -> None:
    cli("topics", "create", topic_name)
    assert "fastlog.durability = os  (default)" in cli("topics", "describe", topic_name).out.decode()
    assert cli("configs", "set", "fastlog.durability=fsync", "--topic", topic_name).status == 0
    assert "fastlog.durability = fsync  (topic)" in cli("topics", "describe", topic_name).out.decode()
    (described,) = json.loads(cli("topics", "describe", topic_name, "--json").out)["topics"]
    assert described["durability"] == "fsync"
    assert described["configs"]["fastlog.durability"] == {"value": "fsync", "source": "topic"}
    assert "fastlog.durability" in cli("configs", "describe", "--topic", topic_name).out.decode()
    refused = cli("configs", "set", "fastlog.durability=raid", "--topic", topic_name)
    assert refused.status == 1
    assert "os, fsync" in refused.err


def test_configs_of_groups(cli: Cli, topic_name: str) -> None:
    key = "consumer.session.timeout.ms"
    assert cli("configs", "set", f"{key}=50000", "--group", topic_name).out.decode() == (
        f"changed {key} of group {topic_name}\n"
    )
    assert cli("configs", "describe", "--group", topic_name).out.decode().split()[3:] == [
        key,
        "50000",
        "group",
    ]
    refused = cli("configs", "set", f"{key}=1", "--group", topic_name)
    assert refused.status == 1
    assert "at least group.consumer.min.session.timeout.ms=45000" in refused.err
    assert cli("configs", "unset", key, "--group", topic_name).status == 0
    both = cli("configs", "describe", "--group", topic_name, "--topic", topic_name)
    assert both.status == 2
    assert "one of --topic NAME, --broker ID and --group NAME" in both.err


def test_configs_of_topics_and_brokers(cli: Cli, topic_name: str) -> None:
    cli("topics", "create", topic_name)
    assert cli("configs", "set", "max.message.bytes=5000", "--topic", topic_name).status == 0
    shown = json.loads(cli("configs", "describe", "--topic", topic_name, "--json").out)["configs"]
    assert {"max.message.bytes": "5000"}.items() <= {entry["name"]: entry["value"] for entry in shown}.items()
    assert cli("configs", "unset", "max.message.bytes", "--topic", topic_name).status == 0
    assert "max.message.bytes" not in cli("configs", "describe", "--topic", topic_name).out.decode()
    everything = cli("configs", "describe", "--broker", "1", "--all").out.decode()
    assert "log.segment.bytes" in everything
    refused = cli("configs", "set", "no.such.setting=1", "--topic", topic_name)
    assert refused.status == 1
    assert "no.such.setting" in refused.err


@pytest.mark.parametrize(
    "command",
    [("configs", "unset", "retention.mss", "--topic"), ("topics", "alter")],
    ids=["configs", "topics"],
)
def test_a_setting_that_is_not_known_cannot_be_put_back(
    cli: Cli, topic_name: str, command: tuple[str, ...]
) -> None:
    cli("topics", "create", topic_name)
    more = ("--delete-config", "retention.mss") if command[0] == "topics" else ()
    done = cli(*command, topic_name, *more)
    assert done.status == 1
    assert "retention.mss" in done.err
    assert done.err.endswith("unknown setting; the nearest known one is retention.ms\n")


def test_lines_with_keys(cli: Cli, broker: BrokerProcess, topic_name: str) -> None:
    cli("topics", "create", topic_name, "--partitions", "1")
    sent = cli("produce", topic_name, "--key-separator", ":", "--json", stdin=b"a:1\nb:2:3\nno key\n\n")
    assert sent.status == 0, sent.err
    assert json.loads(sent.out)["records"] == 4
    got = [record.without_timestamp() for record in confluent.consume(broker.bootstrap, topic_name, 4)]
    assert got == [Sample(b"a", b"1"), Sample(b"b", b"2:3"), Sample(None, b"no key"), Sample(None, b"")]
    assert cli("consume", topic_name, "--from-beginning", "--exit-at-end").out == b"1\n2:3\nno key\n\n"


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_jsonl_out_and_in_again_keeps_everything(
    cli: Cli, broker: BrokerProcess, topic_name: str, compression: str
) -> None:
    copy = f"{topic_name}-copy"
    cli("topics", "create", topic_name, copy, "--partitions", "1")
    confluent.produce(broker.bootstrap, topic_name, samples(), "zstd")
    lines = cli("consume", topic_name, "--from-beginning", "--exit-at-end", "--output", "jsonl")
    assert lines.status == 0, lines.err
    assert [row["offset"] for row in lines.rows()] == list(range(200))
    sent = cli("produce", copy, "--input", "jsonl", "--compression", compression, stdin=lines.out)
    assert sent.status == 0, sent.err
    assert confluent.consume(broker.bootstrap, copy, 200) == samples()


def test_files_and_partitions(cli: Cli, topic_name: str, tmp_path: Path) -> None:
    cli("topics", "create", topic_name, "--partitions", "3")
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"from file {number}\n" * 10)
        assert (
            cli("produce", topic_name, "--partition", str(number), str(tmp_path / f"{number}.txt")).status
            == 0
        )
    one = cli("consume", topic_name, "--from-beginning", "--exit-at-end", "--partition", "1")
    assert one.out == b"from file 1\n" * 10
    everything = cli("consume", topic_name, "--from-beginning", "--exit-at-end")
    assert sorted(everything.out.splitlines()) == sorted(
        f"from file {n}".encode() for n in range(3) for _ in range(10)
    )
    tail = cli(
        "consume", topic_name, "--partition", "2", "--offset", "7", "--exit-at-end", "--output", "jsonl"
    )
    assert [row["offset"] for row in tail.rows()] == [7, 8, 9]


def test_ways_to_end(cli: Cli, topic_name: str) -> None:
    cli("topics", "create", topic_name, "--partitions", "1")
    cli("produce", topic_name, stdin=b"".join(b"%d\n" % number for number in range(100)))
    assert cli("consume", topic_name, "--from-beginning", "--max", "7").out == b"0\n1\n2\n3\n4\n5\n6\n"
    quiet = cli("consume", topic_name, "--timeout-ms", "300")
    assert (quiet.status, quiet.out) == (0, b"")


@pytest.mark.parametrize("end", [("--exit-at-end",), ("--timeout-ms", "3000")], ids=["at-end", "silence"])
def test_an_offset_that_is_not_there_is_refused(
    cli: Cli, broker: BrokerProcess, topic_name: str, end: tuple[str, ...]
) -> None:
    cli("topics", "create", topic_name, "--partitions", "1")
    cli("produce", topic_name, stdin=b"".join(b"%d\n" % number for number in range(10)))
    with Admin(broker.bootstrap) as admin:
        admin.delete_records({(topic_name, 0): 4})
    for offset in ("3", "11", "1000"):
        done = cli("consume", topic_name, "--offset", offset, *end)
        assert (done.status, done.out) == (1, b"")
        assert f"from offset {offset}: its first record is 4, its next will be 10" in done.err
    assert cli("consume", topic_name, "--offset", "8", "--exit-at-end").out == b"8\n9\n"
    assert cli("consume", topic_name, "--offset", "10", "--exit-at-end") == Run(0, b"", "")


def test_ctrl_c_ends_consume_with_what_came(cli: Cli, broker: BrokerProcess, topic_name: str) -> None:
    cli("topics", "create", topic_name, "--partitions", "1")
    cli("produce", topic_name, stdin=b"one\n")
    command = [PROGRAM, "consume", topic_name, "--from-beginning", "--bootstrap", broker.bootstrap]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"one\n"
        reader.send_signal(signal.SIGINT)
        assert reader.wait(10) == 0


@pytest.mark.parametrize("is_alive", [True, False])
def test_ctrl_c_ends_produce_whether_the_broker_answers_or_not(
    make_broker: MakeBroker, *, is_alive: bool
) -> None:
    broker = make_broker()
    assert fastlog("topics", "create", "t", "--bootstrap", broker.bootstrap).status == 0
    command = [PROGRAM, "produce", "t", "--bootstrap", broker.bootstrap]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stderr is not None
        writer.stdin.write("one\n")
        writer.stdin.flush()
        arrived = fastlog("consume", "t", "--from-beginning", "--max", "1", "--bootstrap", broker.bootstrap)
        assert arrived.out == b"one\n"
        if not is_alive:
            broker.kill()
            writer.stdin.write("two\nthree\n")
            writer.stdin.flush()
            wait_until("the lines are read", lambda: waiting_bytes(writer.stdin) == 0)
            time.sleep(0.2)  # and handed to the producer
        writer.send_signal(signal.SIGINT)
        assert writer.wait(15) == 1
        lost = 0 if is_alive else 2
        said = writer.stderr.read()
        assert said == f"fastlog: interrupted: 1 record acknowledged, {lost} not\n"


def test_produce_says_once_that_the_broker_is_away_and_that_it_is_back(make_broker: MakeBroker) -> None:
    broker = make_broker()
    assert fastlog("topics", "create", "t", "--bootstrap", broker.bootstrap).status == 0
    command = [PROGRAM, "produce", "t", "--bootstrap", broker.bootstrap]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stderr is not None
        writer.stdin.write("one\n")
        writer.stdin.flush()
        assert fastlog("consume", "t", "--from-beginning", "--max", "1", "--bootstrap", broker.bootstrap).out
        broker.kill()
        writer.stdin.write("two\n")
        writer.stdin.flush()
        away = writer.stderr.readline()
        assert re.match(r"fastlog: no record for t-0 was acknowledged for \d+ s: .*127\.0\.0\.1:\d+", away)
        broker.start()
        assert re.match(r"fastlog: records are acknowledged again, after \d+ s", writer.stderr.readline())
        writer.stdin.close()
        assert writer.wait(15) == 0
        assert re.fullmatch(r"2 records to t in [\d.]+ s\n", writer.stderr.read())


def waiting_bytes(pipe: IO[str]) -> int:
    """What lies in a pipe and was not read."""
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(count)


def test_a_reader_that_goes_away_is_no_error(cli: Cli, broker: BrokerProcess, topic_name: str) -> None:
    cli("topics", "create", topic_name, "--partitions", "1")
    cli("produce", topic_name, stdin=b"x" * 80 * 1024 + b"\n" + b"line\n" * 50_000)
    reader = f"{PROGRAM} consume {topic_name} --from-beginning --exit-at-end --bootstrap {broker.bootstrap}"
    command = f"{reader} | head -c 9"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x" * 9, b"")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("topics", "create", "../x"), 1, "INVALID_TOPIC_EXCEPTION"),
        (("topics", "describe", "no-such-topic"), 1, "no-such-topic"),
        (("topics", "delete", "no-such-topic"), 1, "no-such-topic"),
        (("topics", "create", "x", "--replication-factor", "3"), 1, "INVALID_REPLICATION_FACTOR"),
        (("topics", "create", "x", "--partitions", "0"), 2, "--partitions"),
        (("topics", "create", "x", "--config", "retention.ms"), 2, "KEY=VALUE"),
        (("topics", "alter", "x"), 2, "nothing to change"),
        (("consume", "x", "--from-beginning", "--offset", "3"), 2, "either"),
        (("consume", "no-such-topic", "--exit-at-end"), 1, "no-such-topic"),
        (("configs", "describe"), 2, "--topic"),
        (("produce", "x", "/no/such/file"), 2, "/no/such/file"),
        (("produce", "../x"), 1, "a name has 1 to 249 of the characters"),
    ],
)
def test_refusals_and_wrong_use(cli: Cli, arguments: tuple[str, ...], status: int, said: str) -> None:
    done = cli(*arguments, stdin=b"x\n")
    assert done.status == status, done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_bad_line_is_named(cli: Cli, topic_name: str) -> None:
    cli("topics", "create", topic_name)
    done = cli("produce", topic_name, "--input", "jsonl", stdin=b'{"value": "good"}\n{"valeu": "bad"}\n')
    assert done.status == 1
    assert "standard input, line 2: unknown field 'valeu'" in done.err
    assert cli("consume", topic_name, "--from-beginning", "--exit-at-end").out == b"good\n"


def test_what_was_sent_before_a_bad_line_is_reported(cli: Cli, topic_name: str) -> None:
    cli("topics", "create", topic_name)
    lines = b'{"value": "good"}\n{"valeu": "bad"}\n{"value": "not reached"}\n'
    done = cli("produce", topic_name, "--input", "jsonl", "--json", stdin=lines)
    assert done.status == 1
    (report,) = done.rows()
    assert (report["records"], report["failed"]) == (1, 0)
    assert "line 2: unknown field 'valeu'" in report["error"]


def test_what_was_read_before_an_error_is_reported(cli: Cli, broker: BrokerProcess, topic_name: str) -> None:
    cli("topics", "create", topic_name, "--partitions", "1")
    cli("produce", topic_name, stdin=b"one\n")
    command = [PROGRAM, "consume", topic_name, "--from-beginning", "--json", "--bootstrap", broker.bootstrap]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"one\n"
        cli("topics", "delete", topic_name)
        _, said = reader.communicate(timeout=30)
    assert reader.returncode == 1
    assert b'"records": 1' in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"value": "v", "partition": 7}', "line 2: partition=7"),
        (b'{"value": "' + b"x" * 2_000_000 + b'"}', "line 2: MESSAGE_TOO_LARGE"),
    ],
)
def test_a_line_that_cannot_be_sent_is_named(cli: Cli, topic_name: str, line: bytes, says: str) -> None:
    cli("topics", "create", topic_name, "--partitions", "1")
    done = cli("produce", topic_name, "--input", "jsonl", stdin=b'{"value": "good"}\n' + line + b"\n")
    assert done.status == 1
    assert says in done.err
    assert cli("consume", topic_name, "--from-beginning", "--exit-at-end").out == b"good\n"


def test_what_was_done_before_a_refusal_is_said(cli: Cli, topic_name: str) -> None:
    made = cli("topics", "create", topic_name, "../x")
    assert (made.status, made.out) == (1, f"created {topic_name}: 1 partition, 1 copy of each\n".encode())
    gone = cli("topics", "delete", topic_name, "no-such-topic")
    assert (gone.status, gone.out) == (1, f"deleted {topic_name}\n".encode())
    assert "no-such-topic" in gone.err


@pytest.mark.parametrize(
    ("command", "key"), [("create", "created"), ("describe", "topics"), ("delete", "deleted")]
)
def test_a_report_names_what_was_done_before_a_refusal(
    cli: Cli, topic_name: str, command: str, key: str
) -> None:
    if command != "create":
        cli("topics", "create", topic_name)
    done = cli("topics", command, topic_name, "../x", "never-reached", "--json")
    assert done.status == 1
    assert "../x" in done.err
    (entry,) = json.loads(done.out)[key]
    assert (entry if command == "delete" else entry["name"]) == topic_name


@pytest.mark.parametrize("command", [("topics", "list"), ("produce", "x"), ("consume", "x")])
def test_no_broker_is_status_3(command: tuple[str, ...]) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    done = fastlog(*command, "--bootstrap", address, stdin=b"x\n")
    assert done.status == 3, done.err
    assert f"no broker answered within 5000 ms: the connection to {address}" in done.err
    assert "Traceback" not in done.err


@pytest.mark.timeout(120)
def test_the_same_commands_against_a_real_kafka(kafka: KafkaServer, topic_name: str) -> None:
    where = ("--bootstrap", kafka.bootstrap)
    made = fastlog("topics", "create", topic_name, "--partitions", "2", *where)
    assert made.status == 0, made.err
    sent = fastlog(
        "produce", topic_name, "--key-separator", ":", "--compression", "lz4", *where, stdin=b"a:1\nb:2\n"
    )
    assert sent.status == 0, sent.err
    got = fastlog("consume", topic_name, "--from-beginning", "--exit-at-end", *where)
    assert sorted(got.out.splitlines()) == [b"1", b"2"]
    described = fastlog("topics", "describe", topic_name, *where)
    assert described.status == 0, described.err
