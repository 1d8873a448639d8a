"""HOST:PORT, as users write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

PORT_MAX = 65_535


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`; raises ConfigError."""
    host, colon, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
        raise ConfigError(f"{text!r} is not an address; write HOST:PORT, for instance 127.0.0.1:9092")
    return host, int(port)


def parse_bootstrap(bootstrap: str | Iterable[str]) -> list[tuple[str, int]]:
    """The addresses of a bootstrap list: one string with commas, or several; raises ConfigError where it is empty."""
    texts = bootstrap.split(",") if isinstance(bootstrap, str) else list(bootstrap)
    addresses = [parse_address(text) for text in texts if text.strip()]
    if not addresses:
        raise ConfigError("the bootstrap list is empty; name at least one broker as HOST:PORT")
    return addresses
