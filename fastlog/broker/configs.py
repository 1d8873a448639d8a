"""The settings in force for this broker and for every topic, and how they are changed."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from fastlog.config import Config, check, known, unusable
from fastlog.config.tiers import check_topic
from fastlog.errors import ConfigError, InvalidConfigError, InvalidRequestError
from fastlog.events import EventLog
from fastlog.ports import ConfigResource, StoredConfigs
from fastlog.state.consumer_group.settings import GroupTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastlog.config import Setting, TopicSettings

# from a resource's settings as they are to what they shall be
Make: TypeAlias = "Callable[[Mapping[str, str]], dict[str, str]]"

ALL_BROKERS = ConfigResource("broker", "")
#: characters of a stored value in the log
SHOWN_MAX = 200
_NOTHING = StoredConfigs({}, 0)
# what the store holds for a topic that was made without settings of its own, as most are: not kept here for each
_PLAIN_TOPIC = StoredConfigs({}, 1)


class AlterOperation(IntEnum):
    """What IncrementalAlterConfigs does to a key; the numbers are Kafka's."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Alteration(msgspec.Struct, frozen=True):
    """One change of one key; `value` is None for DELETE."""

    key: str
    operation: int
    value: str | None


class ConfigStore(Protocol):
    """What of a MetadataStore keeps settings."""

    def configs(self, *, plain_topics: bool = True) -> dict[ConfigResource, StoredConfigs]:
        """Every resource that has settings; `plain_topics`: also topics that were created without, and have none."""
        ...

    def put_configs(self, resource: ConfigResource, values: Mapping[str, str], expected_version: int) -> int:
        """Replaces the settings of a resource and answers the new version; see MetadataStore."""
        ...


class Configs:
    """Settings by layer, and how they are changed; where they are kept is a subclass's."""

    @property
    def config(self) -> Config:
        """This broker's settings, by layer, without those of topics."""
        raise NotImplementedError

    def stored(self, resource: ConfigResource) -> StoredConfigs:
        """What was set for `resource` itself."""
        raise NotImplementedError

    def names(self, kind: str) -> list[str]:
        """The resources of a kind that have settings of their own."""
        raise NotImplementedError

    def subscribe(self, changed: Callable[[str | None], None]) -> Callable[[], None]:
        """Has `changed` called after each change, with the topic's name, or None for a broker's settings.

        Returns what ends that: without it the two sides keep each other alive.
        """
        raise NotImplementedError

    def _put(self, resource: ConfigResource, make: Make, values: dict[str, str], version: int) -> None:
        """Has `values`, which `make` made of what was there at `version`, stored and known here."""
        raise NotImplementedError

    def topic_overrides(self, name: str) -> Mapping[str, str]:
        """What a topic sets itself."""
        return self.stored(ConfigResource("topic", name)).values

    def topic_settings(self, name: str) -> TopicSettings:
        """The values in force for a topic."""
        return self.config.topic(self.topic_overrides(name))

    def check(self, resource: ConfigResource, values: Mapping[str, str]) -> None:
        """Raises InvalidConfigError for what `resource` cannot be set to, InvalidRequestError for what is fixed.

        What may be set and does nothing is logged.
        """
        for key, value in values.items():
            try:
                check(resource.kind, key, value)
            except ConfigError as error:
                raise InvalidConfigError(str(error)) from error
            if resource.kind == "broker":
                _check_update(resource, known("broker")[key])
        warn_of_unmet(resource.kind, values)

    def check_whole(
        self, resource: ConfigResource, values: Mapping[str, str], before: Mapping[str, str]
    ) -> None:
        """Raises InvalidConfigError where all that `resource` is to set does not go together, or after `before`.

        It is for a change: what is stored may be anything.
        """
        config = self.config
        try:
            if resource.kind == "group":
                config.check_group_times(values)
            elif resource.kind == "topic":
                was_tiered = config.topic(before).remote_storage_enable
                check_topic(config.broker(), config.topic(values), was_tiered=was_tiered)
        except ConfigError as error:
            raise InvalidConfigError(str(error)) from error

    def replace(
        self, resource: ConfigResource, values: Mapping[str, str | None], *, validate_only: bool
    ) -> None:
        """Sets exactly `values`; what is not among them goes back to its default."""
        missing = [key for key, value in values.items() if value is None]
        if missing:
            raise InvalidRequestError(f"no value is given for {', '.join(missing)}")
        fresh = {key: value.strip() for key, value in values.items() if value is not None}
        self._change(resource, lambda before: fresh, validate_only=validate_only)

    def alter(
        self, resource: ConfigResource, alterations: Sequence[Alteration], *, validate_only: bool
    ) -> None:
        """Changes some keys and leaves the others."""
        check_distinct(alterations)

        def altered(before: Mapping[str, str]) -> dict[str, str]:
            values = dict(before)
            for alteration in alterations:
                self._apply(resource, values, alteration)
            return values

        self._change(resource, altered, validate_only=validate_only)

    def _apply(self, resource: ConfigResource, values: dict[str, str], alteration: Alteration) -> None:
        key, value = alteration.key, alteration.value
        if alteration.operation == AlterOperation.DELETE:
            values.pop(key, None)
            return
        if value is None:
            raise InvalidRequestError(f"no value is given for {key}")
        if alteration.operation == AlterOperation.SET:
            values[key] = value.strip()
        elif alteration.operation in (AlterOperation.APPEND, AlterOperation.SUBTRACT):
            values[key] = self._edit_list(resource, values, alteration)
        else:
            raise InvalidRequestError(f"{key}: unknown operation {alteration.operation}")

    def _edit_list(self, resource: ConfigResource, values: Mapping[str, str], alteration: Alteration) -> str:
        key = alteration.key
        setting = setting_of(resource, key)
        name = AlterOperation(alteration.operation).name
        if setting.type != "list":
            raise InvalidConfigError(f"{name} does not fit {key}, which is no list")
        items = _items(values.get(key, setting.default or ""))
        given = _items(alteration.value or "")
        if alteration.operation == AlterOperation.APPEND:
            return ",".join(items + [item for item in given if item not in items])
        return ",".join(item for item in items if item not in given)

    def _change(self, resource: ConfigResource, make: Make, *, validate_only: bool) -> None:
        before = self.stored(resource)
        values = make(before.values)
        # a value that was stored stays, even where a newer version would refuse it
        self.check(resource, {key: value for key, value in values.items() if before.values.get(key) != value})
        if values != before.values:
            self.check_whole(resource, values, before.values)
        if not validate_only and values != before.values:
            self._put(resource, make, values, before.version)


class LocalConfigs(Configs):
    """The Configs of one node alone. Changed on one thread only; read from any.

    What is stored is changed in place: a copy of the settings of all topics for each that comes would make the last of
    ten thousand dear.
    """

    def __init__(self, static: Config, store: ConfigStore, node_id: int) -> None:
        self._static = static
        self._store = store
        self._this_broker = ConfigResource("broker", str(node_id))
        self._stored = store.configs(plain_topics=False)
        self._listeners: list[Callable[[str | None], None]] = []
        self._config = self._layered()
        log = EventLog("settings")
        for resource, stored in self._stored.items():
            warn_of_unusable(log, resource, stored.values)

    @property
    def config(self) -> Config:
        """See Configs."""
        return self._config

    def _layered(self) -> Config:
        return Config(
            static=self._static.static,
            dynamic_default=self.stored(ALL_BROKERS).values,
            dynamic_broker=self.stored(self._this_broker).values,
        )

    def subscribe(self, changed: Callable[[str | None], None]) -> Callable[[], None]:
        """See Configs."""
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    def stored(self, resource: ConfigResource) -> StoredConfigs:
        """See Configs."""
        return self._stored.get(resource, _PLAIN_TOPIC if resource.kind == "topic" else _NOTHING)

    def names(self, kind: str) -> list[str]:
        """See Configs."""
        return names_in(self._stored, kind)

    def topic_created(self, name: str, values: Mapping[str, str]) -> None:
        """Takes note of the settings that the store holds for a new topic."""
        if values:
            self._stored[ConfigResource("topic", name)] = StoredConfigs(dict(values), 1)

    def topic_deleted(self, name: str) -> None:
        """Takes note that the store dropped a topic's settings."""
        self._stored.pop(ConfigResource("topic", name), None)

    def _put(self, resource: ConfigResource, make: Make, values: dict[str, str], version: int) -> None:
        stored = StoredConfigs(values, self._store.put_configs(resource, values, version))
        self._stored[resource] = stored
        self._config = self._layered()
        for changed in self._listeners:
            if resource.kind in ("topic", "broker"):
                changed(resource.name if resource.kind == "topic" else None)


def group_times(configs: Configs, group_id: str) -> GroupTimes | None:
    """The times of a group of the consumer protocol that sets some itself; from any thread."""
    overrides = configs.stored(ConfigResource("group", group_id)).values
    return GroupTimes(*configs.config.group_times(overrides)) if overrides else None


def names_in(settings: Mapping[ConfigResource, StoredConfigs], kind: str) -> list[str]:
    """The resources of a kind that set something in `settings`, which may change meanwhile."""
    return [it.name for it, stored in list(settings.items()) if it.kind == kind and stored.values]


def check_distinct(alterations: Sequence[Alteration]) -> None:
    """Raises InvalidRequestError where a key is changed more than once."""
    keys = [alteration.key for alteration in alterations]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise InvalidRequestError(f"{', '.join(twice)} stands twice in one request")


def _check_update(resource: ConfigResource, setting: Setting) -> None:
    key = setting.name
    if not setting.is_dynamic:
        raise InvalidRequestError(f"{key} is read when the broker starts; it cannot be changed now")
    if setting.update == "per-broker" and not resource.name:
        raise InvalidRequestError(f"{key} is a setting of one broker each; name the broker")


def warn_of_unusable(log: EventLog, resource: ConfigResource, values: Mapping[str, str]) -> None:
    """Names what is stored for a resource and cannot be put in force."""
    for it in unusable(resource.kind, values):
        log.warning(
            "a stored setting cannot be, it is not in force: set it anew, or delete it",
            resource=f"{resource.kind} {resource.name}" if resource.name else "all brokers",
            key=it.key[:SHOWN_MAX],
            value=it.value[:SHOWN_MAX],
            reason=it.reason[: 2 * SHOWN_MAX],
        )


def setting_of(resource: ConfigResource, key: str) -> Setting:
    """The setting that `key` names for `resource`; InvalidConfigError for an unknown one."""
    keys = known(resource.kind)
    if key not in keys:
        raise InvalidConfigError(f"unknown {resource.kind} setting {key}")
    return keys[key]


def warn_of_unmet(kind: str, keys: Iterable[str]) -> None:
    """Logs each setting among `keys`, of a resource of the kind, that does nothing here."""
    for key in keys:
        setting = known(kind).get(key)
        if setting is not None and setting.status == "no-meaning":
            EventLog("settings").warning("setting has no meaning here", key=key, of=kind, why=setting.why)


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]
