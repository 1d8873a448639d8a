"""`fastlog cluster status` of a cluster that is not as it should be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastlog.cli import cluster, group
from fastlog.client.admin.results import (
    ClusterDescription,
    PartitionDescription,
    Reassignment,
    TopicDescription,
)
from fastlog.client.metadata import BrokerAddress


class Told:
    """An Admin of a cluster where broker 3 is away: each of the partitions has it, and those from 11 on no other."""

    def describe_cluster(self) -> ClusterDescription:
        live = (BrokerAddress(1, "one", 9092, "a"), BrokerAddress(2, "two", 9092, "b"))
        return ClusterDescription("id", 2, live)

    def describe_topics(self) -> list[TopicDescription]:
        shared = [PartitionDescription(it, 1, 5, (3, 1), (1,), (3,)) for it in range(11)]
        lost = [PartitionDescription(it, -1, 6, (3,), (), (3,)) for it in range(11, 13)]
        return [
            TopicDescription("t", "", is_internal=False, partitions=(*shared, *lost), durability=None),
        ]

    def reassignments(self) -> dict[tuple[str, int], Reassignment]:
        return {}


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def admin_at(_bootstrap: str) -> Iterator[Told]:
        yield Told()

    monkeypatch.setattr(cluster, "admin_at", admin_at)


def test_who_is_away_and_what_is_wrong_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.run(["cluster", "status"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "broker  address   rack  controller  leads  holds  behind",
        "1       one:9092  a                 11     11     0",
        "2       two:9092  b     yes         0      0      0",
        "3       -         -                 0      13     13",
        "broker 3 is away, with 13 replicas: start it again, or give them to others with "
        "`fastlog cluster decommission 3`",
        "13 partitions, 2 without a leader, 13 with replicas out of sync, 0 moving",
        "no leader: t:11",
        "no leader: t:12",
        *(f"out of sync: t:{it}" for it in range(10)),
        "out of sync: 1 more, which --json names",
    ]


def test_a_program_gets_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.run(["cluster", "status", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["out_of_sync"] == [f"t:{it}" for it in range(13)]
    assert document["without_leader"] == ["t:11", "t:12"]
    assert document["brokers"][2] == {
        "broker": 3,
        "address": None,
        "rack": None,
        "controller": False,
        "leads": 0,
        "holds": 13,
        "behind": 13,
    }
