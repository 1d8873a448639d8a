"""What the controller decides is carried out in order, told in order, and ends with its term."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from fastlog.broker.peers.messages import Answer, AskRefused, Delta, SetConfigs, Settings, Snapshot
from fastlog.errors import RequestTimedOutError
from fastlog.ports import Broken, ConfigResource, PartitionKey, StoredConfigs
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import AskLogEnds, Reply, StopReplicas
from tests.support.driven_controller import Driven

ORDERS, PAYMENTS = UUID(int=1), UUID(int=2)
ALL_BROKERS = ConfigResource("broker", "")
OF_ORDERS = ConfigResource("topic", "orders")
NOT_CONTROLLER = 41
#: asked of the next controller again, which may find that it was made
UNKNOWN = RequestTimedOutError.code


def three() -> Driven:
    """A controller with three brokers and nothing stored."""
    driven = Driven()
    for broker in (1, 2, 3):
        driven.world.register(broker)
    driven.elect()
    driven.settle()
    return driven


def gone(driven: Driven, broker: int) -> None:
    del driven.world.registrations[broker]
    driven.driver.brokers(driven.world.registered())


def test_a_topic_is_answered_once_it_is_written_and_told() -> None:
    driven = three()
    answers = driven.create("orders", ORDERS, 3, replication_factor=3, configs={"min.insync.replicas": "2"})
    driven.schedule.run()
    assert not answers
    assert ORDERS not in driven.subscriber.topics
    driven.settle()
    (answer,) = answers
    assert answer.code == 0
    assert isinstance(answer.body, Reply)
    assert answer.body.topic is not None
    assert answer.body.topic.topic_id == ORDERS
    delta = driven.subscriber.deltas[-1]
    assert delta.topics == (answer.body.topic,)
    assert delta.settings == (Settings(resource=OF_ORDERS, values={"min.insync.replicas": "2"}, version=1),)


def test_the_own_replicas_begin_with_a_snapshot_and_go_on_with_the_deltas() -> None:
    driven = three()
    driven.create("orders", ORDERS)
    driven.settle()
    first, *others = driven.replicas.notices
    assert isinstance(first, Snapshot)
    assert (first.controller_epoch, first.sequence) == (1, 1)
    assert others == driven.subscriber.deltas[1:]


def test_notices_go_on_while_the_store_hangs() -> None:
    driven = three()
    driven.create("orders", ORDERS)
    for _ in range(4):
        driven.schedule.advance(250)
        driven.driver.beacon()
    assert [it.sequence for it in driven.subscriber.beacons] == [1, 1, 1, 1]
    assert driven.snapshot().sequence == 1


def test_leaders_that_move_are_told_before_all_else_is_written() -> None:
    driven = three()
    driven.create("orders", ORDERS, 4000, replication_factor=3)
    driven.settle()
    deltas, calls = len(driven.subscriber.deltas), len(driven.world.calls)
    gone(driven, 1)
    driven.stores.run_one()
    driven.schedule.run()
    assert len(driven.world.calls) == calls + 1
    told = [it for delta in driven.subscriber.deltas[deltas:] for it in delta.partitions]
    assert len(told) == 990
    assert all(state.leader_epoch == 1 for _, state in told)
    driven.settle()
    # 99 partitions a transaction, ten transactions a call
    assert len(driven.world.calls) == calls + 5
    assert not any(1 in state.isr for state in driven.subscriber.topics[ORDERS])


def test_a_write_without_an_answer_is_read_back() -> None:
    driven = three()
    driven.create("orders", ORDERS, replication_factor=3)
    driven.settle()
    driven.world.outcomes.extend(["applied"])
    gone(driven, 1)
    driven.settle()
    assert driven.world.calls[-1][0] == "read_partitions"
    assert driven.subscriber.topics[ORDERS] == [driven.world.states[PartitionKey(ORDERS, 0)]]


@pytest.mark.parametrize("outcome", ["lost", "applied"])
def test_a_topic_without_an_answer_is_written_again(outcome: str) -> None:
    driven = three()
    driven.world.outcomes.append(outcome)
    answers = driven.create("orders", ORDERS, configs={"retention.ms": "1"})
    driven.settle()
    assert not answers
    driven.pass_time()
    assert [it.code for it in answers] == [0]
    assert driven.snapshot() == driven.subscriber.snapshot(1)


def test_growth_whose_answer_was_lost_is_recognised() -> None:
    driven = three()
    driven.create("orders", ORDERS)
    driven.settle()
    driven.world.outcomes.append("applied")
    answers = driven.ask(ev.GrowAsked(token=None, topic_id=ORDERS, count=3))
    driven.pass_time()
    assert [it.code for it in answers] == [0]
    assert len(driven.subscriber.topics[ORDERS]) == 3


def test_who_is_fenced_answers_everybody_and_tells_nothing_more() -> None:
    driven = three()
    answers = [*driven.create("orders", ORDERS), *driven.create("payments", PAYMENTS)]
    waiting = driven.create("orders", ORDERS), driven.create("late", UUID(int=3))
    configs: list[Answer] = []
    driven.driver.set_configs(
        SetConfigs(resource=ALL_BROKERS, values={"a": "b"}, expected_version=0), configs.append
    )
    driven.world.epoch += 1
    before = len(driven.subscriber.deltas), len(driven.replicas.notices)
    driven.settle()
    assert not driven.driver.is_active
    assert driven.resigned == 1
    assert not answers
    assert [it.code for it in waiting[1]] == [UNKNOWN]
    assert [it.code for it in configs] == [UNKNOWN]
    driven.pass_time()
    assert (len(driven.subscriber.deltas), len(driven.replicas.notices)) == before
    assert not driven.world.topics


def test_what_a_former_term_had_on_its_way_is_dropped() -> None:
    driven = three()
    first = driven.create("orders", ORDERS)
    call = driven.stores.waiting.popleft()
    driven.driver.end()
    assert [it.code for it in first] == [UNKNOWN]
    driven.elect()
    calls = len(driven.world.calls)
    call()
    driven.settle()
    assert len(driven.world.calls) == calls
    assert [it.code for it in driven.create("orders", ORDERS)] == []
    driven.settle()
    assert driven.snapshot() == driven.subscriber.snapshot(1)


def test_what_was_written_in_a_former_term_is_told_by_the_next_one() -> None:
    driven = three()
    answers: list[Answer] = []
    command = SetConfigs(resource=ALL_BROKERS, values={"min.insync.replicas": "2"}, expected_version=0)
    driven.driver.set_configs(command, answers.append)
    driven.stores.run_one()
    # it was written, and the term ends before that is known
    driven.driver.end()
    driven.elect()
    assert driven.subscriber.settings[ALL_BROKERS].version == 1
    deltas = len(driven.subscriber.deltas)
    driven.settle()
    assert len(driven.subscriber.deltas) == deltas
    assert [it.code for it in answers] == [UNKNOWN]


def test_whoever_does_not_control_says_so() -> None:
    driven = Driven()
    answers = driven.create("orders", ORDERS)
    driven.driver.ask_snapshot(answers.append)
    driven.driver.set_configs(SetConfigs(resource=ALL_BROKERS, values={}, expected_version=0), answers.append)
    suspected = ev.Suspected(by=2, by_epoch=12, of=3, of_epoch=13, refused=True)
    answers += driven.ask(suspected)
    assert [it.code for it in answers] == [NOT_CONTROLLER] * 4


# --- settings ---


def put(driven: Driven, resource: ConfigResource, values: dict[str, str], expected: int) -> Answer:
    answers: list[Answer] = []
    command = SetConfigs(resource=resource, values=values, expected_version=expected)
    driven.driver.set_configs(command, answers.append)
    driven.settle()
    return answers[0]


def test_settings_are_written_then_obeyed_then_told() -> None:
    driven = three()
    driven.create("orders", ORDERS, replication_factor=3)
    driven.settle()
    answer = put(driven, ALL_BROKERS, {"min.insync.replicas": "3"}, 0)
    assert answer.body == Settings(resource=ALL_BROKERS, values={"min.insync.replicas": "3"}, version=1)
    assert driven.subscriber.settings[ALL_BROKERS] == answer.body
    # with three needed, who leaves stays eligible
    gone(driven, 3)
    driven.settle()
    assert driven.subscriber.topics[ORDERS][0].elr == (3,)
    # the topic's own value goes before that of all brokers, and ends that
    assert put(driven, OF_ORDERS, {"min.insync.replicas": "2"}, 1).code == 0
    assert driven.subscriber.topics[ORDERS][0].elr == ()
    assert driven.snapshot() == driven.subscriber.snapshot(1)


def test_settings_of_another_version_are_refused_with_what_there_is() -> None:
    driven = three()
    driven.create("orders", ORDERS)
    driven.settle()
    assert put(driven, OF_ORDERS, {"retention.ms": "1"}, 1).code == 0
    answer = put(driven, OF_ORDERS, {"retention.ms": "2"}, 1)
    assert answer.code == 95
    assert answer.body == Settings(resource=OF_ORDERS, values={"retention.ms": "1"}, version=2)
    assert put(driven, ConfigResource("topic", "absent"), {}, 1).code == 3


def test_settings_whose_answer_was_lost_are_told_when_they_are_found() -> None:
    driven = three()
    driven.world.outcomes.append("applied")
    assert put(driven, ALL_BROKERS, {"min.insync.replicas": "2"}, 0).code == 7
    assert ALL_BROKERS not in driven.subscriber.settings
    driven.pass_time()
    assert driven.subscriber.settings[ALL_BROKERS].version == 1


def test_facts_of_what_is_stored_are_obeyed_from_the_start() -> None:
    driven = three()
    driven.create("orders", ORDERS, replication_factor=3)
    driven.settle()
    driven.world.configs[ALL_BROKERS] = StoredConfigs({"unclean.leader.election.enable": "true"}, 1)
    driven.driver.end()
    driven.elect()
    for broker in (1, 2):
        gone(driven, broker)
        driven.settle()
    # only 3 was left in sync; 1 is back as the only one
    gone(driven, 3)
    driven.world.register(1, clean=False)
    driven.driver.brokers(driven.world.registered())
    driven.settle()
    state = driven.subscriber.topics[ORDERS][0]
    assert (state.leader, state.recovering) == (1, True)


# --- orders ---


def test_replicas_are_stopped_until_they_are() -> None:
    driven = three()
    driven.create("orders", ORDERS, replication_factor=2)
    driven.settle()
    driven.ask(ev.DeleteAsked(token=None, topic_id=ORDERS))
    driven.settle()
    first, second = driven.peers.take(StopReplicas)
    first[2](Answer(code=13))
    stopped = msgspec.convert(
        {"broker_id": second[0], "broker_epoch": second[1].broker_epoch, "topic_id": ORDERS},
        ev.ReplicasStopped,
    )
    second[2](Answer(body=stopped))
    driven.settle()
    assert not driven.peers.take(StopReplicas)
    driven.schedule.advance(1_000)
    ((broker, order, answered),) = driven.peers.take(StopReplicas)
    assert broker == first[0]
    assert driven.world.deletions
    answered(
        Answer(body=ev.ReplicasStopped(broker_id=broker, broker_epoch=order.broker_epoch, topic_id=ORDERS))
    )
    driven.settle()
    assert not driven.world.deletions


def test_nobody_goes_on_telling_a_broker_that_is_gone() -> None:
    driven = three()
    driven.create("orders", ORDERS, replication_factor=3)
    driven.settle()
    driven.ask(ev.DeleteAsked(token=None, topic_id=ORDERS))
    driven.settle()
    asked = driven.peers.take(StopReplicas)
    gone(driven, 3)
    for _, _, answered in asked:
        answered(Answer(code=7))
    driven.schedule.advance(1_000)
    assert {it[0] for it in driven.peers.take(StopReplicas)} == {1, 2}


def test_log_ends_that_are_told_elect() -> None:
    driven = three()
    driven.create("orders", ORDERS, replication_factor=1)
    driven.settle()
    (state,) = driven.subscriber.topics[ORDERS]
    gone(driven, state.leader)
    fresh = driven.world.register(state.leader, clean=False)
    driven.driver.brokers(driven.world.registered())
    driven.settle()
    ((broker, order, answered),) = driven.peers.take(AskLogEnds)
    end = ev.LogEnd(PartitionKey(ORDERS, 0), 0, 7)
    answered(Answer(body=ev.LogEndsTold(broker_id=broker, broker_epoch=order.broker_epoch, ends=(end,))))
    driven.settle()
    (state,) = driven.subscriber.topics[ORDERS]
    assert (state.leader, state.isr_epochs) == (broker, (fresh.broker_epoch,))


def test_when_one_is_refused_all_others_are_asked_to_look() -> None:
    driven = three()
    epochs = {it.broker_id: it.broker_epoch for it in driven.world.registered()}
    suspected = ev.Suspected(by=2, by_epoch=epochs[2], of=3, of_epoch=epochs[3], refused=True)
    assert [it.code for it in driven.ask(suspected)] == [0]
    assert [(broker, command) for broker, command, _ in driven.peers.take(AskRefused)] == [
        (1, AskRefused(broker_id=3, broker_epoch=epochs[3]))
    ]
    # once in a while is enough
    driven.ask(suspected)
    assert not driven.peers.take(AskRefused)


def test_garbage_is_named_and_its_topic_not_made_anew() -> None:
    driven = Driven()
    driven.world.register(1)
    driven.elect([Broken("/topics/orders", "not JSON", "orders")])
    answers = driven.create("orders", ORDERS)
    assert [it.code for it in answers] == [36]
    # brokers keep what they have of it
    assert driven.snapshot().unreadable == ("orders",)


@pytest.mark.parametrize("value", ["-5", str(10**20), "9" * 5_000, "two"], ids=["-5", "1e20", "9s", "two"])
def test_stored_settings_that_cannot_be_keep_no_controller_from_beginning(value: str) -> None:
    driven = three()
    driven.create("orders", ORDERS, replication_factor=2)
    driven.settle()
    driven.world.configs[OF_ORDERS] = StoredConfigs({"min.insync.replicas": value}, 2)
    driven.world.configs[ALL_BROKERS] = StoredConfigs({"min.insync.replicas": value}, 1)
    driven.elect()
    driven.settle()
    assert driven.driver.is_active
    answers = driven.create("payments", PAYMENTS)
    driven.settle()
    assert [it.code for it in answers] == [0]
    # the values are told as they are stored, and are nobody's in force
    told = {it.resource: it.values for it in driven.snapshot().settings}
    assert told[OF_ORDERS] == {"min.insync.replicas": value}


def test_after_an_error_of_ours_nothing_is_kept() -> None:
    driven = three()
    driven.create("orders", ORDERS)
    driven.driver.abandon()
    driven.settle()
    assert not driven.driver.is_active
    driven.elect()
    driven.settle()
    assert driven.snapshot() == driven.subscriber.snapshot(1)


def test_an_error_of_the_store_that_nobody_thought_of_reaches_the_schedule() -> None:
    driven = three()
    driven.world.outcomes.clear()
    driven.world.topics = None  # type: ignore[assignment]
    driven.create("orders", ORDERS)
    driven.stores.run_one()
    with pytest.raises(TypeError):
        driven.schedule.run()


def test_each_delta_names_its_controller() -> None:
    driven = three()
    driven.create("orders", ORDERS)
    driven.settle()
    assert {(it.controller_id, it.controller_epoch) for it in driven.subscriber.deltas} == {(1, 1)}
    assert all(isinstance(it, Delta) for it in driven.subscriber.deltas)
