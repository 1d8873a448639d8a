"""The assignors of the coordinator: Kafka's `uniform` and `range`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.consumer_group.assignors.ranges import assign_ranges
from fastlog.state.consumer_group.assignors.uniform import assign_uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.state.consumer_group.assignors.spec import Counts, Members, Targets

ASSIGNORS: Mapping[str, Callable[[Members, Counts], Targets]] = {
    "uniform": assign_uniform,
    "range": assign_ranges,
}
