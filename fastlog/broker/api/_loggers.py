"""The loggers of this process as settings (KIP-412): how much each says, until the process ends.

`root` stands for the logger `fastlog`, above all others: a program that embeds a broker keeps its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastlog.broker.configs import AlterOperation
from fastlog.errors import InvalidConfigError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.configs import Alteration

ROOT = "root"
# Kafka's names (LogLevelConfig), of which Python has no TRACE
LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": 5,
}


def levels() -> dict[str, str]:
    """The level in force of every logger, by name."""
    own = [name for name in logging.root.manager.loggerDict if name.startswith("fastlog.")]
    return {name: _name(_logger(name)) for name in sorted([ROOT, *own])}


def alter(alterations: Sequence[Alteration], *, validate_only: bool) -> None:
    """Sets levels or gives them up, all or none; raises the KafkaError that Kafka answers with."""
    changes = [(_logger(each.key), _level_after(each)) for each in alterations]
    for logger, level in changes if not validate_only else ():
        logger.setLevel(level)


def _level_after(alteration: Alteration) -> int:
    name, operation = alteration.key, alteration.operation
    if operation not in (AlterOperation.SET, AlterOperation.DELETE):
        raise InvalidRequestError(f"{name}: a logger's level is set or deleted, it is no list")
    if name not in levels():
        raise InvalidConfigError(f"there is no logger {name!r}")
    if operation == AlterOperation.DELETE:
        if name == ROOT:
            raise InvalidRequestError("the root logger keeps a level; set another")
        return logging.NOTSET
    if alteration.value not in LEVELS:
        raise InvalidConfigError(f"{name}={alteration.value}: it takes {', '.join(LEVELS)}")
    return LEVELS[alteration.value]


def _logger(name: str) -> logging.Logger:
    return logging.getLogger("fastlog" if name == ROOT else name)


def _name(logger: logging.Logger) -> str:
    """The most that is said: the lowest level that is let through."""
    level = logger.getEffectiveLevel()
    return next((name for name, number in LEVELS.items() if number <= level), "TRACE")
