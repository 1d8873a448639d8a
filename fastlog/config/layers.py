"""Which value of a setting is in force: topic, this broker, all brokers, file and command line, default."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from fastlog.config.setting import Setting
from fastlog.config.table import SETTINGS, BrokerSettings, TopicSettings
from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastlog.config.setting import Value

BROKER_KEYS: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS if setting.only is None}
TOPIC_KEYS: Mapping[str, Setting] = {
    setting.topic or setting.name: setting for setting in SETTINGS if setting.topic or setting.only == "topic"
}
GROUP_KEYS: Mapping[str, Setting] = {
    setting.group or setting.name: setting for setting in SETTINGS if setting.group or setting.only == "group"
}


_BROKER_FIELDS = [it for it in BROKER_KEYS if it.replace(".", "_") in BrokerSettings.__struct_fields__]
_TOPIC_FIELDS = [it for it in TOPIC_KEYS if it.replace(".", "_") in TopicSettings.__struct_fields__]
_KEYS: Mapping[str, Mapping[str, Setting]] = {"broker": BROKER_KEYS, "topic": TOPIC_KEYS, "group": GROUP_KEYS}
# the coarser ways to give a setting, the finest first
_CONVERTERS: Mapping[str, tuple[Setting, ...]] = {
    fine.name: tuple(it for it in SETTINGS if it.converts_to == fine.name) for fine in SETTINGS
}
#: what a stored value that cannot be stands for, where the default would delete records that it may be there to keep;
#: an empty policy neither deletes nor compacts
KEEPING: Mapping[str, str] = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": ""}


#: different settings of topics whose typed values are kept: most topics of a broker set nothing, or the same
_TOPICS_KEPT_MAX = 256

# of groups of the consumer protocol; brokers have them with `group.` in front
SESSION_TIMEOUT, HEARTBEAT_INTERVAL = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"


class Origin(IntEnum):
    """Where a value comes from; the numbers are Kafka's config sources."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT = 3
    STATIC = 4
    DEFAULT = 5
    GROUP = 8


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


def known(kind: str) -> Mapping[str, Setting]:
    """Every key that a resource of the kind "broker", "topic" or "group" may set."""
    return _KEYS[kind]


def check(kind: str, key: str, text: str) -> Value:
    """The value that `text` gives the `key` of a broker, topic or group (`kind`).

    ConfigError for an unknown key, a value out of range, or one that is refused.
    """
    setting = _KEYS[kind].get(key)
    if setting is None:
        raise ConfigError(f"unknown {kind} setting {key}{nearest(key, _KEYS[kind])}")
    return setting.accept(key, text)


class Unusable(msgspec.Struct, frozen=True):
    """A stored setting that cannot be put in force."""

    key: str
    value: str
    reason: str


def unusable(kind: str, values: Mapping[str, str]) -> list[Unusable]:
    """What of the settings that are stored for a `topic`, `group` or `broker` cannot be in force, sorted by key.

    They are checked before they are stored: by a version that may have had other bounds, or by nobody, where a hand
    wrote them.
    """
    found = []
    for key, value in sorted(values.items()):
        try:
            check(kind, key, value)
        except ConfigError as error:
            found.append(Unusable(key, value, str(error)))
        else:
            if kind == "broker" and not BROKER_KEYS[key].is_dynamic:
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


class Config(msgspec.Struct, frozen=True, dict=True):
    """All that was set for one broker, by layer, as text.

    What is static was checked. What is stored, dynamic or of a topic, may be anything: where it cannot be, the next
    layer holds, or, where that would delete records, what deletes none (KEEPING). The layers are not changed once it is
    made, so that what follows from them is worked out once.
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
        return self._entry_over(TOPIC_KEYS[key], key, overrides, Origin.TOPIC)

    def group_entry(self, key: str, overrides: Mapping[str, str]) -> Entry:
        """What stands for the group's `key` where the group itself sets `overrides`."""
        return self._entry_over(GROUP_KEYS[key], key, overrides, Origin.GROUP)

    def _entry_over(self, setting: Setting, key: str, overrides: Mapping[str, str], origin: Origin) -> Entry:
        candidates = tuple(self._candidates_over(setting, key, overrides, origin))
        if not candidates:
            return Entry(key, setting, setting.topic_default or setting.default, Origin.DEFAULT, ())
        first = candidates[0]
        value = first.value
        if value is not None and BROKER_KEYS.get(first.name, setting).converts_to:
            value = BROKER_KEYS[first.name].converted(value)
        return Entry(key, setting, value, first.origin, candidates)

    def broker_entries(self) -> list[Entry]:
        """Every broker key, sorted."""
        entries = [self.broker_entry(name) for name in sorted(BROKER_KEYS)]
        return [it for it in entries if not it.setting.internal or it.origin != Origin.DEFAULT]

    def topic_entries(self, overrides: Mapping[str, str]) -> Sequence[Entry]:
        """Every topic key, sorted."""
        return self._topic_entries(overrides) if overrides else self._plain_topic_entries

    def _topic_entries(self, overrides: Mapping[str, str]) -> Sequence[Entry]:
        entries = [self.topic_entry(key, overrides) for key in sorted(TOPIC_KEYS)]
        return [it for it in entries if not it.setting.internal or it.origin != Origin.DEFAULT]

    @cached_property
    def _plain_topic_entries(self) -> Sequence[Entry]:
        return self._topic_entries({})

    def group_entries(self, overrides: Mapping[str, str]) -> list[Entry]:
        """Every group key, sorted."""
        return [self.group_entry(key, overrides) for key in sorted(GROUP_KEYS)]

    def group_times(self, overrides: Mapping[str, str]) -> tuple[int, int]:
        """Session time-out and heartbeat interval of members of a group that sets `overrides`, in milliseconds."""
        entries = (self.group_entry(key, overrides) for key in (SESSION_TIMEOUT, HEARTBEAT_INTERVAL))
        return msgspec.convert(tuple(self._value(entry) for entry in entries), tuple[int, int])

    def check_group_times(self, overrides: Mapping[str, str]) -> None:
        """Raises ConfigError where what a group sets, or with no `overrides` what the broker does, is out of bounds."""
        times = self.group_times(overrides)
        for key, value in zip((SESSION_TIMEOUT, HEARTBEAT_INTERVAL), times, strict=True):
            name = key if key in overrides else f"group.{key}"
            for bound, is_within in (("min", int.__ge__), ("max", int.__le__)):
                setting = f"group.consumer.{bound}.{key.removeprefix('consumer.')}"
                limit = msgspec.convert(self._value(self.broker_entry(setting)), int)
                if not is_within(value, limit):
                    most = "at least" if bound == "min" else "at most"
                    raise ConfigError(f"{name}={value}: it must be {most} {setting}={limit}")
        if times[0] <= times[1]:
            raise ConfigError(
                f"{SESSION_TIMEOUT}={times[0]}: it must be more than {HEARTBEAT_INTERVAL}={times[1]}, three times as "
                "much to survive lost heartbeats"
            )

    def broker(self) -> BrokerSettings:
        """The broker's values, typed."""
        return self._broker

    @cached_property
    def _broker(self) -> BrokerSettings:
        return msgspec.convert(
            {name.replace(".", "_"): self._value(self.broker_entry(name)) for name in _BROKER_FIELDS},
            BrokerSettings,
        )

    def topic(self, overrides: Mapping[str, str]) -> TopicSettings:
        """The values of a topic that sets `overrides`, typed; topics that set the same share one object."""
        key = frozenset(overrides.items())
        settings = self._topics.get(key)
        if settings is None:
            settings = msgspec.convert(
                {it.replace(".", "_"): self._value(self.topic_entry(it, overrides)) for it in _TOPIC_FIELDS},
                TopicSettings,
            )
            if len(self._topics) < _TOPICS_KEPT_MAX:
                self._topics[key] = settings
        return settings

    @cached_property
    def _topics(self) -> dict[frozenset[tuple[str, str]], TopicSettings]:
        return {}

    def topic_value(self, key: str, overrides: Mapping[str, str]) -> Value | None:
        """One of the values of `topic`, which has no coarser unit."""
        setting = TOPIC_KEYS[key]
        first = next(self._candidates_over(setting, key, overrides, Origin.TOPIC), None)
        text = setting.topic_default if first is None else first.value
        return None if text is None else setting.parse(key, text)

    @staticmethod
    def _value(entry: Entry) -> Value | None:
        return None if entry.value is None else entry.setting.parse(entry.key, entry.value)

    def _candidates_over(
        self, setting: Setting, key: str, overrides: Mapping[str, str], origin: Origin
    ) -> Iterator[Candidate]:
        if key in overrides and (value := _in_force(setting, key, overrides[key])) is not None:
            yield Candidate(key, value, origin)
        if setting.only is not None:
            return
        yield from self._layers(setting)
        for coarser in _CONVERTERS[setting.name]:
            yield from self._layers(coarser)

    def _layers(self, setting: Setting) -> Iterator[Candidate]:
        name = setting.name
        stored = (
            (self.dynamic_broker, Origin.DYNAMIC_BROKER),
            (self.dynamic_default, Origin.DYNAMIC_DEFAULT),
        )
        for values, origin in stored if setting.is_dynamic else ():
            if name in values and (value := _in_force(setting, name, values[name])) is not None:
                yield Candidate(name, value, origin)
        if name in self.static:
            yield Candidate(name, self.static[name], Origin.STATIC)
        if setting.default is not None:
            yield Candidate(setting.name, setting.default, Origin.DEFAULT)
