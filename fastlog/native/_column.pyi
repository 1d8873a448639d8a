"""Where the records of `send_many` come from: lists, iterators, and buffers with offsets, as addresses and sizes."""

from typing import final

from typing_extensions import Buffer

@final
class Column:
    """Byte strings that lie one after the other in one buffer, as in Arrow's binary and string arrays.

    `offsets` is a buffer of n + 1 integers of 4 or 8 bytes in the machine's order: string i is
    `data[offsets[i]:offsets[i + 1]]`. A buffer of plain bytes holds integers of `offset_bytes` (4: Arrow's binary
    and string; 8: their large forms). There are no nulls. Both buffers are held, not copied: leave them unchanged
    until `send_many` has returned. Raises TypeError and ValueError where they do not fit together.
    """

    def __new__(cls, data: Buffer, offsets: Buffer, *, offset_bytes: int = 4) -> Column: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> bytes: ...
