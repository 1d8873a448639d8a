"""Which settings of tiered storage go together."""

from __future__ import annotations

import pytest

from fastlog.config import load
from fastlog.config.tiers import check_topic
from fastlog.errors import ConfigError

ON = {"remote.log.storage.system.enable": "true", "fastlog.remote.store.url": "/archive"}
TIERED = {"remote.storage.enable": "true"}


def checked(topic: dict[str, str], broker: dict[str, str] = ON, *, was_tiered: bool = False) -> None:
    config = load(options=broker)
    check_topic(config.broker(), config.topic(topic), was_tiered=was_tiered)


def test_a_broker_needs_a_store() -> None:
    with pytest.raises(ConfigError, match=r"it needs fastlog\.remote\.store\.url"):
        load(options={"remote.log.storage.system.enable": "true"})
    load(options={"remote.log.storage.system.enable": "false"})


@pytest.mark.parametrize("url", ["store", "./store", "gs://bucket/x", "file://store", "s3:bucket"])
def test_a_store_of_no_known_kind_is_refused_by_name_before_anything_is_opened(url: str) -> None:
    with pytest.raises(ConfigError, match=rf"fastlog\.remote\.store\.url={url}: it takes s3://"):
        load(options={**ON, "fastlog.remote.store.url": url})
    # where tiers are off nobody minds
    load(options={"fastlog.remote.store.url": url})


@pytest.mark.parametrize("url", ["/archive", "file:///archive", "s3://bucket/prefix"])
def test_a_store_of_a_known_kind_is_taken(url: str) -> None:
    load(options={**ON, "fastlog.remote.store.url": url})


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ({"cleanup.policy": "compact"}, "cleanup.policy=compact"),
        ({"cleanup.policy": "compact,delete"}, "cleanup.policy=compact"),
        ({"retention.ms": "10", "local.retention.ms": "11"}, "not be more than retention.ms=10"),
        ({"retention.ms": "10", "local.retention.ms": "-1"}, "not be more than retention.ms=10"),
        ({"retention.bytes": "10", "local.retention.bytes": "11"}, "not be more than retention.bytes=10"),
    ],
)
def test_what_a_tiered_topic_cannot_be(topic: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        checked({**TIERED, **topic})
    # where it is not tiered nobody minds
    checked(topic)


def test_what_a_tiered_topic_can_be() -> None:
    checked({**TIERED, "retention.ms": "10", "local.retention.ms": "10"})
    checked({**TIERED, "retention.ms": "10", "local.retention.ms": "-2"})
    checked({**TIERED, "retention.ms": "-1", "local.retention.ms": "-1"})
    checked({**TIERED, "retention.bytes": "-1", "local.retention.bytes": "5"})


def test_in_a_cluster_it_is_not_taken_away() -> None:
    cluster = {**ON, "zookeeper.connect": "127.0.0.1:2181/x"}
    checked(TIERED, cluster)
    with pytest.raises(ConfigError, match=r"not in a cluster yet.*remote\.log\.copy\.disable"):
        checked({"remote.log.delete.on.disable": "true"}, cluster, was_tiered=True)


def test_a_topic_is_tiered_only_where_there_is_a_store() -> None:
    with pytest.raises(ConfigError, match="tiered storage is off on this broker"):
        checked(TIERED, {})


def test_it_is_taken_away_only_with_what_was_uploaded() -> None:
    with pytest.raises(ConfigError, match=r"remote\.log\.delete\.on\.disable=true"):
        checked({}, was_tiered=True)
    checked({"remote.log.delete.on.disable": "true"}, was_tiered=True)
    checked({**TIERED, "remote.log.copy.disable": "true"}, was_tiered=True)
