"""A broker of a cluster: its place in ZooKeeper, the replicas that it holds, and the ways to other brokers.

Start: the cluster's id is asked for, the directory opened, ports taken, the listener for brokers served, the broker
registered, and the first snapshot of the controller awaited: only then clients are served. Stop: the controller moves
what this broker leads, listeners end, then the registration, the replicas, the logs.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from fastlog.broker.addresses import EVERYWHERE
from fastlog.broker.api import APIS
from fastlog.broker.cluster_settings import controller_settings, replica_settings
from fastlog.broker.controller.membership import ClusterWorker
from fastlog.broker.controller.settings_book import facts_from
from fastlog.broker.forwarding.configs import ClusterConfigs
from fastlog.broker.forwarding.controller_link import ControllerLink
from fastlog.broker.forwarding.placement import ClusterBrokers, ClusterPlacement
from fastlog.broker.forwarding.topics import ClusterTopics
from fastlog.broker.housekeeping import Housekeeping, Task
from fastlog.broker.image import publish_cluster
from fastlog.broker.listening import bind_router
from fastlog.broker.node import CLEAN, reachable
from fastlog.broker.opening import Opening
from fastlog.broker.peers.client import PeerClient
from fastlog.broker.peers.messages import AskVerified
from fastlog.broker.peers.notices import NoticeListener, PublishedNotices
from fastlog.broker.peers.ports import ADMIN
from fastlog.broker.peers.server import BrokerIntake, CommandTable
from fastlog.broker.producer_ids import ProducerIds
from fastlog.broker.replicas.leader_fetcher import LeaderFetcher
from fastlog.broker.replicas.manager import ReplicaManager
from fastlog.broker.replicas.mending import Mender
from fastlog.broker.replicas.throttle import ReplicationRates
from fastlog.broker.topic_directory import TopicDirectory
from fastlog.cluster.incarnation import Incarnations
from fastlog.cluster.local import FILE_NAME as LOCAL_STORE
from fastlog.cluster.local import encode_cluster_id
from fastlog.cluster.unclean import UncleanMark
from fastlog.cluster.zookeeper.cluster import join_cluster
from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.config import BROKER, METADATA, Endpoint
from fastlog.config.zookeeper import parse_zookeeper
from fastlog.errors import FastlogError
from fastlog.events import EventLog
from fastlog.ports import Registration
from fastlog.state.topic_names import OFFSETS_TOPIC
from fastlog.transport.dealer import DealerContext
from fastlog.transport.probe import refuses
from fastlog.transport.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fastlog.broker.groups.coordinator import GroupCoordinator
    from fastlog.broker.node import Foundation
    from fastlog.cluster.zookeeper.events import ClusterEvent
    from fastlog.ports import PartitionKey, Topic

#: how long a broker waits for a controller that tells it what there is, before it gives up its start
SNAPSHOT_SECONDS = 60.0
COMPLAIN_SECONDS = 10.0
#: how long a broker that stops waits for the notice of what the controller has moved
MOVED_MS = 1_000
#: requests that change something and may wait for the controller at the same time, each on a thread
CHANGES_AT_ONCE = 128
#: whether damage was found that is to be mended is looked at so often
MENDING_MS = 500
#: how long the answer to a report is waited for, which says nothing
REPORT_MS = 5_000


class ClusterNode:
    """The Node of a broker in a cluster."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation
        self._node_id = foundation.settings.node_id
        self._address = parse_zookeeper(foundation.settings.zookeeper_connect or "")
        self._log = EventLog("broker")
        self._worker: ClusterWorker | None = None
        self._is_known = False
        self.changes_at_once = CHANGES_AT_ONCE

    # --- Node ---

    def join(self, known: str | None) -> str:
        """See Node: in a session of its own, since the directory is not locked yet."""
        base = self._base
        if (base.data_dir / LOCAL_STORE).exists():
            raise FastlogError(
                f"the data directory {base.data_dir} is that of a broker which is alone, with topics of its own: "
                "leave zookeeper.connect out, or name another directory (log.dirs)"
            )
        self._is_known = known is not None
        connection = self._connect(lambda event: None)
        try:
            connection.start()
            return join_cluster(connection, known, encode_cluster_id(base.random.uuid()))
        finally:
            connection.close()

    def _connect(self, tell: Callable[[ClusterEvent], None]) -> ZooKeeperConnection:
        session_ms = self._base.settings.zookeeper_session_timeout_ms
        return ZooKeeperConnection(self._address.hosts, self._address.root, session_ms=session_ms, tell=tell)

    def open(self, cluster_id: str, last_stop: str, *, has_lost: bool) -> None:
        """See Node."""
        base = self._base
        self._cluster_id = cluster_id
        self._unclean = UncleanMark(base.data_dir)
        # a fresh directory may stand for one that was lost
        if last_stop != CLEAN or not self._is_known or has_lost:
            self._unclean.set()
        # until there is a registration whose lease says more
        base.engine.set_lease(0)
        dealers = DealerContext()
        base.undo.callback(dealers.close)
        settings = replica_settings(base.settings)
        self._commands = CommandTable()
        self._peers = PeerClient(self._node_id, cluster_id, self._commands.take, lost=self._connection_lost)
        base.undo.callback(self._peers.stop)
        self._replicas = ReplicaManager(
            node_id=self._node_id,
            config=base.config,
            engine=base.engine,
            peers=self._peers,
            commands=self._commands,
            clock=base.clock,
            fetching=lambda leader: LeaderFetcher(
                leader,
                self._node_id,
                base.engine,
                lambda host, port: dealers.open(host, port, settings.handshake_timeout_ms),
                settings,
                lambda key, offset: self._report_corrupt(leader, key, offset),
            ),
            settings=settings,
            cluster_changed=self._cluster_changed,
            accepted=self._accepted,
        )
        base.undo.callback(self._replicas.stop)
        self._mender = Mender(
            self._node_id,
            base.engine,
            lambda: self._replicas.image.view,
            lambda host, port: dealers.open(host, port, settings.handshake_timeout_ms),
            settings,
            base.clock,
        )
        base.undo.callback(self._mender.close)
        self._commands.on(AskVerified, self._mender.report)
        self._make_services()

    def _make_services(self) -> None:
        image = self._replicas.image
        directory = TopicDirectory()
        self._base.undo.callback(image.subscribe(directory.publish))
        controller = ControllerLink(self._peers, self._controller_id, self._trouble)
        self.configs = ClusterConfigs(image=image, controller=controller)
        rates = ReplicationRates(self._base.engine, self.configs)
        rates.apply()
        self._base.undo.callback(self.configs.subscribe(rates.apply))
        self.topics = ClusterTopics(
            image=image,
            topics=directory,
            configs=self.configs,
            controller=controller,
            random=self._base.random,
        )
        self.placement = ClusterPlacement(topics=directory, controller=controller)
        self.brokers = self.registrations = ClusterBrokers(image, self._node_id)
        self.producer_ids = ProducerIds(self)

    def load(self, groups: GroupCoordinator) -> None:
        """See Node: logs are opened as the controller tells of them."""
        self._groups = groups
        image = self._replicas.image

        def changed(put: Sequence[Topic], removed: Sequence[str]) -> None:
            # groups keep what they know of a topic that is only unreadable; without their own they have no place
            deleted = [it for it in removed if it == OFFSETS_TOPIC or it not in image.view.unreadable]
            groups.topics_changed(put, deleted)

        self._base.undo.callback(image.subscribe(changed))

    def may_exist(self, topic: str) -> bool:
        """See Node."""
        return topic in self.topics or topic in self._replicas.image.view.unreadable

    def enter(self, bound: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """See Node."""
        base = self._base
        listeners = {it.scheme: it for it in base.listeners}
        publisher = Publisher()
        host = listeners[METADATA].host
        metadata = Endpoint(METADATA, host, publisher.bind(host, listeners[METADATA].port))
        base.undo.callback(publisher.close)
        router = bind_router(listeners[BROKER], base.settings)
        base.undo.callback(router.stop)
        broker = Endpoint(BROKER, listeners[BROKER].host, router.port)
        self._zmq = next((reachable(it) for it in bound if it.scheme == "ZMQ"), None)
        self._cluster_changed(-1, ())
        notices = NoticeListener(self._node_id, self._cluster_id, self._replicas.told)
        base.undo.callback(notices.stop)
        published = PublishedNotices(publisher, self._cluster_id)
        self._worker = self._make_worker([*bound, broker, metadata], published, notices)
        base.undo.callback(self._worker.stop)
        # what both of them take is known now
        engine = base.engine.zmq_intake(BROKER, broker.host, broker.port, True)
        intake = BrokerIntake(self._cluster_id, self._commands, engine)
        base.undo.callback(intake.close)
        base.undo.callback(router.stop)
        router.start(intake)
        self._peers.start()
        self._replicas.start()
        notices.start()
        self._worker.start()
        self._await_snapshot()
        opening = Opening(base.engine, self._held_here, self._unreadable_here)
        base.undo.callback(opening.stop)
        opening.start()
        self._begin_mending()
        return broker, metadata

    def _begin_mending(self) -> None:
        task = Task("mending", MENDING_MS, self._mender.mend_all)
        housekeeping = Housekeeping([task], self._base.clock, "mending")
        self._base.undo.callback(housekeeping.stop)
        self._base.undo.callback(self._mender.stop)
        housekeeping.start()

    def _report_corrupt(self, leader: int, key: PartitionKey, offset: int) -> None:
        report = AskVerified(topic_id=key.topic_id, partition=key.partition, offset=offset)
        self._peers.ask(leader, report, lambda _: None, timeout_ms=REPORT_MS, lane=ADMIN)

    def _make_worker(
        self, endpoints: Sequence[Endpoint], publish: PublishedNotices, notices: NoticeListener
    ) -> ClusterWorker:
        base = self._base
        registration = Registration(
            broker_id=self._node_id,
            broker_epoch=-1,
            incarnation=base.random.uuid(),
            endpoints=self._told(endpoints),
            rack=base.settings.broker_rack,
            clean_start=not self._unclean.is_set,
        )
        return ClusterWorker(
            registration,
            Incarnations(base.data_dir),
            connect=self._connect,
            join=lambda connection: join_cluster(connection, self._cluster_id, self._cluster_id),
            peers=self._peers,
            commands=self._commands,
            notices=publish,
            replicas=self,
            probe=refuses,
            facts=facts_from(base.config.static),
            settings=controller_settings(base.settings),
            seen=notices.know,
        )

    def _told(self, endpoints: Sequence[Endpoint]) -> dict[str, tuple[str, int]]:
        """Where each listener is, for others: advertised, or on a host that has a name elsewhere too."""
        told = {
            it.scheme: (socket.gethostname() if it.host in EVERYWHERE else it.host, it.port)
            for it in endpoints
        }
        return told | {it.scheme: (it.host, it.port) for it in self._base.advertised}

    def _await_snapshot(self) -> None:
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while not self._replicas.wait_ready(COMPLAIN_SECONDS):
            if time.monotonic() >= deadline:
                raise FastlogError(
                    f"no controller told what the cluster at {self._address} holds within {SNAPSHOT_SECONDS:.0f} s: "
                    "are the other brokers reached from here, and they this one?"
                )
            self._log.warning("waiting for the controller", controller=self._controller_id())

    def noticed(self) -> None:
        """See Node."""
        self._replicas.noticed()

    def leave(self) -> None:
        """See Node: the controller moves what others can lead."""
        settings, worker = self._base.settings, self._worker
        if worker is not None and settings.controlled_shutdown_enable:
            # without ZooKeeper nobody can move anything, unless only this broker is cut off from it
            tries = settings.controlled_shutdown_max_retries if worker.is_connected else 1
            left = worker.shut_down(tries=tries, timeout_ms=settings.controlled_shutdown_retry_backoff_ms)
            if left is not None:
                # clients are told here who leads now, for a moment still
                stays = {it.key for it in left}
                self._replicas.image.wait_until(lambda view: view.led_by(self._node_id) <= stays, MOVED_MS)
            # Who waits for replicas waits in vain: they follow another leader. "Not the leader" has a client look for
            # that at once; after a time-out it would ask here again, and find the end of its connection.
            self._replicas.resign()

    # --- what the cluster worker asks of the replicas ---

    def resign(self) -> None:
        """Nothing is led any more, by the replicas and so by the groups."""
        self._groups.resign()
        self._replicas.resign()

    def registered(self, registration: Registration) -> None:
        """The broker has a new epoch."""
        self._replicas.registered(registration)

    def told(self, notice: object) -> None:
        """A notice of the controller in this process."""
        self._replicas.told(notice)

    def elected(self, controller_id: int, controller_epoch: int) -> None:
        """Who controls, as ZooKeeper says."""
        self._replicas.elected(controller_id, controller_epoch)

    def set_lease(self, until_ns: int) -> None:
        """How long this broker may act for itself alone."""
        self._base.engine.set_lease(until_ns)

    # --- what is told ---

    def allocate_producer_ids(self, count: int) -> range:
        """A block of the cluster's; any broker takes its own."""
        if self._worker is None:
            raise FastlogError("the broker is not in its cluster yet")
        return ZooKeeperStore(self._worker.connection).allocate_producer_ids(count)

    def _held_here(self) -> set[tuple[str, int]]:
        """The partitions that have a replica here, as is known now."""
        return {
            (topic.name, index)
            for topic in self._replicas.image.view.by_name.values()
            for index, state in enumerate(topic.partitions)
            if self._node_id in state.replicas
        }

    def _unreadable_here(self) -> dict[Path, str]:
        """The directories of topics whose metadata cannot be read, and of which."""
        unreadable = self._replicas.image.view.unreadable
        if not unreadable:
            return {}
        found = [path for directory in self._base.data_dirs for path in sorted(directory.glob("*-*"))]
        topics = {path: path.name.rpartition("-")[0] for path in found}
        return {path: topic for path, topic in topics.items() if topic in unreadable}

    def _controller_id(self) -> int:
        known = self._worker.controller if self._worker is not None else None
        return self._replicas.image.controller_id if known is None else known.broker_id

    def _trouble(self) -> str:
        """Why nothing can be changed now, where this broker sees it."""
        if self._worker is None or self._worker.is_connected:
            return ""
        return (
            f"ZooKeeper at {self._address} does not answer this broker, and without it nothing can be changed: "
            "look whether it runs"
        )

    def _connection_lost(self, registration: Registration) -> None:
        if self._worker is not None:
            self._worker.connection_lost(registration.broker_id)

    def _cluster_changed(self, controller_id: int, brokers: Sequence[Registration]) -> None:
        base = self._base
        publish_cluster(
            base.engine,
            node_id=self._node_id,
            cluster_id=self._cluster_id,
            auto_create_topics=base.settings.auto_create_topics_enable,
            apis=APIS,
            advertised=base.advertised,
            zmq=self._zmq,
            controller_id=controller_id,
            others=[it for it in brokers if it.broker_id != self._node_id],
        )

    def _accepted(self, broker_epoch: int, controller_epoch: int) -> None:
        if self._worker is not None and self._unclean.is_set:
            self._worker.confirm(broker_epoch, controller_epoch, self._unclean.clear)
