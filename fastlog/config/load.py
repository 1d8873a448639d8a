"""Reading a broker's settings from a TOML file, --set and options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlog.config.layers import Config, check
from fastlog.config.listeners import parse_advertised, parse_listeners
from fastlog.config.tiers import check_store
from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# what a program may give for a setting; None leaves it as it is
Given = bool | int | float | str | list[str] | tuple[str, ...] | None


def load(
    *,
    file: str | Path | None = None,
    settings: Mapping[str, Given] | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
) -> Config:
    """A broker's checked settings.

    `file` is a TOML file, `settings` are keys with values of Python (None is not set), `assignments` are KEY=VALUE
    texts, `options` are keys with values as text; each overrides what stands before it. Raises ConfigError for a file
    that cannot be read, an unknown key (it names the nearest known one), a value out of range, or settings that
    contradict each other.
    """
    values: dict[str, str] = {}
    if file is not None:
        values.update(_from_file(Path(file)))
    values.update(_flatten("", {key: value for key, value in (settings or {}).items() if value is not None}))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment}: it takes KEY=VALUE")
        values[key.strip()] = value.strip()
    values.update(options or {})
    for key, value in values.items():
        check("broker", key, value)
    config = Config(static=values)
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    settings = config.broker()
    in_cluster = settings.zookeeper_connect is not None
    if settings.zookeeper_connect is not None:
        from fastlog.config.zookeeper import parse_zookeeper

        parse_zookeeper(settings.zookeeper_connect)
    listeners = parse_listeners(settings.listeners, in_cluster=in_cluster)
    parse_advertised(settings.advertised_listeners or (), listeners)
    if not settings.log_dirs or "" in settings.log_dirs:
        raise ConfigError(
            f"log.dirs={','.join(settings.log_dirs)}: name a directory, or some with a comma between"
        )
    config.check_group_times({})
    check_store(settings)
    wait_ms, lag_ms = settings.replica_fetch_wait_max_ms, settings.replica_lag_time_max_ms
    if wait_ms >= lag_ms:
        raise ConfigError(
            f"replica.fetch.wait.max.ms={wait_ms}: it must be less than replica.lag.time.max.ms={lag_ms}, "
            "or followers of a quiet partition would fall out of sync"
        )


def _from_file(path: Path) -> dict[str, str]:
    import tomllib

    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} is not TOML: {error}") from error
    try:
        return dict(_flatten("", tree))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _flatten(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(f"{name}.", value)
        elif isinstance(value, list | tuple):
            yield name, ",".join(_scalar(name, item) for item in value)
        else:
            yield name, _scalar(name, value)


def _scalar(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return str(value)
    raise ConfigError(f"{name}: a setting takes a word, a number, true or false, or a list of words")
