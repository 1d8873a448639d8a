"""Record batches -> Python objects: lazy records over one buffer; and the builder of `_builder`, re-exported."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias, final

from fastlog.native._builder import BatchBuilder, murmur2, partition_for_key

__all__ = [
    "BatchBuilder",
    "Record",
    "RecordBatch",
    "RecordIterator",
    "murmur2",
    "partition_for_key",
    "read_batches",
]

Buffer: TypeAlias = bytes | bytearray | memoryview | BatchBuilder

@final
class Record:
    """One record: immutable, equal to one with the same seven fields, hashable, picklable.

    Records out of a batch read `key`, `value` and `headers` from its buffer when asked, and keep it alive.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> None: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch, -1 for none."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class RecordBatch:
    """The records of one uncompressed batch in a buffer (see `_engine.open_batch`), from `from_offset` on.

    A malformed header raises CorruptMessageError here, a malformed record when it is reached.
    """

    def __new__(
        cls,
        buffer: Buffer,
        topic: str = "",
        partition: int = 0,
        *,
        position: int = 0,
        from_offset: int = 0,
    ) -> RecordBatch: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def base_offset(self) -> int: ...
    @property
    def last_offset(self) -> int:
        """Inclusive; stays when the cleaner removed records."""

    @property
    def next_offset(self) -> int:
        """Where a reader goes on, even if the batch is empty."""

    @property
    def max_timestamp_ms(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def leader_epoch(self) -> int: ...
    @property
    def producer_id(self) -> int: ...
    @property
    def producer_epoch(self) -> int: ...
    @property
    def base_sequence(self) -> int: ...
    @property
    def is_control(self) -> bool:
        """Whether this is a transaction marker: consumers pass over it."""

    @property
    def is_transactional(self) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> RecordIterator: ...
    def values(self) -> list[bytes | None]: ...
    def keys(self) -> list[bytes | None]: ...
    def offsets(self) -> list[int]: ...
    def timestamps_ms(self) -> list[int]: ...
    def headers(self) -> list[tuple[tuple[str, bytes | None], ...]]: ...

@final
class RecordIterator(Iterator[Record]):
    """Goes over a batch once."""

    @property
    def next_offset(self) -> int:
        """The offset after the record given last; before the first one, where the reading begins."""

    def stop(self) -> None:
        """Gives no more records: its reader has gone elsewhere."""

    def __next__(self) -> Record: ...
    def __length_hint__(self) -> int: ...
    def take(self, max_records: int, /) -> list[Record]:
        """The next records, at most `max_records`; empty at the end."""

def read_batches(
    buffer: Buffer, topic: str = "", partition: int = 0, *, from_offset: int = 0
) -> list[RecordBatch]:
    """The uncompressed batches one after the other in `buffer`, without those that end before `from_offset`."""
