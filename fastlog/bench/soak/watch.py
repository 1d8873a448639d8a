"""Whether a process stays as large as it is: samples by the second, compared by thirds of the run."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: the last third may be so much larger than the second; the first is for warming up
GROWTH_MAX = 1.05
#: with fewer samples, one a second, a warm-up is not over in the first third
SAMPLES_MIN = 45


def growth(samples: Sequence[float]) -> float | None:
    """The median of the last third by that of the second; None where there are too few samples to tell."""
    if len(samples) < SAMPLES_MIN:
        return None
    third = len(samples) // 3
    return median(samples[-third:]) / median(samples[-2 * third : -third])


def is_flat(samples: Sequence[float]) -> bool:
    """False where the samples grew by more than GROWTH_MAX, and only then."""
    found = growth(samples)
    return found is None or found <= GROWTH_MAX
