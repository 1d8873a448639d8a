"""Where a cluster's ZooKeeper is: HOST:PORT[,HOST:PORT …][/PATH]."""

from __future__ import annotations

import re

import msgspec

from fastlog.config.listeners import PORT_MAX
from fastlog.errors import ConfigError

KEY = "zookeeper.connect"
ROOT = "/fastlog"
# names of znodes that ZooKeeper takes anywhere; it takes others too, which nobody needs here
PATH = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")


class ZooKeeperAddress(msgspec.Struct, frozen=True):
    """A cluster's place."""

    hosts: str
    """HOST:PORT[,…], as ZooKeeper's clients take it."""
    root: str
    """The path below which the cluster lies."""

    def __str__(self) -> str:
        """As in the setting."""
        return f"{self.hosts}{self.root}"


def parse_zookeeper(text: str) -> ZooKeeperAddress:
    """The place written as `text`; ConfigError when it is none."""
    hosts, slash, rest = text.strip().partition("/")
    root = f"/{rest}".rstrip("/") if slash else ROOT
    if slash and not PATH.fullmatch(root):
        raise ConfigError(f"{KEY}={text}: a path is made of names, as in {ROOT} or /clusters/one")
    parts = [part.strip() for part in hosts.split(",")]
    for part in parts:
        host, colon, port = part.rpartition(":")
        if not host or not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= PORT_MAX:
            raise ConfigError(
                f"{KEY}={text}: {part or 'nothing'} is no server; it takes HOST:PORT[,HOST:PORT …][/PATH]"
            )
    return ZooKeeperAddress(",".join(parts), root)
