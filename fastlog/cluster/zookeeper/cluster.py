"""Which cluster a path of ZooKeeper belongs to, and the first broker's making of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kazoo.exceptions import NodeExistsError, NoNodeError

from fastlog.cluster.zookeeper.operations import Create, RefusedError
from fastlog.cluster.zookeeper.znodes import (
    FORMAT,
    ClusterZnode,
    ControllerEpochZnode,
    ProducerIdsZnode,
    decode,
    encode,
)
from fastlog.ports import CorruptStoreError, StoreError

if TYPE_CHECKING:
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection


def read_cluster_id(connection: ZooKeeperConnection) -> str:
    """The id of the cluster that lies at the connection's root; raises StoreError where there is none of ours."""
    path = connection.paths.cluster_id
    try:
        data, _ = connection.get(path)
    except NoNodeError:
        raise CorruptStoreError(
            f"there is no cluster at {connection.paths.root}: {path} is missing"
        ) from None
    # a newer format may have other fields
    found = decode(data, dict, path)
    number = found.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise StoreError(
            f"the metadata at {connection.paths.root} has format {number}, this version knows up to {FORMAT}: "
            "it was written by a newer fastlog, which is the one to start"
        )
    return decode(data, ClusterZnode, path).id


def join_cluster(connection: ZooKeeperConnection, known: str | None, fresh: str) -> str:
    """The cluster's id, for a broker whose data directory belongs to the cluster `known`, or to none yet.

    Only a broker of no cluster makes one, with the id `fresh`, and only where the root holds nothing: a directory with
    records beside an empty ZooKeeper is a wrong address or a lost ZooKeeper. Raises StoreError with what is wrong.
    """
    paths = connection.paths
    if known is None:
        connection.settle(lambda: _make_if_empty(connection, fresh))
    try:
        found = read_cluster_id(connection)
    except CorruptStoreError as error:
        if known is None:
            raise
        raise StoreError(
            f"the data directory belongs to cluster {known}, and ZooKeeper has no cluster at {paths.root} ({error}): "
            f"check the address {connection.hosts}{paths.root}, or restore what ZooKeeper held"
        ) from error
    if known is not None and found != known:
        raise StoreError(
            f"the data directory belongs to cluster {known}, ZooKeeper's {paths.root} to cluster {found}: "
            "one of the two is another cluster's; nothing was changed"
        )
    return found


def _make_if_empty(connection: ZooKeeperConnection, fresh: str) -> None:
    paths = connection.paths
    connection.ask(lambda client: client.ensure_path_async(paths.root))
    if connection.children(paths.root):
        return
    epoch, ids = ControllerEpochZnode(epoch=0), ProducerIdsZnode(next=0)
    operations = [Create(folder) for folder in paths.folders()]
    operations += [
        Create(paths.controller_epoch, encode(epoch, paths.controller_epoch)),
        Create(paths.producer_ids, encode(ids, paths.producer_ids)),
        Create(paths.cluster_id, encode(ClusterZnode(id=fresh, format=FORMAT), paths.cluster_id)),
    ]
    try:
        connection.commit(operations)
    except RefusedError as refused:
        # another broker made it at the same moment
        if not isinstance(refused.cause, NodeExistsError):
            raise
