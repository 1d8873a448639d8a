"""A position that a group keeps."""

from __future__ import annotations

from typing import NamedTuple


class CommittedOffset(NamedTuple):
    """A committed position: the next offset to be read, and what was stored beside it."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1
