"""Who controls: the holder of the ephemeral `/controller`, whose election moved `/controller_epoch`.

As Kafka's registerControllerAndIncrementControllerEpoch: both in one transaction, so that the version of
`/controller_epoch` is a fence that every write of the controller checks.

Either may have been made garbage by hand. The election then replaces it: neither holds anything that is not found
elsewhere, and whoever controlled before is fenced as by any other election.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import ZnodeStat

from fastlog.cluster.zookeeper.metadata.fence import Fence
from fastlog.cluster.zookeeper.metadata.reading import highest_controller_epoch
from fastlog.cluster.zookeeper.operations import Check, Create, Put, RefusedError, Remove
from fastlog.cluster.zookeeper.znodes import ControllerEpochZnode, ControllerZnode, decode, encode
from fastlog.events import EventLog
from fastlog.ports import CorruptStoreError, StoreUnavailableError

if TYPE_CHECKING:
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.operations import Operation

TRIES_MAX = 10


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    """The broker that controls now."""

    broker_id: int
    broker_epoch: int
    controller_epoch: int
    """The epoch as it was before the controller was read: at most the controller's own."""
    version: int
    """Of `/controller_epoch`, read at the same time; an election since then moved it."""


class _Seen(msgspec.Struct, frozen=True):
    """Epoch and holder, the epoch read first: where an election came between, a write at its version is refused."""

    epoch: int
    epoch_stat: ZnodeStat
    holder: ControllerZnode | None
    """None where nobody is named, or nobody can be: there is no znode, or this one or the epoch's is garbage."""
    holder_stat: ZnodeStat | None
    """None where there is no znode."""


class Election:
    """One broker's candidacies, in the session in which it is registered."""

    def __init__(self, connection: ZooKeeperConnection, *, broker_id: int, broker_epoch: int) -> None:
        self._connection = connection
        self._paths = connection.paths
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        mine = ControllerZnode(broker=broker_id, broker_epoch=broker_epoch)
        self._create = Create(self._paths.controller, encode(mine, self._paths.controller), ephemeral=True)
        self._epoch_read = 0
        self._log = EventLog("controller")

    def stand(self) -> Fence | Controller:
        """The fence where this broker controls now, or the broker that does.

        The next change is told as Changed("controller"). A lost answer is recognised by reading. This broker's own
        past, a holder with an older broker epoch, is replaced: it cannot be alive beside this registration.
        After StoreUnavailableError this broker may hold `/controller` without knowing: stand again.
        """
        tried = -1
        for _ in range(TRIES_MAX):
            seen = self._look()
            if seen.holder is None:
                tried = seen.epoch + 1
                won = self._try(seen, self._room(seen))
            elif (fence := self._won(seen, tried)) is not None:
                return fence
            elif seen.holder.broker != self._broker_id or seen.holder.broker_epoch > self._broker_epoch:
                return _controller(seen, seen.holder)
            else:
                tried = seen.epoch + 1
                won = self._try(seen, [Remove(self._paths.controller)])
            if won is not None:
                return self._watched(won)
        raise StoreUnavailableError("controllers come and go faster than they can be read")

    def take_over(self, dead: Controller) -> Fence | Controller:
        """Takes control from a broker that every live peer found dead, unless there was an election since it was read.

        Where the suspicion was wrong the old controller is fenced, no more.
        """
        seen = self._look()
        if seen.holder is None or seen.epoch_stat.version != dead.version:
            return self.stand()
        if (seen.holder.broker, seen.holder.broker_epoch) != (dead.broker_id, dead.broker_epoch):
            return self.stand()
        won = self._try(seen, [Remove(self._paths.controller)])
        return self.stand() if won is None else self._watched(won)

    def current(self) -> Controller | None:
        """The broker that controls now, None for none; the next change is told as Changed("controller")."""
        seen = self._look()
        return None if seen.holder is None else _controller(seen, seen.holder)

    def resign(self, fence: Fence) -> None:
        """Gives control up, where it is still held."""
        check = Check(self._paths.controller_epoch, fence.version)
        try:
            self._connection.commit([check, Remove(self._paths.controller)])
        except RefusedError:
            return

    def _watched(self, won: Fence) -> Fence:
        # without a connection the watch is lost anyway, and whoever is told Connected looks again
        with contextlib.suppress(StoreUnavailableError):
            self._look()
        return won

    def _try(self, seen: _Seen, before: list[Operation]) -> Fence | None:
        """One transaction; None where it was refused, or got no answer: a look tells then."""
        session = self._connection.session
        path = self._paths.controller_epoch
        epoch = encode(ControllerEpochZnode(epoch=seen.epoch + 1), path)
        operations = [*before, self._create, Put(path, epoch, seen.epoch_stat.version)]
        try:
            results = self._connection.commit(operations)
        except RefusedError:
            return None
        except StoreUnavailableError:
            self._connection.sync()
            return None
        return Fence(controller_epoch=seen.epoch + 1, version=results[-1].version, session=session)

    def _won(self, seen: _Seen, tried: int) -> Fence | None:
        """The fence, where what is there came of our own transaction whose answer was lost."""
        stat = seen.holder_stat
        mine = ControllerZnode(broker=self._broker_id, broker_epoch=self._broker_epoch)
        if stat is None or seen.holder != mine or stat.ephemeralOwner != self._connection.session:
            return None
        if seen.epoch != tried or stat.czxid != seen.epoch_stat.mzxid:
            return None
        return Fence(
            controller_epoch=seen.epoch, version=seen.epoch_stat.version, session=stat.ephemeralOwner
        )

    def _room(self, seen: _Seen) -> list[Operation]:
        """What makes room for a holder where nobody is."""
        return [] if seen.holder_stat is None else [Remove(self._paths.controller, seen.holder_stat.version)]

    def _look(self) -> _Seen:
        controller = self._paths.controller
        epoch, epoch_stat, is_whole = self._look_at_epoch()
        watch = self._connection.watch("controller")
        if self._connection.ask(lambda client: client.exists_async(controller, watch)) is None:
            return _Seen(epoch, epoch_stat, None, None)
        try:
            data, stat = self._connection.get(controller)
        except NoNodeError:
            return _Seen(epoch, epoch_stat, None, None)
        # whoever spoilt the epoch has voided the fence of the one that holds this
        return _Seen(epoch, epoch_stat, self._holder(data, stat) if is_whole else None, stat)

    def _look_at_epoch(self) -> tuple[int, ZnodeStat, bool]:
        """The epoch, and whether it is what is stored: in the place of garbage comes one that no controller had."""
        path = self._paths.controller_epoch
        try:
            data, stat = self._connection.get(path)
        except NoNodeError:
            # the version that went with it was the fence of controllers that may live
            raise CorruptStoreError(
                f"the znode {path} is missing, so nobody can be elected: create it with "
                '{"epoch":N}, N above every epoch that the logs of the brokers name ("controller elected epoch=…")'
            ) from None
        try:
            epoch = decode(data, ControllerEpochZnode, path).epoch
        except CorruptStoreError as error:
            # each election moves the version too; it began at 0 again where the znode was made anew by hand
            epoch = max(stat.version, self._epoch_read, highest_controller_epoch(self._connection))
            reason = f"{error}; the next election replaces it, with an epoch above {epoch}"
            self._log.error("metadata is garbage", path=path, reason=reason)
            return epoch, stat, False
        self._epoch_read = max(self._epoch_read, epoch)
        return epoch, stat, True

    def _holder(self, data: bytes, stat: ZnodeStat) -> ControllerZnode | None:
        path = self._paths.controller
        try:
            holder = decode(data, ControllerZnode, path)
        except CorruptStoreError as error:
            self._log.error(
                "metadata is garbage", path=path, reason=f"{error}; the next election replaces it"
            )
            return None
        if stat.ephemeralOwner:
            return holder
        self._log.error("metadata is garbage", path=path, reason="it is not ephemeral: no broker made it")
        return None


def _controller(seen: _Seen, holder: ControllerZnode) -> Controller:
    return Controller(
        broker_id=holder.broker,
        broker_epoch=holder.broker_epoch,
        controller_epoch=seen.epoch,
        version=seen.epoch_stat.version,
    )
