"""Planted bugs: each is a way in which other systems lost data, and the simulator must find it."""

from __future__ import annotations

from dataclasses import dataclass

from fastlog.state.replica.follower import Fetcher
from fastlog.state.replica.isr import IsrSettings
from fastlog.state.replica.lease import Lease


@dataclass(frozen=True)
class Bugs:
    """None is on by default."""

    min_isr: int = 2
    #: a follower cuts its log to its high watermark when it begins to follow (before KIP-101)
    truncates_to_high_watermark: bool = False
    #: a leader adds a follower to its ISR that has not reached the start of its epoch, nor its end for long
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

    def isr_settings(self, lag_ms: int) -> IsrSettings:
        """The settings of a leader's ISR."""
        return IsrSettings(lag_ms=lag_ms)

    def fetcher(self) -> Fetcher:
        """A new fetcher."""
        return Fetcher()

    def epoch_start(self, offset: int) -> int:
        """Where a leader says that its epoch starts."""
        return 0 if self.expands_below_epoch_start else offset

    def behind_ms(self, behind_ms: int, *, is_member: bool) -> int:
        """How far behind a leader says that a follower is."""
        return 0 if self.expands_below_epoch_start and not is_member else behind_ms

    def acknowledges_alone(self, lease: Lease | None, now_ms: int) -> bool:
        """Whether the high watermark follows the leader's own end."""
        return self.acknowledges_without_lease and (lease is None or not lease.holds(now_ms))
