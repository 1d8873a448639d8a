"""The simulation is of use only if it finds what it is there for: bugs that lost data elsewhere."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import Bugs
from tests.simulation.run import simulate

#: by then each was found; most are within a tenth of it
SEEDS = 600
EVENTS = 6_000
#: what was committed is not there where it must be, or another record is in its place
LOST = ("I5", "I2", "lost", "order")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("bugs", "sign"),
    [
        pytest.param(Bugs(truncates_to_high_watermark=True), (*LOST, "I3"), id="cuts to the high watermark"),
        pytest.param(Bugs(ignores_versions=True), ("I6", "no progress", *LOST), id="stale ISR write"),
        pytest.param(Bugs(acknowledges_without_lease=True), LOST, id="zombie leader acknowledges"),
        pytest.param(Bugs(ignores_fence=True), ("I7",), id="zombie controller"),
        pytest.param(Bugs(claims_clean_start=True), LOST, id="wiped broker elected"),
        pytest.param(Bugs(expands_below_epoch_start=True), LOST, id="joins below the epoch's start"),
        pytest.param(Bugs(forgets_producers=True), ("order",), id="appends again"),
    ],
)
def test_it_is_found(bugs: Bugs, sign: tuple[str, ...]) -> None:
    found = (simulate(seed, bugs, events=EVENTS).violation for seed in range(SEEDS))
    first = next((violation for violation in found if violation), "")
    assert first.startswith(sign), first or f"{bugs} was not found in {SEEDS} seeds"
