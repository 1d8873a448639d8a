"""What a broker becomes by the states that are published, and in which order."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from fastlog.errors import InconsistentTopicIdError, KafkaStorageError
from fastlog.state.controller.effects import StopReplicas
from fastlog.state.controller.events import ReplicasStopped
from tests.support.replica_fakes import EPOCHS, KEY, ME, TOPIC_ID, Told, brokers, settings_of, state, topic

OTHER_ID = UUID(int=8)


def stop(name: str = "t", topic_id: UUID = TOPIC_ID, **leader_epochs: int) -> StopReplicas:
    epochs = {int(index[1:]): epoch for index, epoch in leader_epochs.items()}
    return StopReplicas(
        broker_id=ME, broker_epoch=EPOCHS[ME], topic_id=topic_id, name=name, leader_epochs=epochs
    )


def test_a_snapshot_is_carried_out_in_the_order_that_keeps_what_is_shown_true() -> None:
    it = Told()
    it.snapshot(
        topic(state(leader=2), state(leader=ME), state(leader=-1, isr=()), state(leader=3, replicas=(2, 3))),
        settings=[settings_of("t", retention_ms="5000")],
    )
    assert it.took() == [
        ("epochs", EPOCHS),
        ("settings", "t", 5000),
        ("roles", ("t", 1, ME, 1), ("t", 0, 2, 1), ("t", 2, -1, 1)),
        ("isr", "t", 1, (1, 2), (1, 2), 1, False),
        ("cluster", 9, 3),
        ("shown", ("t",), ()),
        ("follow", (0, 2, 1)),
        ("accepted", EPOCHS[ME], 1),
    ]


def test_only_newer_states_change_anything() -> None:
    it = Told()
    it.snapshot(topic(state(epoch=3, version=5)))
    it.took()
    it.delta(state(leader=2, epoch=2, version=4))
    it.delta(state(epoch=3, version=5))
    assert it.took("roles", "isr", "follow", "leave", "shown") == []


def test_a_newer_state_of_the_same_epoch_only_changes_who_is_in_sync() -> None:
    it = Told()
    it.snapshot(topic(state()))
    it.took()
    it.delta(state(version=2, isr=(1,), elr=(2,)))
    assert it.took() == [("isr", "t", 0, (1,), (1,), 2, True), ("shown", ("t",), ())]
    it.delta(state(version=3, isr=(1,), replicas=(1, 3)))
    assert it.took("roles", "isr") == [
        ("roles", ("t", 0, ME, 1)),
        ("isr", "t", 0, (1,), (1,), 3, False),
    ]


def test_leaders_become_followers_and_followers_leaders() -> None:
    it = Told()
    it.snapshot(topic(state(leader=ME), state(leader=2)))
    it.took()
    it.delta(state(leader=2, epoch=2), state(leader=ME, epoch=2))
    assert it.took("roles", "isr", "leave", "follow") == [
        ("leave", 0, 1),
        ("roles", ("t", 1, ME, 2), ("t", 0, 2, 2)),
        ("isr", "t", 1, (1, 2), (1, 2), 2, False),
        ("follow", (0, 2, 2)),
    ]
    assert (len(it.replicas.leaders), it.replicas.leaders.state(KEY)) == (1, None)


def test_a_state_that_names_a_former_process_makes_no_leader() -> None:
    it = Told()
    it.snapshot(topic(state(epoch=4, epochs={1: 5, 2: 12})))
    assert it.took("roles", "isr") == [("roles", ("t", 0, -1, 3))]
    it.delta(state(epoch=5))
    assert it.took("roles") == [("roles", ("t", 0, ME, 5))]


def test_states_are_looked_at_again_when_the_own_broker_epoch_is_known() -> None:
    it = Told(broker_epoch=None)
    it.snapshot(topic(state(epoch=0, version=1), state(epoch=2)))
    assert it.took("roles", "isr", "accepted") == [("roles", ("t", 1, -1, 1))]
    it.replicas.registered(EPOCHS[ME])
    assert it.took() == [
        ("fetches as", EPOCHS[ME]),
        ("roles", ("t", 0, ME, 0), ("t", 1, ME, 2)),
        ("isr", "t", 0, (1, 2), (1, 2), 1, False),
        ("isr", "t", 1, (1, 2), (1, 2), 2, False),
        ("accepted", EPOCHS[ME], 1),
    ]


def test_who_resigned_leads_only_what_names_the_next_registration() -> None:
    it = Told()
    it.snapshot(topic(state(epoch=2)))
    it.took()
    it.replicas.resign()
    assert it.took() == [("resign",), ("fetches as", None)]
    it.replicas.registered(21)
    assert it.took("roles", "isr") == [], "the state names the former registration"
    it.delta(state(epoch=3, epochs={1: 21, 2: 12}))
    assert it.took("roles") == [("roles", ("t", 0, ME, 3))]


def test_a_later_registration_of_its_own_ends_what_is_led_by_this_one() -> None:
    it = Told()
    it.snapshot(topic(state(), state()))
    it.took()
    it.delta(state(epoch=2, epochs={1: 21, 2: 12}))
    assert it.took("resign", "fetches as", "roles") == [("resign",), ("fetches as", None)]
    assert len(it.replicas.leaders) == 0
    it.replicas.registered(21)
    assert it.took("roles") == [("roles", ("t", 0, ME, 2))]


def test_a_role_that_failed_is_tried_again_and_not_shown_as_taken() -> None:
    it = Told()
    it.engine.refuses = {"t": KafkaStorageError.code}
    it.snapshot(topic(state(), state(leader=2)))
    assert it.took("isr", "follow") == []
    it.clock.ms += 1_000
    it.replicas.tick()
    assert it.took("roles") == [("roles", ("t", 0, ME, 1), ("t", 1, 2, 1))]
    it.engine.refuses = {}
    it.clock.ms += 1_000
    it.replicas.tick()
    assert [note[0] for note in it.took()] == ["roles", "isr", "follow"]
    it.clock.ms += 1_000
    it.replicas.tick()
    assert it.took() == []
    assert it.replicas.roles.failures == 4


def test_a_replica_that_moved_is_put_away_by_a_later_leader_epoch_only() -> None:
    it = Told()
    it.snapshot(topic(state(leader=2), state(leader=2)))
    it.took()
    it.delta(state(leader=2, version=2, replicas=(2, 3)), state(leader=2, epoch=2, replicas=(2, 3)))
    assert it.took("leave", "delete") == [("leave", 1), ("delete", "t", TOPIC_ID, ((1, 2),))]
    it.snapshot(topic(state(leader=2, version=2), state(leader=2, epoch=2, replicas=(2, 3))))
    assert it.took("roles", "delete") == []


def test_a_disk_that_does_not_put_a_replica_away_holds_up_no_other() -> None:
    it = Told()
    it.snapshot(topic(state(leader=2), state(leader=2), state()))
    it.took()
    it.engine.deletion_error = KafkaStorageError("the disk is read-only")
    it.delta(
        state(leader=2, epoch=2, replicas=(2, 3)),
        state(leader=ME, epoch=2, version=2),
        state(version=2, isr=(1,), elr=(2,)),
    )
    assert it.took("roles", "isr", "shown") == [
        ("isr", "t", 2, (1,), (1,), 2, True),
        ("roles", ("t", 1, ME, 2)),
        ("isr", "t", 1, (1, 2), (1, 2), 2, False),
        ("shown", ("t",), ()),
    ]


def test_a_replica_that_was_not_put_away_is_put_away_when_the_disk_takes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = Told()
    it.snapshot(topic(state(leader=2), state(leader=2)))
    it.engine.deletion_error = KafkaStorageError("the disk is read-only")
    elsewhere = state(leader=2, epoch=2, replicas=(2, 3))
    it.delta(elsewhere, elsewhere)
    for _ in range(2):
        it.clock.ms += 1_000
        it.replicas.tick()
    assert caplog.text.count("were not put away") == 1
    # one of them is to be here again
    it.delta(state(leader=2, epoch=3))
    it.engine.deletion_error = None
    it.took()
    it.replicas.tick()
    assert it.took("delete") == []
    it.clock.ms += 1_000
    it.replicas.tick()
    assert it.took("delete") == [("delete", "t", TOPIC_ID, ((1, 2),))]
    it.clock.ms += 1_000
    it.replicas.tick()
    assert it.took("delete") == []


def test_a_replica_that_was_not_put_away_stays_when_its_topic_is_not_named_any_more() -> None:
    it = Told()
    it.snapshot(topic(state(leader=2)))
    it.engine.deletion_error = KafkaStorageError("the disk is read-only")
    it.delta(state(leader=2, epoch=2, replicas=(2, 3)))
    it.snapshot()
    it.engine.deletion_error = None
    it.took()
    it.clock.ms += 1_000
    it.replicas.tick()
    assert it.took("delete") == []


def test_a_topic_that_is_not_named_any_more_is_left_and_not_deleted() -> None:
    it = Told()
    it.snapshot(topic(state(), state(leader=2)))
    it.took()
    it.snapshot()
    assert it.took() == [("deleted", 0, 1), ("shown", (), ("t",))]
    assert len(it.replicas.leaders) == 0


def test_a_deleted_topic_is_put_away_when_the_controller_says_so() -> None:
    it = Told()
    it.snapshot(topic(state(), state(leader=2)))
    it.took()
    it.delta(deleted=(TOPIC_ID,))
    (answer,) = it.command(stop(p0=1, p1=1))
    assert it.took() == [
        ("deleted", 0, 1),
        ("shown", (), ("t",)),
        ("delete", "t", TOPIC_ID, ((0, 1), (1, 1))),
    ]
    assert answer.body == ReplicasStopped(broker_id=ME, broker_epoch=EPOCHS[ME], topic_id=TOPIC_ID)


def test_what_is_heard_of_a_topic_after_it_was_put_away_opens_nothing() -> None:
    it = Told()
    it.snapshot(topic(state()))
    it.took()
    it.command(stop())
    it.delta(state(leader=2, epoch=2))
    assert it.took("deleted", "delete", "roles", "follow") == [
        ("deleted", 0),
        ("delete", "t", TOPIC_ID, "all"),
    ]


def test_a_topic_that_was_put_away_before_its_beginning_was_heard_opens_nothing() -> None:
    it = Told()
    it.snapshot()
    it.command(stop())
    it.delta(topics=(topic(state()),))
    it.delta(deleted=(TOPIC_ID,))
    assert it.took("roles") == []
    it.delta(topics=(topic(state(), topic_id=OTHER_ID),))
    assert it.took("roles") == [("roles", ("t", 0, ME, 1))], "its namesake"


def test_a_namesake_waits_until_the_deleted_topic_is_put_away() -> None:
    it = Told()
    it.snapshot(topic(state()))
    it.engine.refuses = {"t": InconsistentTopicIdError.code}
    it.took()
    it.delta(deleted=(TOPIC_ID,), topics=(topic(state(), topic_id=OTHER_ID),))
    assert it.took("roles", "shown", "isr") == [
        ("roles", ("t", 0, ME, 1)),
        ("shown", (), ("t",)),
        ("shown", ("t",), ()),
    ]
    it.engine.refuses = {}
    it.command(stop(p0=1))
    it.replicas.tick()
    assert it.took("delete", "roles", "isr") == [
        ("delete", "t", TOPIC_ID, ((0, 1),)),
        ("roles", ("t", 0, ME, 1)),
        ("isr", "t", 0, (1, 2), (1, 2), 1, False),
    ]


def test_a_disk_that_refuses_to_put_replicas_away_is_told_and_they_are_asked_for_again() -> None:
    it = Told()
    it.snapshot(topic(state()))
    it.engine.deletion_error = KafkaStorageError("the disk is read-only")
    (answer,) = it.command(stop(p0=1))
    assert (answer.code, answer.body) == (KafkaStorageError.code, None)
    it.engine.deletion_error = None
    (answer,) = it.command(stop(p0=1))
    assert answer.code == 0


@pytest.mark.parametrize("is_snapshot", [True, False])
def test_changed_settings_reach_the_logs(is_snapshot: bool) -> None:
    it = Told()
    it.snapshot(topic(state()), settings=[settings_of("t", retention_ms="5000")])
    it.took()
    changed = settings_of("t", version=2, retention_ms="6000")
    if is_snapshot:
        it.snapshot(topic(state()), settings=[changed])
    else:
        it.delta(settings=(changed,))
    assert it.took() == [("settings", "t", 6000)]
    assert it.replicas.image.topic_settings("t").retention_ms == 6000


def test_settings_of_this_broker_reach_the_logs_of_all_topics() -> None:
    it = Told()
    it.snapshot(topic(state()), topic(state(), name="u", topic_id=OTHER_ID))
    it.took()
    mine = settings_of("t", log_retention_ms="7000")
    resource = msgspec.structs.replace(mine.resource, kind="broker", name=str(ME))
    others = msgspec.structs.replace(mine.resource, kind="broker", name="2")
    it.delta(settings=(msgspec.structs.replace(mine, resource=others),))
    assert it.took() == []
    it.delta(settings=(msgspec.structs.replace(mine, resource=resource),))
    assert sorted(it.took()) == [("configure", 86_400_000), ("settings", "t", 7000), ("settings", "u", 7000)]


@pytest.mark.parametrize("is_snapshot", [True, False])
def test_a_setting_that_cannot_be_is_named_once_and_keeps_nothing_from_being_led(
    is_snapshot: bool, caplog: pytest.LogCaptureFixture
) -> None:
    it = Told()
    bad = settings_of("t", min_insync_replicas="-5", retention_ms="6000")
    if is_snapshot:
        it.snapshot(topic(state()), settings=[bad])
        it.snapshot(topic(state()), settings=[bad])
    else:
        it.delta(topics=(topic(state()),), settings=(bad,))
    assert it.replicas.image.topic_settings("t").min_insync_replicas == 1
    assert it.replicas.image.topic_settings("t").retention_ms == 6000
    assert len(it.replicas.leaders) == 1
    (said,) = [record.getMessage() for record in caplog.records if "stored setting" in record.getMessage()]
    for field in ('resource="topic t"', "key=min.insync.replicas", "value=-5", "out of range"):
        assert field in said


def test_a_setting_of_all_brokers_that_cannot_be_is_not_in_force() -> None:
    it = Told()
    it.snapshot(topic(state()))
    mine = settings_of("t", log_retention_ms="soon", min_insync_replicas="10" * 20)
    everybody = msgspec.structs.replace(mine.resource, kind="broker", name="")
    it.delta(settings=(msgspec.structs.replace(mine, resource=everybody),))
    settings = it.replicas.image.topic_settings("t")
    assert (settings.min_insync_replicas, settings.retention_ms) == (1, -1)


def test_an_own_registration_is_accepted_once_for_each_controller_epoch() -> None:
    it = Told()
    it.snapshot(live={2: 12})
    assert it.took("accepted") == []
    it.delta(brokers=brokers({1: 10, 2: 12}))
    assert it.took("accepted") == [], "a former one"
    it.delta(brokers=brokers())
    it.delta(brokers=brokers({1: 11}))
    assert it.took("accepted") == [("accepted", EPOCHS[ME], 1)]
