"""What a broker of a cluster has the controller do, with a controller that answers as the test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from fastlog.broker import patience
from fastlog.broker.api import create_topics
from fastlog.broker.configs import Alteration, AlterOperation
from fastlog.broker.controller.replies import may_be_made
from fastlog.broker.forwarding import controller_link
from fastlog.broker.forwarding.configs import ClusterConfigs
from fastlog.broker.forwarding.controller_link import ControllerLink
from fastlog.broker.forwarding.placement import ClusterPlacement
from fastlog.broker.forwarding.topics import ClusterTopics
from fastlog.broker.patience import TimeLeft
from fastlog.broker.peers.messages import Answer, AskSnapshot, SetConfigs, Settings
from fastlog.broker.ports import Publisher
from fastlog.broker.topic_directory import NewTopic, TopicDirectory
from fastlog.config import Config
from fastlog.errors import (
    InvalidReplicaAssignmentError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    InvalidUpdateVersionError,
    KafkaError,
    NotControllerError,
    PolicyViolationError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from fastlog.ports import ConfigResource, PartitionKey, PartitionState, Registration, StoredConfigs, Topic
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.state.controller.effects import Item, Reply
from fastlog.state.controller.events import CreateAsked, DeleteAsked, ElectAsked, GrowAsked, ReassignAsked
from tests.support.control_plane import context

OWN, CONTROLLER = 1, 2
LOST = Answer(code=13, message="the connection went")
NOT_CONTROLLER = Answer(code=41, message="look elsewhere")
ORDERS = ConfigResource("topic", "orders")


def topic(name: str, topic_id: UUID, partitions: int = 1, replicas: tuple[int, ...] = (1, 2)) -> Topic:
    state = PartitionState(replicas=replicas, leader=replicas[0], leader_epoch=0, isr=replicas)
    return Topic(name=name, topic_id=topic_id, partitions=(state,) * partitions)


class World:
    """Both the image and the way to the controller."""

    def __init__(self) -> None:
        self.directory = TopicDirectory()
        self.controller = CONTROLLER
        self.settings: dict[ConfigResource, StoredConfigs] = {}
        self.asked: list[Any] = []
        self.lanes: list[str] = []
        self.script: list[Callable[[Any], Answer]] = []

    # --- Peers ---

    def know(self, brokers: Any) -> None:
        """Nothing to do."""

    def ask(
        self,
        broker_id: int,
        command: object,
        answered: Callable[[Answer], None],
        *,
        timeout_ms: int,
        lane: str,
    ) -> None:
        """Answers as the script goes on."""
        assert broker_id == CONTROLLER
        self.asked.append(command)
        self.lanes.append(lane)
        answered(self.script.pop(0)(command))

    # --- Image ---

    @property
    def config(self) -> Config:
        """Three partitions for who names no number."""
        return Config(static={"num.partitions": "3", "default.replication.factor": "2"})

    @property
    def brokers(self) -> Mapping[int, Registration]:
        """Nobody asks."""
        return {}

    @property
    def controller_id(self) -> int:
        """Who controls."""
        return self.controller

    def stored(self, resource: ConfigResource) -> StoredConfigs:
        """As told."""
        return self.settings.get(resource, StoredConfigs({}, 0))

    def wait_until(self, reached: Callable[[Any], bool], timeout_ms: int) -> bool:
        """What is to come has come."""
        return reached(None)

    def subscribe(self, changed: Publisher) -> Callable[[], None]:
        """Nobody does."""
        raise NotImplementedError

    def subscribe_settings(self, changed: Callable[[str | None], None]) -> Callable[[], None]:
        """Nobody does."""
        raise NotImplementedError


class CountingRandom:
    def __init__(self) -> None:
        self.last = 0

    def uuid(self) -> UUID:
        self.last += 1
        return UUID(int=self.last)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def link(world: World) -> ControllerLink:
    return ControllerLink(world, lambda: world.controller)


@pytest.fixture
def topics(world: World, link: ControllerLink) -> ClusterTopics:
    return ClusterTopics(
        image=world,
        topics=world.directory,
        configs=ClusterConfigs(image=world, controller=link),
        controller=link,
        random=CountingRandom(),
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_link, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(patience, "WAIT_MS_MIN", 50)


def made(world: World) -> Callable[[CreateAsked], Answer]:
    """Creates the topic, and has everybody know it."""

    def make(command: CreateAsked) -> Answer:
        fresh = topic(command.name, command.topic_id, max(command.partition_count, 1))
        world.directory.publish((fresh,), ())
        return Answer(body=Reply(token=None, topic=fresh))

    return make


def refused(error: KafkaError) -> Callable[[Any], Answer]:
    return lambda command: Answer(code=error.code, message=error.message)


# --- topics ---


def test_a_topic_is_created_with_the_defaults_of_this_broker(world: World, topics: ClusterTopics) -> None:
    world.script = [made(world)]
    created = topics.create("orders", configs={"retention.ms": "5"})
    assert created == topics.named("orders")
    (asked,) = world.asked
    assert (asked.partition_count, asked.replication_factor, asked.configs) == (3, 2, {"retention.ms": "5"})
    assert world.lanes == ["admin"]


def test_assigned_replicas_go_without_numbers(world: World, topics: ClusterTopics) -> None:
    world.script = [made(world)]
    topics.create("orders", assignments={0: [1, 2], 1: [2, 1]})
    (asked,) = world.asked
    assert (asked.partition_count, asked.replication_factor) == (-1, -1)
    assert asked.assignments == {0: (1, 2), 1: (2, 1)}


def test_what_is_wrong_here_is_not_asked(world: World, topics: ClusterTopics) -> None:
    world.directory.publish((topic("a.b", UUID(int=9)),), ())
    for name in ("a b", "a_b", "a.b"):
        with pytest.raises((InvalidTopicError, TopicAlreadyExistsError)):
            topics.create(name)
    with pytest.raises(KafkaError):
        topics.create("orders", configs={"no.such": "1"})
    assert world.asked == []


def test_the_controller_is_asked_again_while_there_is_none(world: World, topics: ClusterTopics) -> None:
    world.script = [lambda _: NOT_CONTROLLER, lambda _: NOT_CONTROLLER, made(world)]
    assert topics.create("orders").name == "orders"
    assert len({it.topic_id for it in world.asked}) == 1


def test_many_topics_are_asked_for_each_and_share_the_time(
    world: World, topics: ClusterTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WAIT_MS_MIN", 20)
    wanted = [NewTopic(name=name) for name in ("orders", "a b", "clicks")]
    world.script = [made(world), refused(PolicyViolationError("one is enough"))]
    first, second, third = topics.create_all(wanted)
    assert first == topics.named("orders")
    assert isinstance(second, InvalidTopicError)
    assert isinstance(third, PolicyViolationError)
    world.script = [lambda _: LOST] * 10_000
    late = topics.create_all([NewTopic(name=name) for name in ("views", "likes")], timeout_ms=20)
    assert [type(it) for it in late] == [RequestTimedOutError] * 2
    assert {it.name for it in world.asked} == {"orders", "clicks", "views"}, "there was no time for another"


def test_no_controller_at_all(world: World, topics: ClusterTopics) -> None:
    world.controller = -1
    with pytest.raises(NotControllerError, match="no controller of the cluster is known"):
        topics.create("orders", timeout_ms=20)


@pytest.mark.parametrize("controller", [-1, CONTROLLER])
def test_what_is_known_of_the_trouble_is_said(world: World, controller: int) -> None:
    world.controller = controller
    world.script = [lambda _: Answer(code=RequestTimedOutError.code, message="no answer in time")] * 10_000
    link = ControllerLink(world, lambda: world.controller, lambda: "ZooKeeper at z:1 does not answer")
    outcome = link.ask(AskSnapshot(), timeout_ms=20)
    assert outcome.error is not None
    assert outcome.error.message.endswith("; ZooKeeper at z:1 does not answer")


def test_a_controller_that_is_not_reached(world: World, topics: ClusterTopics) -> None:
    world.script = [lambda _: LOST] * 10_000
    with pytest.raises(RequestTimedOutError, match="not reached"):
        topics.create("orders", timeout_ms=20)


@pytest.mark.parametrize("answer", [LOST, may_be_made()], ids=["lost", "resigned"])
def test_a_lost_answer_is_made_up_for(world: World, topics: ClusterTopics, answer: Answer) -> None:
    def lost(command: CreateAsked) -> Answer:
        made(world)(command)
        return answer

    world.script = [lost, refused(TopicAlreadyExistsError("it is there"))]
    assert topics.create("orders") == topics.named("orders")


def test_another_topic_of_the_name_is_none_of_ours(world: World, topics: ClusterTopics) -> None:
    def overtaken(command: CreateAsked) -> Answer:
        world.directory.publish((topic(command.name, UUID(int=99)),), ())
        return LOST

    world.script = [overtaken, refused(TopicAlreadyExistsError("it is there"))]
    with pytest.raises(TopicAlreadyExistsError):
        topics.create("orders")


def test_a_topic_grows(world: World, topics: ClusterTopics) -> None:
    before = topic("orders", UUID(int=5))
    world.directory.publish((before,), ())

    def grown(command: GrowAsked) -> Answer:
        assert (command.topic_id, command.count, command.assignments) == (before.topic_id, 4, None)
        after = topic("orders", before.topic_id, 4)
        world.directory.publish((after,), ())
        return Answer(body=Reply(token=None, topic=after))

    world.script = [grown]
    assert len(topics.grow("orders", 4).partitions) == 4
    with pytest.raises(UnknownTopicOrPartitionError):
        topics.grow("absent", 4)


def test_a_deletion_whose_answer_was_lost(world: World, topics: ClusterTopics) -> None:
    there = topic("orders", UUID(int=5))
    world.directory.publish((there,), ())

    def deleted(command: DeleteAsked) -> Answer:
        world.directory.publish((), ("orders",))
        return LOST

    world.script = [deleted, lambda _: Answer(code=100, message="no such id")]
    topics.delete(there)
    assert "orders" not in topics


def test_the_topics_of_one_request_share_its_time(world: World, topics: ClusterTopics) -> None:
    world.controller = -1
    services: Any = SimpleNamespace(
        topics=topics, is_in_cluster=True, require_topic=lambda *_: None, configs=None
    )
    wanted = [CreatableTopic(f"t-{number}", 1, 1) for number in range(100)]
    answer = create_topics.handle(services, context(), CreateTopicsRequest(topics=wanted, timeout_ms=100))
    codes = [it.error_code for it in answer.topics]
    # the first took all of it
    assert codes == [NotControllerError.code] + [RequestTimedOutError.code] * 99
    (untried,) = {it.error_message for it in answer.topics if it.error_code == RequestTimedOutError.code}
    assert untried is not None
    assert "it was not tried" in untried


def test_one_node_alone_does_all_that_it_is_asked_however_long_it_takes() -> None:
    left = TimeLeft(0, is_bounded=False)
    assert [left.ms(), left.ms()] == [0, 0]


def test_whoever_is_told_that_a_topic_exists_finds_it_here(world: World, topics: ClusterTopics) -> None:
    there = topic("orders", UUID(int=99))

    def known(reached: Callable[[Any], bool], timeout_ms: int) -> bool:
        world.directory.publish((there,), ())
        return reached(None)

    world.wait_until = known  # type: ignore[method-assign]
    world.script = [refused(TopicAlreadyExistsError("another broker was first"))]
    with pytest.raises(TopicAlreadyExistsError):
        topics.create("orders")
    assert topics.named("orders") == there


# --- settings ---


def test_settings_are_replaced_by_the_controller(world: World, link: ControllerLink) -> None:
    configs = ClusterConfigs(image=world, controller=link)

    def put(command: SetConfigs) -> Answer:
        world.settings[command.resource] = StoredConfigs(command.values, command.expected_version + 1)
        return Answer(body=Settings(resource=command.resource, values=command.values, version=1))

    world.script = [put]
    configs.replace(ORDERS, {"retention.ms": " 7 "}, validate_only=False)
    assert configs.topic_settings("orders").retention_ms == 7
    # what is so already needs no controller
    configs.replace(ORDERS, {"retention.ms": "7"}, validate_only=False)
    assert len(world.asked) == 1


def test_a_change_meets_another_ones(world: World, link: ControllerLink) -> None:
    configs = ClusterConfigs(image=world, controller=link)
    there = Settings(resource=ORDERS, values={"cleanup.policy": "delete"}, version=4)

    def overtaken(command: SetConfigs) -> Answer:
        return Answer(code=InvalidUpdateVersionError.code, message="somebody was first", body=there)

    def put(command: SetConfigs) -> Answer:
        world.settings[command.resource] = StoredConfigs(command.values, 5)
        return Answer(body=Settings(resource=ORDERS, values=command.values, version=5))

    world.script = [overtaken, put]
    add = Alteration("cleanup.policy", AlterOperation.APPEND, "compact")
    configs.alter(ORDERS, [add], validate_only=False)
    assert [(it.expected_version, it.values) for it in world.asked] == [
        (0, {"cleanup.policy": "delete,compact"}),
        (4, {"cleanup.policy": "delete,compact"}),
    ]


# --- leaders and replicas ---


def test_elections_and_reassignments_go_by_the_topics_id(world: World, link: ControllerLink) -> None:
    placement = ClusterPlacement(topics=world.directory, controller=link)
    orders = topic("orders", UUID(int=5), 2)
    world.directory.publish((orders,), ())
    first, second = (PartitionKey(orders.topic_id, index) for index in (0, 1))

    def elected(command: ElectAsked) -> Answer:
        assert (command.kind, command.keys) == ("preferred", (first,))
        return Answer(body=Reply(token=None, items=(Item(first, 84, "it leads"),)))

    def reassigned(command: ReassignAsked) -> Answer:
        assert command.targets == ((first, (2, 1)), (second, None))
        return Answer(body=Reply(token=None, items=(Item(first), Item(second, 85, "nothing to cancel"))))

    world.script = [elected, reassigned]
    places = [("orders", 0), ("orders", 7), ("absent", 0)]
    found = placement.elect("preferred", places, timeout_ms=100)
    assert {place: error and error.code for place, error in found.items()} == {
        ("orders", 0): 84,
        ("orders", 7): 3,
        ("absent", 0): 3,
    }
    answered = placement.reassign(
        {("orders", 0): (2, 1), ("orders", 1): None}, keep_factor=True, timeout_ms=100
    )
    assert {place: error and error.code for place, error in answered.items()} == {
        ("orders", 0): None,
        ("orders", 1): 85,
    }


def test_a_factor_that_is_to_stay_is_checked_here(world: World, link: ControllerLink) -> None:
    placement = ClusterPlacement(topics=world.directory, controller=link)
    world.directory.publish((topic("orders", UUID(int=5)),), ())
    found = placement.reassign({("orders", 0): (1, 2, 3)}, keep_factor=True, timeout_ms=100)
    assert isinstance(found["orders", 0], InvalidReplicationFactorError)
    world.script = [refused(InvalidReplicaAssignmentError("the whole"))]
    with pytest.raises(InvalidReplicaAssignmentError):
        placement.reassign({("orders", 0): (1, 2, 3)}, keep_factor=False, timeout_ms=100)
