"""Planted bugs: each is a way in which other systems lost data, and the simulator must find it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bugs:
    """None is on by default."""

    min_isr: int = 2
    #: a follower cuts its log to its high watermark when it begins to follow (before KIP-101)
    truncates_to_high_watermark: bool = False
    #: a leader adds a follower to its ISR that has not reached the start of its epoch, or its high watermark, nor its
    #: end for long
    expands_below_epoch_start: bool = False
    #: a leader whose lease is over goes on acknowledging what no follower has
    acknowledges_without_lease: bool = False
    #: the store takes writes of a former controller
    ignores_fence: bool = False
    #: the store takes a state that was made from an older one: an ISR write that was on its way for long wins
    ignores_versions: bool = False
    #: a wiped or torn broker says that it started clean
    claims_clean_start: bool = False
    #: a leader appends again what a producer sends again
    forgets_producers: bool = False
