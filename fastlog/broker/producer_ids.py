"""Producer ids: taken from the store in blocks, never given out twice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

# a block is a durable write; what is left of it at a stop is lost, and there are 2^63 ids
BLOCK_SIZE = 1000


class ProducerIdStore(Protocol):
    """What of a MetadataStore hands out producer ids."""

    def allocate_producer_ids(self, count: int) -> range:
        """Producer ids that were never handed out before and never will be again; blocks."""
        ...


class ProducerIds:
    """Hands out producer ids; safe from any thread."""

    def __init__(self, store: ProducerIdStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._block: Iterator[int] = iter(())

    def take(self) -> int:
        """A fresh id. Blocks on the store once per block; raises StoreError when that fails."""
        with self._lock:
            producer_id = next(self._block, None)
            if producer_id is None:
                self._block = iter(self._store.allocate_producer_ids(BLOCK_SIZE))
                producer_id = next(self._block)
            return producer_id
