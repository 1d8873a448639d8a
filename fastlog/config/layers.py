"""Which value of a setting is in force: topic, this broker, all brokers, file and command line, default."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from fastlog.config.setting import Setting
from fastlog.config.table import SETTINGS, BrokerSettings, TopicSettings
from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastlog.config.setting import Value

BROKER_KEYS: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS if setting.only is None}
TOPIC_KEYS: Mapping[str, Setting] = {
    setting.topic or setting.name: setting for setting in SETTINGS if setting.topic or setting.only == "topic"
}


#: what a stored value that cannot be stands for, where the default would delete records that it may be there to keep;
#: an empty policy neither deletes nor compacts
KEEPING: Mapping[str, str] = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": ""}


class Origin(IntEnum):
    """Where a value comes from; the numbers are Kafka's config sources."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT = 3
    STATIC = 4
    DEFAULT = 5


class Candidate(msgspec.Struct, frozen=True):
    """A value that a key has somewhere; the first of several is in force."""

    name: str
    value: str | None
    origin: Origin


class Entry(msgspec.Struct, frozen=True):
    """A key with the value in force and all that stand behind it."""

    key: str
    setting: Setting
    value: str | None
    origin: Origin
    candidates: tuple[Candidate, ...]


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of a message about the unknown `key`: the known one that is most like it, or nothing."""
    import difflib

    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; the nearest known one is {close[0]}" if close else ""


def check_broker(key: str, text: str) -> Value:
    """The value that `text` gives the broker's `key`; ConfigError for an unknown key or a value out of range."""
    setting = BROKER_KEYS.get(key)
    if setting is None:
        raise ConfigError(f"unknown broker setting {key}{nearest(key, BROKER_KEYS)}")
    return setting.parse(key, text)


def check_topic(key: str, text: str) -> Value:
    """The value that `text` gives the topic's `key`; ConfigError for an unknown key or a value out of range."""
    setting = TOPIC_KEYS.get(key)
    if setting is None:
        raise ConfigError(f"unknown topic setting {key}{nearest(key, TOPIC_KEYS)}")
    return setting.parse(key, text)


class Unusable(msgspec.Struct, frozen=True):
    """A stored setting that cannot be put in force."""

    key: str
    value: str
    reason: str


def unusable(kind: str, values: Mapping[str, str]) -> list[Unusable]:
    """What of the settings that are stored for a `topic` or a `broker` cannot be in force, sorted by key.

    They are checked before they are stored: by a version that may have had other bounds, or by nobody, where a hand
    wrote them.
    """
    found = []
    for key, value in sorted(values.items()):
        try:
            if kind == "topic":
                check_topic(key, value)
                continue
            check_broker(key, value)
        except ConfigError as error:
            found.append(Unusable(key, value, str(error)))
        else:
            if not BROKER_KEYS[key].dynamic:
                reason = f"{key} is read when the broker starts, from its file and options only"
                found.append(Unusable(key, value, reason))
    return found


def _in_force(setting: Setting, key: str, text: str) -> str | None:
    """What a stored value stands for; None where the next layer does."""
    try:
        setting.parse(key, text)
    except ConfigError:
        return KEEPING.get(setting.topic or "")
    return text


class Config(msgspec.Struct, frozen=True):
    """All that was set for one broker, by layer, as text.

    What is static was checked. What is stored, dynamic or of a topic, may be anything: where it cannot be, the next
    layer holds, or, where that would delete records, what deletes none (KEEPING).
    """

    static: Mapping[str, str] = msgspec.field(default_factory=dict)
    """From the file and the command line."""
    dynamic_default: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Changed at run time for all brokers."""
    dynamic_broker: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Changed at run time for this broker."""

    def broker_entry(self, name: str) -> Entry:
        """What stands for the broker's key `name`."""
        setting = BROKER_KEYS[name]
        candidates = tuple(self._layers(setting))
        first = candidates[0] if candidates else Candidate(name, None, Origin.DEFAULT)
        return Entry(name, setting, first.value, first.origin, candidates)

    def topic_entry(self, key: str, overrides: Mapping[str, str]) -> Entry:
        """What stands for the topic's `key` where the topic itself sets `overrides`."""
        setting = TOPIC_KEYS[key]
        candidates = tuple(self._topic_candidates(key, setting, overrides))
        if not candidates:
            value = setting.topic_default or setting.default
            return Entry(key, setting, value, Origin.DEFAULT, ())
        first = candidates[0]
        value = first.value
        if value is not None and BROKER_KEYS.get(first.name, setting).converts_to:
            value = BROKER_KEYS[first.name].converted(value)
        return Entry(key, setting, value, first.origin, candidates)

    def broker_entries(self) -> list[Entry]:
        """Every broker key, sorted."""
        return [self.broker_entry(name) for name in sorted(BROKER_KEYS)]

    def topic_entries(self, overrides: Mapping[str, str]) -> list[Entry]:
        """Every topic key, sorted."""
        return [self.topic_entry(key, overrides) for key in sorted(TOPIC_KEYS)]

    def broker(self) -> BrokerSettings:
        """The broker's values, typed."""
        return msgspec.convert(
            {
                name.replace(".", "_"): self._value(self.broker_entry(name))
                for name in BROKER_KEYS
                if name.replace(".", "_") in BrokerSettings.__struct_fields__
            },
            BrokerSettings,
        )

    def topic(self, overrides: Mapping[str, str]) -> TopicSettings:
        """The values of a topic that sets `overrides`, typed."""
        return msgspec.convert(
            {key.replace(".", "_"): self._value(self.topic_entry(key, overrides)) for key in TOPIC_KEYS},
            TopicSettings,
        )

    def topic_value(self, key: str, overrides: Mapping[str, str]) -> Value | None:
        """One of the values of `topic`, which has no coarser unit."""
        setting = TOPIC_KEYS[key]
        first = next(self._topic_candidates(key, setting, overrides), None)
        text = setting.topic_default if first is None else first.value
        return None if text is None else setting.parse(key, text)

    @staticmethod
    def _value(entry: Entry) -> Value | None:
        return None if entry.value is None else entry.setting.parse(entry.key, entry.value)

    def _topic_candidates(
        self, key: str, setting: Setting, overrides: Mapping[str, str]
    ) -> Iterator[Candidate]:
        if key in overrides and (value := _in_force(setting, key, overrides[key])) is not None:
            yield Candidate(key, value, Origin.TOPIC)
        if setting.only is not None:
            return
        yield from self._layers(setting)
        for other in SETTINGS:
            if other.converts_to == setting.name:
                yield from self._layers(other)

    def _layers(self, setting: Setting) -> Iterator[Candidate]:
        name = setting.name
        stored = (
            (self.dynamic_broker, Origin.DYNAMIC_BROKER),
            (self.dynamic_default, Origin.DYNAMIC_DEFAULT),
        )
        for values, origin in stored if setting.dynamic else ():
            if name in values and (value := _in_force(setting, name, values[name])) is not None:
                yield Candidate(name, value, origin)
        if name in self.static:
            yield Candidate(name, self.static[name], Origin.STATIC)
        if setting.default is not None:
            yield Candidate(setting.name, setting.default, Origin.DEFAULT)
