"""The real ZooKeeper of these tests."""

from tests.support.zookeeper import connect, root, zookeeper

__all__ = ["connect", "root", "zookeeper"]
