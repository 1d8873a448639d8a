"""The application's callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.client.committed_offset import CommittedOffset
    from fastlog.client.consumer.topic_partition import TopicPartition
    from fastlog.errors import FastlogError

    #: is told partitions
    Listener = Callable[[frozenset[TopicPartition]], object]
    #: is told what was to be committed, and the error if that failed
    Committed = Callable[[dict[TopicPartition, CommittedOffset], FastlogError | None], object]


@dataclass(frozen=True, slots=True)
class Listeners:
    """What is called when partitions come and go; see `docs/consumer.md`."""

    on_assign: Listener | None = None
    on_revoke: Listener | None = None
    on_lost: Listener | None = None
