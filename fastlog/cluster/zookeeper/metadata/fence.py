"""What ties a controller's writes to its election: a newer election makes them void, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from kazoo.exceptions import BadVersionError, NoNodeError

from fastlog.cluster.zookeeper.operations import Check
from fastlog.ports import CorruptStoreError, FencedError

if TYPE_CHECKING:
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.operations import Operation, RefusedError


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """An election that was won."""

    controller_epoch: int
    version: int
    """Of `/controller_epoch` as the election left it; every write checks it."""
    session: int
    """The session that holds `/controller`."""


class Guard:
    """What every transaction of a store begins with; nothing for a store that is not fenced."""

    def __init__(self, connection: ZooKeeperConnection, fence: Fence | None) -> None:
        self._connection = connection
        self._fence = fence
        path = connection.paths.controller_epoch
        self.operations: tuple[Operation, ...] = () if fence is None else (Check(path, fence.version),)

    @property
    def controller_epoch(self) -> int:
        """The epoch that is written into what is written; 0 without a fence."""
        return 0 if self._fence is None else self._fence.controller_epoch

    def check(self) -> None:
        """Raises FencedError where the session of the election is over: nothing is to be tried any more."""
        # while there is none, the session may still be alive
        if self._fence is not None and self._connection.session not in {0, self._fence.session}:
            raise FencedError(
                f"the session in which controller epoch {self._fence.controller_epoch} was won is over"
            )

    def check_refused(self, refused: RefusedError) -> None:
        """Raises FencedError where a transaction was refused because of the fence."""
        if self._fence is None or refused.index != 0:
            return
        if isinstance(refused.cause, BadVersionError):
            raise FencedError(
                f"controller epoch {self._fence.controller_epoch} is over: another controller was elected"
            )
        if isinstance(refused.cause, NoNodeError):
            raise CorruptStoreError(f"the znode {self._connection.paths.controller_epoch} is missing")
