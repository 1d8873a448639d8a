"""`fastlog cluster decommission` ends when the broker holds nothing, whatever is made meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from fastlog.cli import cluster, group
from fastlog.errors import BrokerIdNotRegisteredError, InvalidReplicaAssignmentError

Place = tuple[str, int]


class Busy:
    """An Admin of a cluster where a topic is made while the first one moves, and a partition that stays."""

    def __init__(self) -> None:
        self.on_it: dict[Place, tuple[int, ...]] = {("old", 0): (1,), ("stays", 0): (1,)}

    def decommission_plan(self, broker: int) -> dict[Place, tuple[int, ...]]:
        assert broker == 4
        if not self.on_it:
            # one that is dead is known by its replicas alone
            raise BrokerIdNotRegisteredError("broker 4 is not in the cluster and holds nothing")
        return dict(self.on_it)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Busy:
    made = Busy()

    @contextmanager
    def admin_at(_bootstrap: str) -> Iterator[Busy]:
        yield made

    monkeypatch.setattr(cluster, "admin_at", admin_at)
    return made


def test_what_is_made_meanwhile_is_moved_too(
    busy: Busy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carried: list[set[Place]] = []

    def carry_out(_admin: Any, plan: Mapping[Place, Any], **_options: Any) -> dict[Place, Any]:
        carried.append(set(plan))
        for place in plan:
            if place[0] != "stays":
                del busy.on_it[place]
        if len(carried) == 1:
            busy.on_it["new", 0] = (1,)
        return {it: InvalidReplicaAssignmentError("no") if it[0] == "stays" else None for it in plan}

    monkeypatch.setattr(cluster, "carry_out", carry_out)
    assert group.run(["cluster", "decommission", "4"]) == 1
    assert carried == [{("old", 0), ("stays", 0)}, {("new", 0)}]
    said = capsys.readouterr()
    assert said.out == "moved 2 partitions\n"
    assert said.err == "stays:0: INVALID_REPLICA_ASSIGNMENT: no\n"


def test_a_dead_broker_that_holds_nothing_any_more_is_done_with(
    busy: Busy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def carry_out(_admin: Any, plan: Mapping[Place, Any], **_options: Any) -> dict[Place, Any]:
        busy.on_it.clear()
        return dict.fromkeys(plan)

    monkeypatch.setattr(cluster, "carry_out", carry_out)
    assert group.run(["cluster", "decommission", "4"]) == 0
    assert capsys.readouterr().out == "moved 2 partitions\n"
    assert group.run(["cluster", "decommission", "4"]) == 1
    assert "holds nothing" in capsys.readouterr().err
