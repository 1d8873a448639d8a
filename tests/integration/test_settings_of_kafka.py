"""The table of settings beside Kafka's own definitions: every one is known, and what differs is said."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fastlog.config import BROKER_KEYS, GROUP_KEYS, TOPIC_KEYS, Config, Entry, Setting, known
from tests.integration.kafka import tool

SOURCE = Path(__file__).parent / "kafka" / "Settings.java"
KINDS = ["broker", "topic", "group"]
# from zookeeper.connect on, keys of Kafka as it was before it dropped ZooKeeper
OURS = ("fastlog.", "zookeeper.")
# Kafka defines these apart from the others, since they cannot stand in a file (DynamicConfig)
QUOTAS = (
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
)
Row = dict[str, Any]


@cache
def kafkas(kind: str) -> dict[str, Row]:
    """Kafka's definitions by name; its classes are asked once."""
    rows = [json.loads(line) for line in _defined().splitlines()]
    return {row["name"]: row for row in rows if row["resource"] == kind}


@cache
def _defined() -> str:
    return tool(str(SOURCE))


def entry(kind: str, name: str) -> Entry:
    """What a broker without any settings of its own says of one."""
    config = Config()
    if kind == "broker":
        return config.broker_entry(name)
    return config.topic_entry(name, {}) if kind == "topic" else config.group_entry(name, {})


def both(kind: str) -> list[tuple[Row, Setting]]:
    return [(row, known(kind)[name]) for name, row in kafkas(kind).items() if name in known(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_kafka_is_known(kind: str) -> None:
    assert len(kafkas(kind)) > 15
    assert sorted(kafkas(kind).keys() - known(kind).keys()) == []


def test_what_kafka_does_not_know_is_ours_or_says_so() -> None:
    kept = {"broker": BROKER_KEYS, "topic": TOPIC_KEYS, "group": GROUP_KEYS}
    for kind, keys in kept.items():
        for name in keys.keys() - kafkas(kind).keys():
            assert name.startswith(OURS) or name in QUOTAS or keys[name].differs, f"{kind} setting {name}"


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_those_of_kafka(kind: str) -> None:
    wrong = [
        (row["name"], row["type"], ours.type)
        for row, ours in both(kind)
        if ours.type != row["type"] and not ours.differs
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_those_of_kafka(kind: str) -> None:
    wrong = []
    for row, ours in both(kind):
        value = entry(kind, row["name"]).value
        theirs = row["default"]
        if value is not None and theirs is not None:
            value, theirs = (ours.parse(row["name"], it) for it in (value, theirs))
        if value != theirs and not ours.differs:
            wrong.append((row["name"], theirs, value))
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_taken_that_kafka_refuses(kind: str) -> None:
    wrong = []
    for row, ours in both(kind):
        low, high = _range(row["accepts"] or "")
        if ours.differs or ours.status == "refused":
            # the former says what, the latter takes but one value
            continue
        if (ours.minimum is None and low is not None) or (low is not None and ours.minimum < low):
            wrong.append((row["name"], row["accepts"], ours.minimum))
        if high is not None and (ours.maximum is None or ours.maximum > high):
            wrong.append((row["name"], row["accepts"], ours.maximum))
        if _words(row["accepts"] or "") and not set(ours.values) <= _words(row["accepts"]):
            wrong.append((row["name"], row["accepts"], ours.values))
    assert wrong == []


def _range(accepts: str) -> tuple[float | None, float | None]:
    """The bounds in a text such as [1,...,9]."""
    if not accepts.startswith("[") or ",..." not in accepts or ":" in accepts:
        return None, None
    bounds, _, also = accepts[1:].partition("]")
    low, _, high = bounds.partition(",...")
    least = float(also.removeprefix(" or ")) if also else float(low)
    return least, float(high[1:]) if high else None


def _words(accepts: str) -> set[str]:
    """The words in a text such as [delete, compact]."""
    listed = accepts.removeprefix("(case insensitive) ")
    if not listed.startswith("[") or "..." in listed or ":" in listed:
        return set()
    return set(listed[1:-1].split(", "))


def test_how_brokers_settings_are_changed_is_as_in_kafka() -> None:
    wrong = [
        (row["name"], row["mode"], ours.update)
        for row, ours in both("broker")
        if ours.update != row["mode"] and not ours.differs
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", ["topic", "group"])
def test_the_brokers_settings_behind_others_are_those_of_kafka(kind: str) -> None:
    for row, ours in both(kind):
        behind = [] if ours.only else [ours.name]
        behind += [it.name for it in BROKER_KEYS.values() if behind and it.converts_to == ours.name]
        # Kafka lists none where the key is the same
        assert row["synonyms"] in (behind, []), row["name"]
        assert row["synonyms"] or ours.only or ours.name == row["name"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_honoured_says_why_and_is_described(kind: str) -> None:
    for name, ours in known(kind).items():
        assert ours.doc
        assert ours.is_honoured or ours.why, name
        assert ours.is_honoured or ours.status in ("no-meaning", "refused"), name
        assert ours.status != "refused" or ours.default is None or ours.accept(name, ours.default) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_internal_settings_are_those_of_kafka(kind: str) -> None:
    wrong = [row["name"] for row, ours in both(kind) if ours.internal != row["is_internal"]]
    assert wrong == []
