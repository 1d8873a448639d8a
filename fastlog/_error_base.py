"""The roots of the exceptions, apart from `fastlog.errors` since Kafka's generated classes derive from them."""

from __future__ import annotations

from typing import Any


class FastlogError(Exception):
    """The root of every exception that fastlog raises on purpose."""

    delivery: Any = None
    """Raised by `Producer.send_many`: the delivery of the records before this happened, None where there are none."""


class KafkaError(FastlogError):
    """An answer with an error code; each code of Kafka's has its own class in `fastlog.errors`."""

    code: int = -1
    """Kafka's error code."""
    name: str = "UNKNOWN_SERVER_ERROR"
    """Kafka's name for the code."""
    retriable: bool = False
    """Whether the same request may succeed when it is sent again."""
    stale_metadata: bool = False
    """Whether the error says that what is known of topics and leaders is out of date."""

    def __init__(self, message: str = "") -> None:
        """`message` says what was tried, on what, why it failed and what to do."""
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        """The code's name, and the message if there is one."""
        return f"{self.name}: {self.message}" if self.message else f"{self.name} ({self.code})"
