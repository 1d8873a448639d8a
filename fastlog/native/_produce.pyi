"""Produce requests of many small batches: sealed, encoded and read the answers of in one call each."""

from typing import Final, final

from fastlog.client.producer.accumulator import Accumulator
from fastlog.client.producer.requests import Entry
from fastlog.native._engine import Buffer

#: the first version of Produce with compact lengths
FIRST_VERSION: Final = 9

def seal_plain(entries: list[Entry]) -> list[Entry]:
    """Seals the batches that were never sealed, without compression; returns the entries that are left to be."""

def request_parts(
    entries: list[Entry],
    ids: dict[str, bytes],
    version: int,
    correlation_id: int,
    client_id: str | None,
    acks: int,
    timeout_ms: int,
) -> list[Buffer]:
    """A Produce request with its header, in parts: the batches of `entries`, all sealed, by their topics.

    Puts `entries` into the order of the request. `version` has compact lengths (FIRST_VERSION). `ids` has the ids of
    the topics, where the version has those.
    """

@final
class Written:
    """What a Produce response says that has all batches of its request in the log, in the request's order."""

    def __len__(self) -> int: ...
    def place(self, index: int) -> tuple[int, int]:
        """Base offset and time of the append (-1 where the records keep theirs) of a batch, by its place."""

def read_written(entries: list[Entry], ids: dict[str, bytes], version: int, frame: Buffer) -> Written | None:
    """What `frame`, a response with its header, says of `entries`; None where that is not that all is in the log, or
    not in this order, or not what a response is: to be read by the codec then.

    `ids` has the ids of the topics, where the version has those.
    """

def acknowledge(accumulator: Accumulator, entries: list[Entry], written: Written, now_ms: float) -> list[int]:
    """Ends the batches about which nobody is to be told, under the lock; returns the numbers of the others."""
