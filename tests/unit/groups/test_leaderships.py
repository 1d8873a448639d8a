"""Which partitions of groups a broker leads, as the controller tells it."""

from __future__ import annotations

from uuid import UUID

from fastlog.broker.groups.leaderships import Leaderships
from fastlog.ports import PartitionState, Topic
from fastlog.state.topic_names import OFFSETS_TOPIC

ME, OTHER, NOBODY = 1, 2, -1


def topic(*states: tuple[int, int], number: int = 7) -> Topic:
    """The topic with (leader, leader epoch) of each partition."""
    partitions = [
        PartitionState(replicas=(ME, OTHER), leader=leader, leader_epoch=epoch, isr=(ME, OTHER))
        for leader, epoch in states
    ]
    return Topic(name=OFFSETS_TOPIC, topic_id=UUID(int=number), partitions=tuple(partitions))


def test_only_what_this_broker_leads_begins_here() -> None:
    leaderships = Leaderships(ME)
    assert leaderships.told(topic((ME, 0), (OTHER, 4), (NOBODY, 1), (ME, 3))) == ([], [(0, 0), (3, 3)])
    assert leaderships.partition_count == 4


def test_a_leadership_is_over_with_the_next_leader_epoch_whoever_leads_then() -> None:
    leaderships = Leaderships(ME)
    leaderships.told(topic((ME, 0), (ME, 0), (ME, 0), (OTHER, 0)))
    assert leaderships.told(topic((OTHER, 1), (NOBODY, 1), (ME, 1), (ME, 1))) == (
        [0, 1, 2, 3],
        [(2, 1), (3, 1)],
    )


def test_what_is_told_again_or_late_changes_nothing() -> None:
    leaderships = Leaderships(ME)
    leaderships.told(topic((ME, 3)))
    assert leaderships.told(topic((ME, 3))) == ([], [])
    assert leaderships.told(topic((OTHER, 2))) == ([], [])


def test_a_topic_that_was_made_anew_begins_with_its_own_epochs() -> None:
    leaderships = Leaderships(ME)
    leaderships.told(topic((ME, 5), (OTHER, 5)))
    assert leaderships.told(topic((ME, 0), number=8)) == ([0, 1], [(0, 0)])
    assert leaderships.partition_count == 1
    leaderships.forget()
    assert leaderships.partition_count == 0
    assert leaderships.told(topic((ME, 0), number=8)) == ([], [(0, 0)])


def test_groups_stay_where_they_are_should_partitions_be_added() -> None:
    leaderships = Leaderships(ME)
    leaderships.told(topic((ME, 0)))
    assert leaderships.told(topic((ME, 0), (ME, 0))) == ([], [])
    assert leaderships.partition_count == 1
