"""fastlog and Apache Kafka asked the same: DescribeConfigs, IncrementalAlterConfigs, AlterConfigs."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.config import BROKER_KEYS, TOPIC_KEYS
from fastlog.protocol.messages import alter_configs, incremental_alter_configs
from fastlog.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from fastlog.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from fastlog.protocol.messages.list_config_resources import ListConfigResourcesRequest
from tests.support.pair import Pair

TOPIC, BROKER, LOGGER, GROUP = 2, 4, 8, 32
LEVELS = ["FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
# Kafka's number for where a default comes from
DEFAULT = 5
SET, DELETE, APPEND, SUBTRACT = range(4)
KEYS = ["retention.ms", "cleanup.policy", "segment.bytes", "message.timestamp.type", "max.message.bytes"]
# those whose origin is another are in the table of differences
KAFKAS_KEYS = {key for key in TOPIC_KEYS if not key.startswith("fastlog.")} - {"min.insync.replicas"}


def describe(
    name: str, keys: list[str] | None, *, kind: int = TOPIC, synonyms: bool = True
) -> DescribeConfigsRequest:
    return DescribeConfigsRequest([DescribeConfigsResource(kind, name, keys)], synonyms, False)


def alter(
    name: str, *changes: tuple[str, int, str | None], kind: int = TOPIC, validate_only: bool = False
) -> Any:
    configs = [incremental_alter_configs.AlterableConfig(*change) for change in changes]
    resource = incremental_alter_configs.AlterConfigsResource(kind, name, configs)
    return incremental_alter_configs.IncrementalAlterConfigsRequest([resource], validate_only)


def replace(
    name: str, values: dict[str, str | None], *, kind: int = TOPIC, validate_only: bool = False
) -> Any:
    configs = [alter_configs.AlterableConfig(*item) for item in values.items()]
    resource = alter_configs.AlterConfigsResource(kind, name, configs)
    return alter_configs.AlterConfigsRequest([resource], validate_only)


@pytest.mark.parametrize("version", range(1, 5))
def test_some_settings_of_a_topic(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name, configs={"retention.ms": "1000", "cleanup.policy": "compact"})
    for synonyms in (False, True):
        pair.same(describe(topic_name, KEYS[1:] if synonyms else KEYS, synonyms=synonyms), version)
        pair.same(describe(topic_name, ["no.such.setting"], synonyms=synonyms), version)


@pytest.mark.parametrize("version", [1, 4])
@pytest.mark.parametrize("keys", [None, []], ids=["null", "empty"])
def test_all_settings_of_a_topic(pair: Pair, topic_name: str, keys: list[str] | None, version: int) -> None:
    pair.topic(topic_name)
    wanted = describe(topic_name, keys, synonyms=False)
    answers = pair.both(wanted, version)
    for answer in answers:
        rows = answer.results[0].configs
        assert len(rows) >= len(KAFKAS_KEYS)
        answer.results[0].configs = [row for row in rows if row.name in KAFKAS_KEYS]
    pair.check(wanted, version, answers)


def test_all_settings_of_a_broker(pair: Pair) -> None:
    kafka, ours = (
        {row.name: row for row in answer.results[0].configs}
        for answer in pair.both(describe("1", None, kind=BROKER), 4)
    )
    assert len(kafka) > 250
    assert sorted(kafka.keys() - ours.keys()) == []
    for name, row in kafka.items():
        it, setting = ours[name], BROKER_KEYS[name]
        if setting.differs:
            continue
        facts = [(each.config_type, each.is_sensitive, each.read_only) for each in (row, it)]
        assert facts[0] == facts[1], name
        # what either was started with is its own
        if DEFAULT == row.config_source == it.config_source:
            values = [each.value and setting.parse(name, each.value) for each in (row, it)]
            assert values[0] == values[1], name


def test_all_settings_of_a_group(pair: Pair) -> None:
    answers = pair.both(describe("some-group", None, kind=GROUP), 4)
    for answer in answers:
        for row in answer.results[0].configs:
            # Kafka lists the default twice, as the group's and as the broker's
            row.synonyms = []
    pair.check("settings of a group", 4, answers)


@pytest.mark.parametrize(
    "changes",
    [
        [("consumer.session.timeout.ms", "50000")],
        [("consumer.session.timeout.ms", "44999")],
        [("consumer.session.timeout.ms", "60001")],
        [("consumer.heartbeat.interval.ms", "5000")],
        [("consumer.heartbeat.interval.ms", "4999")],
        [("consumer.heartbeat.interval.ms", "15001")],
        [("consumer.heartbeat.interval.ms", "often")],
        [("consumer.session.timeout.ms", "60000"), ("consumer.heartbeat.interval.ms", "15000")],
    ],
    ids=str,
)
def test_times_of_a_group_have_bounds(pair: Pair, topic_name: str, changes: list[tuple[str, str]]) -> None:
    edits = [(key, SET, value) for key, value in changes]
    pair.same(alter(topic_name, *edits, kind=GROUP), 1)
    keys = ["consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"]
    pair.same(describe(topic_name, keys, kind=GROUP, synonyms=False), 4)


def test_settings_of_a_group_are_changed(pair: Pair) -> None:
    for changes in (
        [("share.isolation.level", SET, "read_committed")],
        [("share.isolation.level", SET, "sometimes")],
        [("retention.ms", SET, "1")],
        [("share.delivery.count.limit", SET, "x")],
        [("share.isolation.level", APPEND, "x")],
    ):
        pair.same(alter("changed-group", *changes, kind=GROUP), 1)
        pair.soon_same(describe("changed-group", ["share.isolation.level"], kind=GROUP, synonyms=False), 4)
    pair.same(ListConfigResourcesRequest([GROUP]), 1)
    pair.same(alter("changed-group", ("share.isolation.level", DELETE, None), kind=GROUP), 1)


@pytest.mark.parametrize("kinds", [[BROKER], [LOGGER], [16], [99]], ids=str)
def test_resources_that_have_settings(pair: Pair, kinds: list[int]) -> None:
    pair.same(ListConfigResourcesRequest(kinds), 1)
    pair.same(ListConfigResourcesRequest(), 0)


@pytest.mark.parametrize("name", ["1", "", "7", "x"])
def test_levels_of_loggers(pair: Pair, name: str) -> None:
    for changes in (
        [("root", SET, "INFO")],
        [("root", SET, "LOUD")],
        [("no.such.logger", SET, "INFO")],
        [("root", DELETE, None)],
        [("root", APPEND, "INFO")],
    ):
        pair.same(alter(name, *changes, kind=LOGGER, validate_only=True), 1)
    answers = pair.both(describe(name, ["root"], kind=LOGGER), 4)
    for answer in answers:
        for row in answer.results[0].configs:
            # either is as loud as it was started
            row.value = row.value in LEVELS
    pair.check("levels of loggers", 4, answers)


@pytest.mark.parametrize("version", range(1, 5))
def test_what_has_no_settings(pair: Pair, version: int) -> None:
    for name in ("no-such-topic", "../x", ""):
        pair.same(describe(name, None), version)
    for name in ("7", "x"):
        pair.same(describe(name, KEYS, kind=BROKER), version)
    pair.same(DescribeConfigsRequest([]), version)


def test_resources_of_no_known_type(pair: Pair) -> None:
    for kind in (0, 1, 3, 5, 100):
        pair.same(describe("x", None, kind=kind), 4)


@pytest.mark.parametrize("key", sorted(TOPIC_KEYS))
def test_the_default_of(pair: Pair, topic_name: str, key: str) -> None:
    pair.topic(topic_name)
    pair.same(describe(topic_name, [key]), 4, but=f"configs/default of {key}")


@pytest.mark.parametrize("version", range(5, 8))
def test_settings_in_the_answer_to_create_topics(pair: Pair, topic_name: str, version: int) -> None:
    wanted = CreatableTopic(topic_name, 1, 1, [], [CreatableTopicConfig("retention.ms", "1000")])
    answers = pair.both(CreateTopicsRequest([wanted]), version)
    for answer in answers:
        rows = answer.topics[0].configs
        answer.topics[0].configs = [row for row in rows if row.name in KEYS]
    pair.check("settings in the answer to CreateTopics", version, answers)


CHANGES: dict[str, list[tuple[str, int, str | None]]] = {
    "set": [("retention.ms", SET, "5000")],
    "set two": [("retention.ms", SET, "5000"), ("segment.bytes", SET, "2000000")],
    "delete what is set": [("retention.bytes", DELETE, None)],
    "delete what is not set": [("segment.ms", DELETE, None)],
    "delete with a value": [("retention.bytes", DELETE, "7")],
    "append to a list": [("cleanup.policy", APPEND, "compact")],
    "append what is there": [("cleanup.policy", APPEND, "delete")],
    "subtract from a list": [("cleanup.policy", SUBTRACT, "delete")],
    "subtract what is not there": [("cleanup.policy", SUBTRACT, "compact")],
    "append to a number": [("retention.ms", APPEND, "5")],
    "subtract from a number": [("retention.ms", SUBTRACT, "5")],
    "no value": [("retention.ms", SET, None)],
    "append no value": [("cleanup.policy", APPEND, None)],
    "the same key twice": [("retention.ms", SET, "1"), ("retention.ms", SET, "2")],
    "unknown operation": [("retention.ms", 9, "1")],
    "unknown key": [("no.such.setting", SET, "1")],
    "delete an unknown key": [("no.such.setting", DELETE, None)],
    "value that is no number": [("retention.ms", SET, "soon")],
    "value out of range": [("segment.bytes", SET, "1")],
    "blanks around a number": [("retention.ms", SET, " 77 ")],
    "empty value": [("retention.ms", SET, "")],
    "one right and one wrong": [("retention.ms", SET, "5000"), ("segment.ms", SET, "x")],
    "nothing": [],
}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("case", CHANGES)
def test_incremental_change(pair: Pair, topic_name: str, case: str, validate_only: bool) -> None:
    pair.topic(topic_name, configs={"retention.bytes": "123456"})
    pair.same(alter(topic_name, *CHANGES[case], validate_only=validate_only), 1, but=f"configs/{case}")
    pair.soon_same(describe(topic_name, [*KEYS, "retention.bytes", "segment.ms"], synonyms=False), 4)


REPLACEMENTS: dict[str, dict[str, str | None]] = {
    "one": {"retention.ms": "5000"},
    "nothing": {},
    "no value": {"retention.ms": None},
    "unknown key": {"no.such.setting": "1"},
    "value that is no number": {"retention.ms": "soon"},
    "one right and one wrong": {"retention.ms": "5000", "segment.ms": "x"},
}


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("case", REPLACEMENTS)
def test_all_settings_are_replaced_by(pair: Pair, topic_name: str, case: str, validate_only: bool) -> None:
    pair.topic(topic_name, configs={"retention.bytes": "123456"})
    for version in range(3):
        pair.same(replace(topic_name, REPLACEMENTS[case], validate_only=validate_only), version)
        pair.soon_same(describe(topic_name, [*KEYS, "retention.bytes", "segment.ms"], synonyms=False), 4)


@pytest.mark.parametrize("version", [0, 1])
def test_settings_of_what_is_not_there(pair: Pair, version: int) -> None:
    for name in ("no-such-topic", "../x", ""):
        pair.same(alter(name, ("retention.ms", SET, "1")), version)
        pair.same(replace(name, {"retention.ms": "1"}), version)
    for kind in (0, 1, 3, 5, 100):
        pair.same(alter("x", ("retention.ms", SET, "1"), kind=kind), version)
        pair.same(replace("x", {"retention.ms": "1"}, kind=kind), version)


@pytest.mark.parametrize("name", ["1", "", "7", "x"])
def test_settings_of_brokers(pair: Pair, name: str) -> None:
    for changes in (
        [("log.retention.ms", SET, "123456789")],
        [("log.retention.ms", DELETE, None)],
        [("no.such.setting", SET, "1")],
        [("log.retention.ms", SET, "soon")],
        [("node.id", SET, "7")],
    ):
        but = f"configs/broker {name!r}: {changes[0][0]} {changes[0][2]}"
        pair.same(alter(name, *changes, kind=BROKER, validate_only=True), 1, but=but)


def test_a_resource_twice_in_one_request(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    altered = alter(topic_name, ("retention.ms", SET, "1"))
    altered.resources *= 2
    pair.same(altered, 1)
    replaced = replace(topic_name, {"retention.ms": "1"})
    replaced.resources *= 2
    pair.same(replaced, 1, but="configs/a resource twice")
