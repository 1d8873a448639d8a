"""A producer that a bench can leave in a hurry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastlog.client.producer.producer import Producer

if TYPE_CHECKING:
    from collections.abc import Iterator

#: a bench that ends as it should has flushed; one that does not must not wait two minutes for a broker that died
CLOSE_SECONDS = 1.0
#: nor a minute for the metadata of a topic that it has just made
MAX_BLOCK_MS = 10_000


@contextmanager
def producer_at(bootstrap: str, **options: Any) -> Iterator[Producer]:
    """A producer with `options`; what is not acknowledged within a second of the end is given up."""
    producer = Producer(bootstrap, max_block_ms=MAX_BLOCK_MS, **options)
    try:
        yield producer
    finally:
        producer.close(CLOSE_SECONDS)
