"""Where what lies: the znodes below the cluster's root."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from uuid import UUID

DEFAULT_ROOT = "/fastlog"


class Paths:
    """The paths of one cluster."""

    def __init__(self, root: str = DEFAULT_ROOT) -> None:
        self.root = root
        self.cluster = f"{root}/cluster"
        self.cluster_id = f"{root}/cluster/id"
        self.brokers = f"{root}/brokers"
        self.broker_ids = f"{root}/brokers/ids"
        self.topics = f"{root}/brokers/topics"
        self.topic_ids = f"{root}/brokers/topic_ids"
        self.controller = f"{root}/controller"
        self.controller_epoch = f"{root}/controller_epoch"
        self.producer_ids = f"{root}/producer_ids"
        self.config = f"{root}/config"
        self.topic_configs = f"{root}/config/topics"
        self.broker_configs = f"{root}/config/brokers"
        self.group_configs = f"{root}/config/groups"
        self.acls = f"{root}/acls"
        self.admin = f"{root}/admin"
        self.deletions = f"{root}/admin/delete_topics"

    def folders(self) -> list[str]:
        """The znodes that only hold others, a parent before its children; `root` itself is not among them."""
        return [
            self.cluster,
            self.brokers,
            self.broker_ids,
            self.topics,
            self.topic_ids,
            self.config,
            self.topic_configs,
            self.broker_configs,
            self.group_configs,
            self.acls,
            self.admin,
            self.deletions,
        ]

    def broker(self, broker_id: int) -> str:
        """A live broker; ephemeral."""
        return f"{self.broker_ids}/{broker_id}"

    def topic(self, name: str) -> str:
        """A topic: its id and which brokers hold which partition."""
        return f"{self.topics}/{name}"

    def partitions(self, name: str) -> str:
        """The parent of a topic's partitions."""
        return f"{self.topics}/{name}/partitions"

    def partition(self, name: str, partition: int) -> str:
        """A partition's state; its version is the partition epoch."""
        return f"{self.topics}/{name}/partitions/{partition}"

    def topic_id(self, topic_id: UUID) -> str:
        """Which topic has, or had, an id. Version 0 means that it lives."""
        return f"{self.topic_ids}/{topic_id}"

    def deletion(self, topic_id: UUID) -> str:
        """A topic that was deleted and whose directories may still be there."""
        return f"{self.deletions}/{topic_id}"

    def topic_config(self, name: str) -> str:
        """A topic's settings; there from its creation on, also where it has none."""
        return f"{self.topic_configs}/{name}"

    def broker_config(self, name: str) -> str:
        """A broker's settings; those of all brokers where `name` is empty."""
        return f"{self.broker_configs}/{name or 'default'}"

    def group_config(self, name: str) -> str:
        """A group's settings."""
        return f"{self.group_configs}/{_quoted(name)}"

    @staticmethod
    def group_of(node: str) -> str:
        """The group whose settings lie in the znode `node` of `group_configs`."""
        return unquote(node)


def _quoted(name: str) -> str:
    """Any text as the name of a znode, which has no slash and is not a dot or two."""
    return quote(name, safe="").replace(".", "%2E")


def parse_address(text: str) -> tuple[str, str]:
    """`HOST:PORT[,…][/root]` as the servers and the root; raises ValueError with what is wrong.

    Without a root it is DEFAULT_ROOT, never ZooKeeper's own.
    """
    hosts, slash, rest = text.partition("/")
    for host in hosts.split(","):
        name, _, port = host.strip().rpartition(":")
        if not name or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{host.strip()!r} in {text!r} is not HOST:PORT")
    root = f"/{rest.rstrip('/')}" if slash and rest.strip("/") else DEFAULT_ROOT
    if any(part in {"", ".", ".."} for part in root.split("/")[1:]):
        raise ValueError(f"{root!r} in {text!r} is not a path of ZooKeeper")
    return hosts, root
