"""What a broker knows of the cluster, and who is told of changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from uuid import UUID

import pytest

from fastlog.broker.peers.messages import Delta, Snapshot
from fastlog.broker.replicas.image import ClusterImage
from fastlog.broker.replicas.view import after
from fastlog.config import load
from fastlog.errors import UnknownTopicIdError, UnknownTopicOrPartitionError
from fastlog.ports import ConfigResource, PartitionKey, Topic
from tests.support.replica_fakes import KEY, TOPIC_ID, brokers, settings_of, state, topic

OTHER_ID = UUID(int=8)


class Listening:
    """An image, and what a subscriber was told."""

    def __init__(self) -> None:
        self.image = ClusterImage(load(), 1)
        self.told: list[tuple[list[str], list[str]]] = []
        self.settings: list[str | None] = []
        self._sequence = 0

    def listen(self) -> None:
        def changed(put: Sequence[Topic], removed: Sequence[str]) -> None:
            self.told.append(([it.name for it in put], list(removed)))

        self.image.subscribe(changed)
        self.image.subscribe_settings(self.settings.append)

    def delta(self, **fields: object) -> None:
        self._sequence += 1
        notice = Delta(controller_id=2, controller_epoch=1, sequence=self._sequence, **fields)  # type: ignore[arg-type]
        self.image.replace(after(self.image.view, notice))

    def snapshot(self, *topics: Topic, unreadable: tuple[str, ...] = ()) -> None:
        self._sequence += 1
        notice = Snapshot(
            controller_id=2,
            controller_epoch=1,
            sequence=self._sequence,
            brokers=brokers(),
            topics=topics,
            settings=(),
            unreadable=unreadable,
        )
        self.image.replace(after(self.image.view, notice))


def test_topics_are_found_by_name_and_id_until_they_are_deleted() -> None:
    it = Listening()
    it.delta(topics=(topic(state()),), brokers=brokers())
    assert it.image.named("t") is it.image.identified(TOPIC_ID)
    assert it.image.state(KEY) == state()
    assert it.image.state(PartitionKey(TOPIC_ID, 1)) is None
    assert (it.image.controller_id, sorted(it.image.brokers)) == (2, [1, 2, 3])
    it.delta(deleted=(TOPIC_ID,))
    assert "t" not in it.image
    with pytest.raises(UnknownTopicOrPartitionError):
        it.image.named("t")
    with pytest.raises(UnknownTopicIdError):
        it.image.identified(TOPIC_ID)


def test_subscribers_hear_of_all_there_is_and_then_of_each_change() -> None:
    it = Listening()
    it.delta(topics=(topic(state()),))
    it.listen()
    it.delta(partitions=((KEY, state(epoch=2)),))
    it.delta(partitions=((KEY, state(epoch=2)),))
    it.delta(topics=(topic(state(), name="u", topic_id=OTHER_ID),), deleted=(TOPIC_ID,))
    assert it.told == [(["t"], []), (["t"], []), (["u"], ["t"])]


@pytest.mark.parametrize("is_snapshot", [True, False])
def test_a_topic_that_was_made_again_is_gone_in_between(is_snapshot: bool) -> None:
    it = Listening()
    it.delta(topics=(topic(state()),))
    it.listen()
    again = topic(state(), topic_id=OTHER_ID)
    if is_snapshot:
        it.snapshot(again)
    else:
        it.delta(deleted=(TOPIC_ID,), topics=(again,))
    assert it.told[1:] == [([], ["t"]), (["t"], [])]
    assert it.image.named("t").topic_id == OTHER_ID


def test_a_topic_that_cannot_be_read_is_not_shown_and_not_forgotten() -> None:
    it = Listening()
    it.delta(topics=(topic(state()), topic(state(), name="u", topic_id=OTHER_ID)))
    it.listen()
    it.snapshot(topic(state()), unreadable=("u",))
    assert "u" not in it.image
    assert it.image.view.unreadable == {"u"}
    # deltas of the same controller say nothing of it
    it.delta(partitions=((KEY, state(epoch=2)),))
    assert it.image.view.unreadable == {"u"}
    it.snapshot(topic(state()), topic(state(), name="u", topic_id=OTHER_ID))
    assert "u" in it.image
    assert it.image.view.unreadable == frozenset()


def test_a_snapshot_takes_away_what_it_does_not_name_and_tells_only_what_changed() -> None:
    it = Listening()
    it.delta(topics=(topic(state()), topic(state(), name="u", topic_id=OTHER_ID)))
    it.listen()
    it.snapshot(topic(state()))
    assert it.told[1:] == [([], ["u"])]


def test_a_topic_grows_by_a_delta_and_a_hole_in_it_waits_for_the_snapshot() -> None:
    it = Listening()
    it.delta(topics=(topic(state()),))
    it.delta(partitions=((PartitionKey(TOPIC_ID, 1), state(epoch=0)), (PartitionKey(TOPIC_ID, 3), state())))
    assert len(it.image.named("t").partitions) == 2


def test_settings_are_layered_and_go_with_their_topic() -> None:
    it = Listening()
    it.delta(topics=(topic(state()),), settings=(settings_of("t", retention_ms="5000"),))
    it.listen()
    assert it.image.topic_settings("t").retention_ms == 5000
    it.delta(settings=(settings_of("t", version=2),))
    assert it.image.topic_settings("t").retention_ms == load().topic({}).retention_ms
    assert it.image.stored(ConfigResource("topic", "t")).version == 2
    assert it.settings == ["t"]
    it.delta(deleted=(TOPIC_ID,))
    assert it.image.stored(ConfigResource("topic", "t")).version == 0


def test_who_waits_for_a_topic_is_told_when_it_is_there() -> None:
    it = Listening()
    found: list[bool] = []
    waiting = threading.Thread(
        target=lambda: found.append(it.image.wait_until(lambda view: "t" in view.by_name, 20_000))
    )
    waiting.start()
    it.delta(topics=(topic(state()),))
    waiting.join(20)
    assert found == [True]
    assert it.image.wait_until(lambda view: "u" in view.by_name, 1) is False
