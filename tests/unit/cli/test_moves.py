"""A plan carried out: so many at a time, what is refused or given up is told, and Ctrl-C says what goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fastlog.cli import moves, throttle
from fastlog.client.admin.results import (
    ClusterDescription,
    PartitionDescription,
    Reassignment,
    TopicDescription,
)
from fastlog.client.metadata import BrokerAddress
from fastlog.errors import (
    FastlogError,
    InvalidReplicaAssignmentError,
    NotReachableError,
    UnknownTopicOrPartitionError,
)

Place = tuple[str, int]
PLAN: dict[Place, tuple[int, ...]] = {("t", it): (2, 3) for it in range(5)}


class Cluster:
    """An Admin of a cluster where a partition arrives at the second look after it was asked for."""

    LOOKS = 2

    def __init__(self) -> None:
        self.rows: dict[Place, tuple[int, ...]] = dict.fromkeys(PLAN, (1, 2))
        self.moving: dict[Place, int] = {}
        self.refused: set[Place] = set()
        self.cancelled: set[Place] = set()
        self.most = 0
        self.deleted = False
        self.leader = 1
        self.live = {1, 2, 3}

    def reassign(self, targets: Mapping[Place, tuple[int, ...]]) -> dict[Place, Any]:
        taken = targets.keys() - self.refused
        self.moving |= dict.fromkeys(taken, self.LOOKS)
        self.most = max(self.most, len(self.moving))
        return {it: InvalidReplicaAssignmentError("no") if it in self.refused else None for it in targets}

    def reassignments(self) -> dict[Place, Reassignment]:
        for place in list(self.moving):
            self.moving[place] -= 1
            if not self.moving[place]:
                del self.moving[place]
                if place not in self.cancelled:
                    self.rows[place] = PLAN[place]
        return {it: Reassignment((2, 3, 1), (3,), (1,)) for it in self.moving}

    def describe_topic(self, name: str) -> TopicDescription:
        if self.deleted:
            raise UnknownTopicOrPartitionError("there is no such topic")
        partitions = tuple(
            PartitionDescription(index, self.leader, 0, row, row, ()) for (_, index), row in self.rows.items()
        )
        return TopicDescription(name, "", is_internal=False, partitions=partitions, durability=None)

    def describe_topics(self) -> list[TopicDescription]:
        return [self.describe_topic("t")]

    def describe_cluster(self) -> ClusterDescription:
        return ClusterDescription("", 1, tuple(BrokerAddress(it, "", 9092) for it in self.live))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(moves, "POLL_SECONDS", 0)
    return Cluster()


def carry_out(cluster: Any, at_once: int = 2, bytes_per_second: int | None = None) -> dict[Place, Any]:
    again = "fastlog cluster balance"
    return moves.carry_out(cluster, PLAN, at_once=at_once, again=again, bytes_per_second=bytes_per_second)


def test_as_many_at_a_time_as_was_said(cluster: Cluster) -> None:
    assert carry_out(cluster) == dict.fromkeys(PLAN)
    assert set(cluster.rows.values()) == {(2, 3)}
    assert cluster.most == 2


def test_one_that_is_refused_keeps_no_other_back(cluster: Cluster) -> None:
    cluster.refused = {("t", 0), ("t", 3)}
    found = carry_out(cluster)
    assert {it for it, error in found.items() if error} == cluster.refused
    assert len(found) == len(PLAN)


def test_one_that_somebody_cancels_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "HEARD_SECONDS", 0.05)
    cluster.cancelled = {("t", 1)}
    found = carry_out(cluster)
    assert [it for it, error in found.items() if error] == [("t", 1)]
    assert "its replicas are (1, 2) instead of (2, 3)" in str(found["t", 1])


@pytest.mark.parametrize(
    ("leader", "live", "says"),
    [
        (
            -1,
            {3},
            "no broker leads it, so it cannot be copied: start who has its records, of the brokers [1, 2]",
        ),
        (1, {1, 2}, "it is to be copied to the brokers [3], which are away: start them"),
        (1, {1, 2, 3}, ""),
    ],
)
def test_what_cannot_arrive_is_told_once(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    leader: int,
    live: set[int],
    says: str,
) -> None:
    monkeypatch.setattr(moves, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(Cluster, "LOOKS", 6)
    cluster.leader, cluster.live = leader, live
    assert carry_out(cluster, at_once=5) == dict.fromkeys(PLAN)
    expected = f"5 partitions cannot move now, t:0 for one: {says}\n" if says else ""
    assert capsys.readouterr().err == expected


def test_a_topic_that_is_deleted_meanwhile(cluster: Cluster) -> None:
    cluster.deleted = True
    assert {type(error) for error in carry_out(cluster).values()} == {UnknownTopicOrPartitionError}


def test_interrupted_it_says_how_to_go_on(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(FastlogError, match=r"2 partitions under way .*`fastlog cluster balance` goes on"):
        carry_out(cluster)


@pytest.mark.parametrize("lost_at", ["begin", "reassignments", "lift"])
def test_a_lost_cluster_leaves_the_throttle_and_says_how_to_lift_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, lost_at: str
) -> None:
    def lost(*_arguments: object) -> None:
        raise NotReachableError("no broker answered within 30000 ms.")

    monkeypatch.setattr(throttle, "begin", lambda *_: None)
    monkeypatch.setattr(throttle, "lift", lambda *_: None)
    monkeypatch.setattr(cluster if lost_at == "reassignments" else throttle, lost_at, lost)
    with pytest.raises(FastlogError) as caught:
        carry_out(cluster, bytes_per_second=1)
    for part in (
        "no broker answered within 30000 ms; ",
        "partitions under way will arrive",
        "`fastlog cluster balance` goes on",
        "the throttle stays until `fastlog cluster reassign --lift-throttle`",
    ):
        assert part in str(caught.value)


def test_a_lost_cluster_without_a_throttle_speaks_of_none(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise NotReachableError("no broker answered")

    monkeypatch.setattr(cluster, "reassignments", lost)
    with pytest.raises(FastlogError, match=r"no broker answered; 2 partitions under way") as caught:
        carry_out(cluster)
    assert "throttle" not in str(caught.value)


def test_nothing_to_do(cluster: Cluster) -> None:
    assert moves.carry_out(cluster, {}, at_once=1, again="") == {}  # type: ignore[arg-type]
