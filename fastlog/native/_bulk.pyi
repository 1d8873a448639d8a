"""What `Producer.send_many` does: many records into the open batches of a topic, without the GIL where it can."""

from collections.abc import Iterable
from typing import TypeAlias, final

from fastlog.client.producer.batch import Batch
from fastlog.client.producer.partitioner import Partitioner
from fastlog.native._column import Column
from fastlog.native._sending import Sending

Buffer: TypeAlias = bytes | bytearray | memoryview

@final
class Segment:
    """Records of one `send_many` that lie one after the other in one batch.

    `record` is the number of the first: in the order in which they were given or, where they were spread by key,
    among those of its partition.
    """

    @property
    def batch(self) -> Batch: ...
    @property
    def first(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def record(self) -> int: ...

@final
class Handover:
    """Where the records of one `send_many` went. Made before the first one, grows with them."""

    def __new__(cls, spread: bool) -> Handover: ...
    @property
    def segments(self) -> list[Segment]: ...
    @property
    def count(self) -> int: ...
    @property
    def is_spread(self) -> bool:
        """Whether records were spread by key: then `record` of a segment counts within its partition."""

    def records_of(self, partition: int) -> list[int]:
        """The numbers of the records that went to `partition`, in order; only where they were spread by key."""

def append_many(
    producer: Sending,
    handover: Handover,
    topic: str,
    values: Iterable[Buffer | None] | Column,
    keys: Iterable[Buffer | None] | Column | None,
    *,
    partition: int | None,
    headers: Iterable[tuple[str, Buffer | None]] | None,
    timestamp_ms: int | None,
    partitioner: Partitioner | None,
) -> None:
    """Hands `values`, with `keys` where they are not None, to the batches of `topic`; `handover` says where they are.

    `partitioner` is a function in place of murmur2. Blocks and raises as `Sending.send` does; what was handed over
    before an error stays so.
    """
