"""Settings: loading, checking, layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastlog.config import (
    BROKER_KEYS,
    SETTINGS,
    TOPIC_KEYS,
    Config,
    Endpoint,
    Origin,
    check,
    load,
    parse_listeners,
    unusable,
)
from fastlog.config.zookeeper import ZooKeeperAddress, parse_zookeeper
from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from fastlog.config import Given

HOUR_MS = 3_600_000


def test_the_defaults_are_valid() -> None:
    config = load()
    assert config.broker().node_id == 1
    assert config.topic({}).segment_bytes == 1 << 30
    assert config.topic({}).retention_ms == 168 * HOUR_MS
    for setting in SETTINGS:
        if setting.default is not None:
            setting.parse(setting.name, setting.default)


def test_the_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('"node.id" = 2\nlog.segment.bytes = 2097152\nnum.partitions = 4\n')
    config = load(file=file, assignments=["num.partitions=5", "node.id=3"], options={"node.id": "4"})
    assert config.broker().node_id == 4
    assert config.broker().num_partitions == 5
    assert config.topic({}).segment_bytes == 2097152


def test_a_file_may_nest_quote_and_list(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(
        'listeners = ["PLAINTEXT://0.0.0.0:9092", "ZMQ://127.0.0.1:0"]\n'
        'auto.create.topics.enable = false\n"max.connections" = 5\n"max.connections.per.ip" = 3\n'
        "[log.retention]\nhours = 1\n"
    )
    config = load(file=file)
    assert config.broker().listeners == ("PLAINTEXT://0.0.0.0:9092", "ZMQ://127.0.0.1:0")
    assert config.broker().auto_create_topics_enable is False
    assert config.broker().max_connections_per_ip == 3
    assert config.topic({}).retention_ms == HOUR_MS


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        (
            "log.segment.byte=1",
            "unknown broker setting log.segment.byte; the nearest known one is log.segment.bytes",
        ),
        (
            "log.segment.bytes=100",
            "log.segment.bytes=100: out of range, it takes 1048576 to 2147483647 of bytes",
        ),
        ("log.segment.bytes=many", "not a whole number of bytes"),
        ("auto.create.topics.enable=yes", "it takes true or false"),
        ("log.cleanup.policy=delete,shred", "log.cleanup.policy=shred: it takes delete, compact"),
        ("fastlog.durability=raid", "it takes os, fsync"),
        ("listeners=PLAINTEXT//x", "it takes SCHEME://HOST:PORT"),
        ("listeners=HTTP://x:1", "unknown scheme HTTP"),
        ("listeners=PLAINTEXT://x:99999", "is no port"),
        ("listeners=PLAINTEXT://a b:1", "'a b' is no name of a host"),
        ("listeners=PLAINTEXT://a..b:1", "is no name of a host"),
        ("listeners=PLAINTEXT://a/b:1", "is no name of a host"),
        ("listeners=PLAINTEXT://user@host:1", "is no name of a host"),
        ("listeners=PLAINTEXT://-a:1", "is no name of a host"),
        (f"listeners=PLAINTEXT://{'x' * 64}:1", "is no name of a host"),
        (f"listeners=PLAINTEXT://{'x.' * 200}x:1", "is no name of a host"),
        ("listeners=PLAINTEXT://127.0.0.256:1", "'127.0.0.256' is no IPv4 address"),
        ("listeners=PLAINTEXT://[host]:1", "'host' is no IPv6 address"),
        ("listeners=PLAINTEXT://[::g]:1", "'::g' is no IPv6 address"),
        ("listeners=ZMQ://x:1", "none is for Kafka clients"),
        ("listeners=PLAINTEXT://x:1,PLAINTEXT://x:2", "stands twice"),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:9092", "clients cannot connect to it"),
        ("listeners=PLAINTEXT://x:1,BROKER://x:2", "BROKER://x:2 is for the brokers of a cluster"),
        ("zookeeper.connect=", "nothing is no server"),
        ("zookeeper.connect=z", "z is no server; it takes HOST:PORT"),
        ("zookeeper.connect=z:0", "z:0 is no server"),
        ("zookeeper.connect=z:1,", "nothing is no server"),
        ("zookeeper.connect=z:1/a//b", "a path is made of names"),
        ("zookeeper.connect=z:1/", "a path is made of names"),
        ("zookeeper.session.timeout.ms=1999", "takes 2000 to"),
        ("replica.fetch.wait.max.ms=30000", "less than replica.lag.time.max.ms=30000"),
        ("group.consumer.session.timeout.ms=10000", "at least group.consumer.min.session.timeout.ms=45000"),
        (
            "group.consumer.heartbeat.interval.ms=15001",
            "at most group.consumer.max.heartbeat.interval.ms=15000",
        ),
        ("log.dirs=,", "with a comma between"),
        ("nonsense", "it takes KEY=VALUE"),
        ("authorizer.class.name=x.Y", "authorizer.class.name=x.Y: who may do what is not checked yet"),
        ("security.inter.broker.protocol=SSL", "it takes only PLAINTEXT"),
        ("log.dir=/tmp/x", "log.dirs names the data directories here"),
        (
            "ssl.keystore.password=hunter2",
            "ssl.keystore.password=(hidden): there is no TLS yet; leave it out",
        ),
        ("num.io.threads=many", "not a whole number"),
        ("compression.gzip.level=0", "it takes -1 to 9 but 0"),
        ("log.cleaner.threads=2", "log.cleaner.threads=2: it takes only 1"),
        ("share.isolation.level=read_committed", "unknown broker setting"),
    ],
)
def test_what_is_wrong_is_named(assignment: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(assignments=[assignment])
    assert says in str(caught.value)


def test_what_has_no_meaning_is_taken() -> None:
    config = load(assignments=["controller.quorum.voters=1@h:1", "num.io.threads=16"])
    assert config.broker_entry("num.io.threads").value == "16"
    assert not config.broker_entry("num.io.threads").setting.is_honoured


def test_words_may_be_taken_in_any_case() -> None:
    key = "sasl.oauthbearer.assertion.algorithm"
    assert BROKER_KEYS[key].parse(key, "es256") == "es256"
    with pytest.raises(ConfigError, match="it takes ES256, RS256"):
        check("broker", key, "md5")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load(file=tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(ConfigError, match=r"bad\.toml is not TOML"):
        load(file=tmp_path / "bad.toml")


def test_an_unknown_topic_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown topic setting retention\.m; .*retention\.ms"):
        check("topic", "retention.m", "1")


def test_a_topic_value_comes_from_the_narrowest_layer() -> None:
    config = Config(
        static={"log.retention.hours": "2"},
        dynamic_default={"log.retention.ms": "7000"},
        dynamic_broker={"log.retention.ms": "8000"},
    )
    entry = config.topic_entry("retention.ms", {"retention.ms": "9000"})
    assert (entry.value, entry.origin) == ("9000", Origin.TOPIC)
    assert [(c.name, c.value, c.origin) for c in entry.candidates] == [
        ("retention.ms", "9000", Origin.TOPIC),
        ("log.retention.ms", "8000", Origin.DYNAMIC_BROKER),
        ("log.retention.ms", "7000", Origin.DYNAMIC_DEFAULT),
        ("log.retention.hours", "2", Origin.STATIC),
        ("log.retention.hours", "168", Origin.DEFAULT),
    ]
    assert config.topic({}).retention_ms == 8000


@pytest.mark.parametrize(
    "value",
    ["-5", "0", "", "two", str(10**20), "9" * 5_000, "\u00b2"],
    ids=["-5", "0", "none", "two", "1e20", "9s", "2"],
)
def test_a_stored_value_that_cannot_be_is_not_in_force(value: str) -> None:
    config = Config(static={"min.insync.replicas": "2"}, dynamic_default={"min.insync.replicas": value})
    own = {"min.insync.replicas": value}
    assert config.topic(own).min_insync_replicas == 2
    assert config.topic_value("min.insync.replicas", own) == 2
    entry = config.topic_entry("min.insync.replicas", own)
    assert (entry.value, entry.origin) == ("2", Origin.STATIC)
    assert Config().topic(own).min_insync_replicas == 1
    # the others of the same topic hold
    assert config.topic({**own, "retention.ms": "7"}).retention_ms == 7


def test_what_is_read_at_the_start_only_is_not_taken_from_what_is_stored() -> None:
    stored = {"node.id": "7", "no.such": "1", "log.retention.ms": "5"}
    config = Config(static={"node.id": "3"}, dynamic_default=stored, dynamic_broker=stored)
    assert config.broker().node_id == 3
    assert config.topic({}).retention_ms == 5


@pytest.mark.parametrize("layer", ["topic", "broker"])
@pytest.mark.parametrize(("key", "value"), [("retention.ms", "forever"), ("cleanup.policy", "compct")])
def test_a_stored_value_that_cannot_be_is_no_reason_to_delete_records(
    key: str, value: str, layer: str
) -> None:
    is_topic = layer == "topic"
    config = Config(
        static={"log.retention.ms": "5", "log.cleanup.policy": "delete"},
        dynamic_default={} if is_topic else {f"log.{key}": value},
    )
    settings = config.topic({key: value} if is_topic else {})
    assert settings.retention_ms == -1 or settings.cleanup_policy == ()


def test_topics_that_set_the_same_share_their_settings() -> None:
    config = Config(static={"log.retention.ms": "5"})
    assert config.topic({}) is config.topic({})
    compacted = config.topic({"cleanup.policy": "compact", "segment.ms": "7"})
    assert config.topic({"segment.ms": "7", "cleanup.policy": "compact"}) is compacted
    assert (compacted.cleanup_policy, compacted.segment_ms, compacted.retention_ms) == (("compact",), 7, 5)
    changed = Config(static=config.static, dynamic_default={"log.retention.ms": "6"})
    assert changed.topic({}).retention_ms == 6
    for number in range(1000):
        assert config.topic({"segment.ms": str(number + 1)}).segment_ms == number + 1


def test_what_is_stored_and_not_in_force_is_named_with_its_reason() -> None:
    assert unusable("topic", {"retention.ms": "7"}) == []
    wrong = unusable("topic", {"retention.ms": "7", "min.insync.replicas": "-5", "no.such": "1"})
    assert [(it.key, it.value) for it in wrong] == [("min.insync.replicas", "-5"), ("no.such", "1")]
    assert "out of range" in wrong[0].reason
    (fixed,) = unusable("broker", {"node.id": "7", "log.retention.ms": "5"})
    assert (fixed.key, "when the broker starts" in fixed.reason) == ("node.id", True)


@pytest.mark.parametrize(
    ("static", "expected"),
    [
        ({}, 168 * HOUR_MS),
        ({"log.retention.hours": "2"}, 2 * HOUR_MS),
        ({"log.retention.hours": "2", "log.retention.minutes": "3"}, 180_000),
        ({"log.retention.hours": "2", "log.retention.ms": "5"}, 5),
        ({"log.retention.hours": "-1"}, -1),
    ],
)
def test_coarser_units_give_way_to_finer_ones(static: dict[str, str], expected: int) -> None:
    assert Config(static=static).topic({}).retention_ms == expected


@pytest.mark.parametrize(
    ("text", "hosts", "root"),
    [
        ("z:1", "z:1", "/fastlog"),
        ("z1:1, z2:2,[::1]:3", "z1:1,z2:2,[::1]:3", "/fastlog"),
        ("z:1/here", "z:1", "/here"),
        ("z:1,y:2/here/and.there/", "z:1,y:2", "/here/and.there"),
    ],
)
def test_a_zookeeper_is_servers_and_a_path(text: str, hosts: str, root: str) -> None:
    assert parse_zookeeper(text) == ZooKeeperAddress(hosts, root)


def test_a_broker_of_a_cluster_has_listeners_for_others() -> None:
    endpoints = parse_listeners(["PLAINTEXT://h:1", "METADATA://m:2"], in_cluster=True)
    assert [str(it) for it in endpoints] == ["PLAINTEXT://h:1", "METADATA://m:2", "BROKER://h:0"]


def test_listeners_are_addresses() -> None:
    endpoints = parse_listeners(["plaintext://[::1]:9092", "ZMQ://:0"])
    assert endpoints == (Endpoint("PLAINTEXT", "::1", 9092), Endpoint("ZMQ", "", 0))
    assert str(endpoints[0]) == "PLAINTEXT://[::1]:9092"


@pytest.mark.parametrize(
    "host",
    ["localhost", "a.b-c.d", "my_host", "b\u00fccher.example", "host.", "1a", "10.0.0.1", "0.0.0.0"],  # noqa: S104
)
def test_hosts_have_names_and_addresses(host: str) -> None:
    assert parse_listeners([f"PLAINTEXT://{host}:9092"]) == (Endpoint("PLAINTEXT", host, 9092),)


def test_settings_of_a_program_are_values_of_python() -> None:
    given: dict[str, Given] = {
        "log.dirs": ["/data"],
        "listeners": ("PLAINTEXT://:1", "ZMQ://:2"),
        "num.partitions": 3,
        "auto.create.topics.enable": False,
        "log.retention.bytes": None,
    }
    config = load(settings=given, assignments=["num.partitions=4"])
    assert config.broker().log_dirs == ("/data",)
    assert config.broker().listeners == ("PLAINTEXT://:1", "ZMQ://:2")
    assert (config.broker().num_partitions, config.broker().auto_create_topics_enable) == (4, False)
    assert config.broker_entry("log.retention.bytes").origin == Origin.DEFAULT


def test_a_key_of_topics_alone_is_none_of_brokers() -> None:
    key = "leader.replication.throttled.replicas"
    assert key not in BROKER_KEYS
    assert Config().topic({}).leader_replication_throttled_replicas == ()
    assert Config().topic({key: "0:1, 2:3"}).leader_replication_throttled_replicas == ("0:1", "2:3")
    assert Config().topic_entry(key, {key: "*"}).origin == Origin.TOPIC


@pytest.mark.parametrize("value", ["0", "0:x", "all", "0:1;0:2", "*:1"])
def test_what_lists_no_replicas_is_refused(value: str) -> None:
    key = "follower.replication.throttled.replicas"
    with pytest.raises(ConfigError, match=r"it takes what matches"):
        TOPIC_KEYS[key].parse(key, value)
