"""What a broker says of itself: a short constant text with fields, to Python's own logging below `fastlog`.

Nothing is configured here: a program that embeds a broker decides what becomes of it, `fastlog serve` writes it to
standard error.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Event:
    """The message of a log record; as text, `what happened key=value …`."""

    __slots__ = ("fields", "text")

    def __init__(self, text: str, fields: Mapping[str, object]) -> None:
        self.text = text
        self.fields = fields

    def __str__(self) -> str:
        """Text and fields in logfmt."""
        return " ".join((self.text, *(f"{key}={quoted(value)}" for key, value in self.fields.items())))


class EventLog:
    """The events of one component, which is the logger `fastlog.COMPONENT`."""

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"fastlog.{component}")

    def info(self, text: str, /, **fields: object) -> None:
        """Normal operation."""
        self._say(logging.INFO, text, fields)

    def warning(self, text: str, /, **fields: object) -> None:
        """A peer misbehaved or a limit was met; the broker goes on."""
        self._say(logging.WARNING, text, fields)

    def error(self, text: str, /, **fields: object) -> None:
        """The broker failed at something."""
        self._say(logging.ERROR, text, fields)

    def exception(self, text: str, error: BaseException | None = None, /, **fields: object) -> None:
        """As `error`, with the traceback of `error`, or of the exception that is being handled."""
        self._say(logging.ERROR, text, fields, error or True)

    def _say(self, level: int, text: str, fields: Mapping[str, object], cause: Any = None) -> None:
        logger = self._logger
        if not logger.isEnabledFor(level):
            return
        if cause is not None:
            logger.log(level, Event(text, fields), exc_info=cause)
            return
        # as `log` does, without a search for the caller, which would always be found here
        logger.handle(logger.makeRecord(logger.name, level, __file__, 0, Event(text, fields), (), None))


#: what needs no quotes; other text may do without them too
_plain = re.compile(r"[!#-<>-~]+").fullmatch


def quoted(value: object) -> str:
    """A value of logfmt: in quotes where it has spaces, quotes, `=` or line ends, or is empty."""
    text = str(value)
    if _plain(text):
        return text
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
