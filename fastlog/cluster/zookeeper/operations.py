"""What one request of ZooKeeper is made of: a transaction and why it was refused, and many reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kazoo.exceptions import EXCEPTIONS, RolledBackError, RuntimeInconsistency
from kazoo.protocol.serialization import GetData, MultiHeader, int_struct, read_buffer, stat_struct
from kazoo.protocol.states import ZnodeStat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kazoo.client import TransactionRequest

#: in one transaction; ZooKeeper's jute.maxbuffer of 1 MiB bounds the bytes
OPERATIONS_MAX = 100
TRANSACTION_BYTES_MAX = 900_000
# the headers of an operation and of its access list
OPERATION_BYTES = 100
END = MultiHeader(-1, True, -1)
ERROR = -1


class Check(NamedTuple):
    """The znode is there, at this version; -1 is any."""

    path: str
    version: int

    def add_to(self, request: TransactionRequest) -> None:
        """Appends it to a transaction."""
        request.check(self.path, self.version)


class Create(NamedTuple):
    """The znode is not there yet."""

    path: str
    data: bytes = b""
    ephemeral: bool = False

    def add_to(self, request: TransactionRequest) -> None:
        """Appends it to a transaction."""
        request.create(self.path, self.data, ephemeral=self.ephemeral)


class Put(NamedTuple):
    """New data for a znode at this version."""

    path: str
    data: bytes
    version: int

    def add_to(self, request: TransactionRequest) -> None:
        """Appends it to a transaction."""
        request.set_data(self.path, self.data, self.version)


class Remove(NamedTuple):
    """No such znode any more; it is at this version."""

    path: str
    version: int = -1

    def add_to(self, request: TransactionRequest) -> None:
        """Appends it to a transaction."""
        request.delete(self.path, self.version)


Operation = Check | Create | Put | Remove


class RefusedError(Exception):
    """A transaction took no effect because of one of its operations."""

    def __init__(self, index: int, operation: Operation, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__} at {operation.path}")
        self.index = index
        self.operation = operation
        self.cause = cause


def size_bytes(operation: Operation) -> int:
    """What an operation takes of a transaction, at most."""
    data = b"" if isinstance(operation, Check | Remove) else operation.data
    return len(operation.path) + len(data) + OPERATION_BYTES


def in_batches(operations: Iterable[Operation], *, beside: Sequence[Operation] = ()) -> list[list[Operation]]:
    """Operations in as few transactions as hold them, in order, each beginning with `beside`."""
    batches: list[list[Operation]] = []
    start = sum(size_bytes(each) for each in beside)
    bytes_used = 0
    for operation in operations:
        more = size_bytes(operation)
        full = not batches or len(batches[-1]) >= OPERATIONS_MAX or bytes_used + more > TRANSACTION_BYTES_MAX
        if full:
            batches.append(list(beside))
            bytes_used = start
        batches[-1].append(operation)
        bytes_used += more
    return batches


def refusal(operations: Sequence[Operation], results: Sequence[object]) -> RefusedError | None:
    """Why a transaction with these results took no effect; None where it did."""
    errors = [(index, each) for index, each in enumerate(results) if isinstance(each, Exception)]
    if not errors:
        return None
    # the others only say that they were not tried, or were taken back
    index, cause = next(
        (pair for pair in errors if not isinstance(pair[1], RolledBackError | RuntimeInconsistency)),
        errors[0],
    )
    return RefusedError(index, operations[index], cause)


class MultiRead(NamedTuple):
    """The values and stats of these paths, each as it is when its turn comes, in order.

    ZooKeeper has it from 3.6 on, kazoo does not: it takes a tenth of the time that as many requests take there.
    """

    paths: Sequence[str]

    @property
    def type(self) -> int:
        """ZooDefs.OpCode.multiRead."""
        return 22

    def serialize(self) -> bytearray:
        """The body of the request."""
        request = bytearray()
        for path in self.paths:
            request += MultiHeader(GetData.type, False, -1).serialize() + GetData(path, None).serialize()
        request += END.serialize()
        return request

    @staticmethod
    def deserialize(data: bytes, offset: int) -> list[tuple[bytes, ZnodeStat] | Exception]:
        """A value and stat, or kazoo's error, for each path."""
        results: list[tuple[bytes, ZnodeStat] | Exception] = []
        header, offset = MultiHeader.deserialize(data, offset)
        while not header.done:
            if header.type == ERROR:
                results.append(EXCEPTIONS[int_struct.unpack_from(data, offset)[0]]())
                offset += int_struct.size
            else:
                value, offset = read_buffer(data, offset)
                # a znode without data comes without a value
                results.append((value or b"", ZnodeStat._make(stat_struct.unpack_from(data, offset))))
                offset += stat_struct.size
            header, offset = MultiHeader.deserialize(data, offset)
        return results
