"""Which brokers are in: one ephemeral znode each, whose czxid is the broker epoch (KIP-380)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from kazoo.exceptions import NodeExistsError, NoNodeError

from fastlog.cluster.zookeeper.fields import number_in
from fastlog.cluster.zookeeper.operations import Create, RefusedError, Remove
from fastlog.cluster.zookeeper.znodes import BrokerZnode, decode, encode
from fastlog.ports import Broken, CorruptStoreError, Registration, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from kazoo.protocol.states import ZnodeStat

    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection

# the old registration moves while its process, paused or dying, still writes its lease
TRIES_MAX = 20


class NodeIdInUseError(StoreError):
    """Another broker is registered with this node.id."""


class Live(msgspec.Struct, frozen=True):
    """The brokers that are in."""

    registrations: tuple[Registration, ...]
    """Sorted by broker id."""
    broken: tuple[Broken, ...]
    """Registrations that are garbage: those brokers count as not there."""


class Membership:
    """Registers this broker and lists all."""

    def __init__(self, connection: ZooKeeperConnection) -> None:
        self._connection = connection
        self._paths = connection.paths

    def register(self, broker: Registration, earlier: Collection[UUID]) -> Registration:
        """Registers the broker in the present session and answers the registration with its broker epoch.

        `earlier` has the incarnations that the broker's own, locked data directory has seen: a registration of one of
        them, from a session that is not over yet, is replaced at once. Raises NodeIdInUseError for any other.
        """
        path = self._paths.broker(broker.broker_id)
        data = registration_data(broker, path)
        for _ in range(TRIES_MAX):
            stat = self._connection.settle(lambda: self._try(broker, data, earlier))
            if stat is not None:
                return msgspec.structs.replace(broker, broker_epoch=stat.czxid)
        raise StoreUnavailableError(f"the znode {path} changes faster than it can be replaced")

    def _try(self, broker: Registration, data: bytes, earlier: Collection[UUID]) -> ZnodeStat | None:
        path = self._paths.broker(broker.broker_id)
        try:
            _, stat = self._connection.ask(
                lambda client: client.create_async(path, data, ephemeral=True, include_data=True)
            )
        except NodeExistsError:
            return self._meet(broker, data, {broker.incarnation, *earlier})
        except NoNodeError:
            raise CorruptStoreError(f"the znode {self._paths.broker_ids} is missing") from None
        return stat

    def _meet(self, broker: Registration, data: bytes, own: Collection[UUID]) -> ZnodeStat | None:
        """Somebody is registered: this process in this session, its past, or another broker."""
        path = self._paths.broker(broker.broker_id)
        try:
            found, stat = self._connection.get(path)
        except NoNodeError:
            return None
        znode = decode(found, BrokerZnode, path)
        if znode.incarnation == broker.incarnation and stat.ephemeralOwner == self._connection.session:
            return stat
        if znode.incarnation not in own:
            raise NodeIdInUseError(
                f"node.id {broker.broker_id} is in use by the broker at {_address(znode)} ({path}): give each broker "
                "its own; where that one has just died without its data directory, wait until its session is over"
            )
        try:
            self._connection.commit([Remove(path, stat.version), Create(path, data, ephemeral=True)])
            _, stat = self._connection.get(path)
        except (RefusedError, NoNodeError):
            return None
        return stat if stat.ephemeralOwner == self._connection.session else None

    def live(self) -> Live:
        """The brokers that are registered now; the next change is told as Changed("brokers")."""
        ids = self._connection.children(self._paths.broker_ids, watch="brokers")
        listed = [f"{self._paths.broker_ids}/{each}" for each in ids]
        found, broken = [], []
        for text, path, answer in zip(ids, listed, self._connection.get_all(listed), strict=True):
            # one that went since it was listed: the watch tells
            if isinstance(answer, NoNodeError):
                continue
            try:
                found.append(_registration(text, path, *answer))
            except CorruptStoreError as error:
                broken.append(Broken(path, str(error)))
        return Live(tuple(sorted(found, key=lambda each: each.broker_id)), tuple(broken))


def registration_data(broker: Registration, path: str) -> bytes:
    """What a broker's znode holds; the lease writes the same again."""
    znode = BrokerZnode(
        endpoints=dict(broker.endpoints),
        incarnation=broker.incarnation,
        clean_start=broker.clean_start,
        rack=broker.rack,
    )
    return encode(znode, path)


def _registration(text: str, path: str, data: bytes, stat: ZnodeStat) -> Registration:
    number = number_in(text)
    if number is None:
        raise CorruptStoreError(f"the znode {path} is not named by a node.id")
    znode = decode(data, BrokerZnode, path)
    return Registration(
        broker_id=number,
        broker_epoch=stat.czxid,
        incarnation=znode.incarnation,
        endpoints=znode.endpoints,
        rack=znode.rack,
        clean_start=znode.clean_start,
    )


def _address(znode: BrokerZnode) -> str:
    return ", ".join(f"{name}://{host}:{port}" for name, (host, port) in sorted(znode.endpoints.items()))
