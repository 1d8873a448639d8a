"""Python objects -> record batches: the producer's work per record, and Java's hash of keys."""

from collections.abc import Iterable
from typing import TypeAlias, final

Buffer: TypeAlias = bytes | bytearray | memoryview

@final
class BatchBuilder:
    """Collects records into the bytes that will lie on the broker's disk."""

    def __new__(cls, limit_bytes: int, /) -> BatchBuilder: ...
    def append(
        self,
        value: Buffer | None,
        key: Buffer | None = None,
        headers: Iterable[tuple[str, Buffer | None]] | None = None,
        timestamp_ms: int = -1,
    ) -> bool:
        """Adds a record; False, and nothing done, if the batch would then exceed `limit_bytes`.

        The first record is always taken, whatever its size. Null (None) and empty differ.
        """

    def grow(self, limit_bytes: int, /) -> None:
        """Takes records up to `limit_bytes` from now on. Raises ValueError where that is less than before."""

    def seal_with(self, header: Buffer, /) -> None:
        """Writes the 61 bytes of a header and ends the batch; for `seal_batch`."""

    @property
    def count(self) -> int: ...
    @property
    def size_bytes(self) -> int:
        """Size of the batch if it is sealed uncompressed, header included."""

    @property
    def limit_bytes(self) -> int: ...
    @property
    def base_timestamp_ms(self) -> int: ...
    @property
    def max_timestamp_ms(self) -> int: ...
    @property
    def is_sealed(self) -> bool: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def murmur2(key: Buffer, /) -> int:
    """The hash of `key` that Java's clients partition by, as a signed 32-bit integer."""

def partition_for_key(key: Buffer, partitions: int, /) -> int:
    """The partition of `key` as Java's default partitioner chooses: murmur2, its sign bit cleared, modulo."""
