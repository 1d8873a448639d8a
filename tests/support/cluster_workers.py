"""Several cluster workers in one process over a real ZooKeeper; the way between them and their replicas are fakes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID, uuid4

from fastlog.broker.controller.membership import ClusterWorker
from fastlog.broker.controller.settings_book import facts_from
from fastlog.broker.peers.messages import Answer, AskSnapshot, Beacon, Delta, Snapshot
from fastlog.broker.peers.ports import ADMIN
from fastlog.cluster.incarnation import Incarnations
from fastlog.cluster.zookeeper.cluster import join_cluster
from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.election import Controller
from fastlog.ports import Registration
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import StopReplicas
from tests.support.broker import wait_until
from tests.support.driven_controller import SETTINGS, Subscriber
from tests.support.zookeeper import CLUSTER_ID

SESSION_MS = 2_000
ANSWER_SECONDS = 20.0


class Network:
    """Who is there, and whose ports refuse."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        #: brokers nobody listens for; commands to them are lost
        self.refusing: set[int] = set()
        #: moments of the elections as they were first told, by controller epoch
        self.elected: dict[int, float] = {}

    def controller(self) -> Node | None:
        """The one that everybody takes for the controller, if that is one."""
        found = {
            node.worker.controller.broker_id
            for node in self.nodes.values()
            if node.worker.controller is not None
        }
        return self.nodes.get(found.pop()) if len(found) == 1 else None


class Node:
    """One broker: its worker, and the fakes around it. It is Peers, Commands, Notices and Replicas in one."""

    def __init__(
        self,
        network: Network,
        broker_id: int,
        directory: Path,
        hosts: str,
        root: str,
        *,
        session_ms: int = SESSION_MS,
        clean_start: bool = True,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.id = broker_id
        self.network = network
        self.known: Sequence[Registration] = ()
        self.view = Subscriber()
        self.happened: list[str] = []
        self.does_stop_replicas = True
        self.stopped: list[UUID] = []
        self.lease_ns = 0
        #: who controls, as ZooKeeper said: the controller's epoch and the broker's id
        self.named = (-1, -1)
        self.beacons = 0
        self._handlers: dict[type, Callable[[Any, Callable[[Answer], None]], None]] = {}
        self._lock = threading.RLock()
        registration = Registration(
            broker_id=broker_id,
            broker_epoch=-1,
            incarnation=uuid4(),
            endpoints={"BROKER": ("127.0.0.1", broker_id)},
            clean_start=clean_start,
        )
        self.on(StopReplicas, self._stop_replicas)
        self.worker = ClusterWorker(
            registration,
            Incarnations(directory),
            connect=lambda tell: ZooKeeperConnection(hosts, root, session_ms=session_ms, tell=tell),
            join=lambda connection: join_cluster(connection, None, CLUSTER_ID),
            peers=self,
            commands=self,
            notices=self,
            replicas=self,
            probe=lambda host, port, timeout_s: port in network.refusing,
            facts=facts_from({}),
            settings=SETTINGS,
        )
        network.nodes[broker_id] = self

    # --- Peers ---

    def know(self, brokers: Sequence[Registration]) -> None:
        self.known = brokers

    def ask(
        self,
        broker_id: int,
        command: object,
        answered: Callable[[Answer], None],
        *,
        timeout_ms: int,
        lane: str,
    ) -> None:
        node = self.network.nodes.get(broker_id)
        handle = None if node is None else node._handlers.get(type(command))
        if handle is None or {broker_id, self.id} & self.network.refusing:
            answered(Answer(code=13))
        else:
            handle(command, answered)

    # --- Commands ---

    def on(self, kind: type, handle: Callable[[Any, Callable[[Answer], None]], None]) -> None:
        self._handlers[kind] = handle

    def _stop_replicas(self, order: StopReplicas, answered: Callable[[Answer], None]) -> None:
        if not self.does_stop_replicas:
            answered(Answer(code=7))
            return
        self.stopped.append(order.topic_id)
        told = ev.ReplicasStopped(
            broker_id=order.broker_id, broker_epoch=order.broker_epoch, topic_id=order.topic_id
        )
        answered(Answer(body=told))

    # --- Notices, and those of others ---

    def publish(self, notice: object) -> None:
        assert isinstance(notice, Delta | Beacon)
        self.network.elected.setdefault(notice.controller_epoch, time.monotonic())
        for node in self.network.nodes.values():
            if node is not self and not {self.id, node.id} & self.network.refusing:
                node.told(notice)

    # --- Replicas ---

    def resign(self) -> None:
        self.happened.append("resigned")

    def registered(self, registration: Registration) -> None:
        self.happened.append(f"registered {registration.broker_epoch}")

    def elected(self, controller_id: int, controller_epoch: int) -> None:
        self.named = (controller_epoch, controller_id)

    def set_lease(self, until_ns: int) -> None:
        if until_ns and not self.lease_ns:
            self.happened.append("lease")
        self.lease_ns = until_ns

    def told(self, notice: Any) -> None:
        with self._lock:
            position = (notice.controller_epoch, notice.sequence)
            self.beacons += isinstance(notice, Beacon)
            if position < self.view.position:
                return
            if isinstance(notice, Snapshot):
                self.view.start_from(notice)
            elif isinstance(notice, Delta) and position == (
                self.view.position[0],
                self.view.position[1] + 1,
            ):
                self.view.publish(notice)
            elif position > self.view.position:
                self._ask_snapshot(notice.controller_id)

    def _ask_snapshot(self, controller_id: int) -> None:
        def answered(answer: Answer) -> None:
            if isinstance(answer.body, Snapshot):
                self.told(answer.body)

        self.ask(controller_id, AskSnapshot(), answered, timeout_ms=1_000, lane=ADMIN)

    # --- what tests do with it ---

    def request(self, command: object, seconds: float = ANSWER_SECONDS) -> Answer:
        """Asks whoever controls, until somebody does."""
        deadline = time.monotonic() + seconds
        while True:
            controller = self.worker.controller
            answers: SimpleQueue[Answer] = SimpleQueue()
            target = -1 if controller is None else controller.broker_id
            self.ask(target, command, answers.put, timeout_ms=1_000, lane=ADMIN)
            try:
                answer = answers.get(timeout=max(0.01, deadline - time.monotonic()))
            except Empty:
                answer = Answer(code=7)
            if answer.code not in {7, 13, 41} or time.monotonic() > deadline:
                return answer
            time.sleep(0.02)

    def create(self, name: str, partitions: int = 1, factor: int = 1) -> Answer:
        """Creates a topic, by whichever controller; one that is there by now is as good."""
        return self.request(
            ev.CreateAsked(
                token=None,
                name=name,
                topic_id=uuid4(),
                partition_count=partitions,
                replication_factor=factor,
            )
        )

    def topic(self, name: str) -> UUID | None:
        """The id of a topic that this broker was told of."""
        with self._lock:
            return next((it for it, called in self.view.names.items() if called == name), None)

    @property
    def is_controller(self) -> bool:
        controller: Controller | None = self.worker.controller
        own = self.worker.registered
        return (
            controller is not None
            and own is not None
            and (controller.broker_id, controller.broker_epoch) == (own.broker_id, own.broker_epoch)
        )


def settled(network: Network, *others: int) -> Node:
    """Waits until the nodes agree on the controller, and all have heard of its brokers; answers it."""
    ids = set(others or network.nodes)

    def is_settled() -> bool:
        controller = network.controller()
        return (
            controller is not None
            and controller.is_controller
            and all(
                {it.broker_id for it in network.nodes[each].view.brokers} == ids
                and network.nodes[each].view.position == controller.view.position
                for each in ids
            )
        )

    wait_until("all have heard of all", is_settled)
    controller = network.controller()
    assert controller is not None
    return controller
