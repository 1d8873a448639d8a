"""One broker: everything is built here, in the order in which it depends on each other, and ended in reverse.

Start: data directories (locked), metadata, logs opened and recovered, ZeroMQ bound, the place in the cluster taken, TCP
listeners, control loop, ZeroMQ thread, housekeeping. Stop: the place given up, listeners take no more, what is in
flight is answered, logs are closed and the directories are marked as closed cleanly. `node` has what one node alone
does of it, `cluster` what a broker of a cluster does.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastlog.broker.addresses import EVERYWHERE, Addresses
from fastlog.broker.api import APIS
from fastlog.broker.configs import group_times, warn_of_unmet
from fastlog.broker.context import AllowAll
from fastlog.broker.control_api import Services
from fastlog.broker.control_loop import ControlLoop
from fastlog.broker.deletion_clock import DeletionClock
from fastlog.broker.directories import make_directories
from fastlog.broker.groups.coordinator import GroupCoordinator
from fastlog.broker.groups.offsets_log import OffsetsLog
from fastlog.broker.housekeeping import (
    Housekeeping,
    broker_tasks,
    cleaner_task,
    directory_tasks,
    moves_task,
    scrub_task,
    tiers_task,
)
from fastlog.broker.listening import bind_router, reserved_endpoint
from fastlog.broker.node import Foundation, LocalNode
from fastlog.broker.serving import Serving
from fastlog.broker.system import SystemClock, SystemRandom
from fastlog.config import Endpoint, parse_advertised, parse_listeners
from fastlog.events import EventLog
from fastlog.native._engine import Engine
from fastlog.state.consumer_group.assignors import ASSIGNORS
from fastlog.state.consumer_group.settings import ConsumerGroupSettings, Migration
from fastlog.state.group.settings import GroupSettings
from fastlog.state.offsets.settings import OffsetSettings

if TYPE_CHECKING:
    from fastlog.broker.context import Authorizer
    from fastlog.broker.ports import Node
    from fastlog.config import BrokerSettings, Config
    from fastlog.ports import Clock, Random
    from fastlog.transport.router import RouterListener

TCP = "PLAINTEXT"
ZMQ = "ZMQ"


class Broker:
    """A broker on its data directories, from `start` to `stop`, each called once.

    All threads, descriptors and the loop are its own: it may live in a process of its own or beside others in one.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._config = config
        self._settings = config.broker()
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._authorizer = authorizer or AllowAll()
        self._log = EventLog("broker")
        self._data_dirs = tuple(Path(it) for it in self._settings.log_dirs)
        in_cluster = self._settings.zookeeper_connect is not None
        self._listeners = parse_listeners(self._settings.listeners, in_cluster=in_cluster)
        self._advertised = parse_advertised(self._settings.advertised_listeners or (), self._listeners)
        self._undo = ExitStack()
        self._router: RouterListener | None = None

    @property
    def data_dir(self) -> Path:
        """The first data directory, which has the metadata."""
        return self._data_dirs[0]

    def start(self) -> tuple[Endpoint, ...]:
        """Starts the broker and blocks until it serves; answers its listeners with their real ports.

        Raises what says in one line why it cannot: a FastlogError, or OSError for an address in use.
        """
        try:
            self._open()
            return self._listen()
        except BaseException:
            self._undo.close()
            raise

    def _open(self) -> None:
        """Opens the directories with all that is in them."""
        warn_of_unmet("broker", self._config.static)
        directories = make_directories(self._data_dirs)
        self._engine = Engine(self._settings)
        self._undo.callback(self._engine.shutdown)
        self._node = self._make_node()
        known = self._engine.read_cluster_id(str(self.data_dir))
        self._cluster_id = self._node.join(known)
        last_stop, has_lost = self._engine.open_directories(directories, self._cluster_id)
        self._undo.callback(self._engine.close_directories)
        self._deletion_clock = DeletionClock(
            self._clock, self.data_dir, self._settings.fastlog_clock_jump_wait_ms
        )
        self._undo.callback(self._deletion_clock.write)
        self._node.open(self._cluster_id, last_stop, has_lost=has_lost)
        self._groups = self._group_coordinator()
        self._undo.callback(self._groups.stop)
        self._node.load(self._groups)
        named = ",".join(map(str, self._data_dirs))
        self._log.info("logs open", directory=named, cluster_id=self._cluster_id, last_stop=last_stop)

    def _make_node(self) -> Node:
        foundation = Foundation(
            config=self._config,
            settings=self._settings,
            data_dirs=self._data_dirs,
            listeners=self._listeners,
            advertised=self._advertised,
            engine=self._engine,
            clock=self._clock,
            random=self._random,
            undo=self._undo,
        )
        if self._settings.zookeeper_connect is None:
            return LocalNode(foundation)
        # imported here: one node alone loads neither kazoo nor what talks to other brokers
        from fastlog.broker.cluster import ClusterNode

        return ClusterNode(foundation)

    def _group_coordinator(self) -> GroupCoordinator:
        settings = self._settings
        log = OffsetsLog(self._engine.own_intake(), timeout_ms=settings.offsets_commit_timeout_ms)
        return GroupCoordinator(
            log,
            self._clock,
            self._random,
            node_id=settings.node_id,
            topic_exists=self._node.may_exist,
            groups=GroupSettings(
                min_session_timeout_ms=settings.group_min_session_timeout_ms,
                max_session_timeout_ms=settings.group_max_session_timeout_ms,
                initial_rebalance_delay_ms=settings.group_initial_rebalance_delay_ms,
                max_size=settings.group_max_size,
                memory_bytes_max=_groups_memory(settings.fastlog_groups_memory_bytes),
            ),
            consumer_groups=ConsumerGroupSettings(
                session_timeout_ms=settings.group_consumer_session_timeout_ms,
                heartbeat_interval_ms=settings.group_consumer_heartbeat_interval_ms,
                own_times=partial(group_times, self._node.configs),
                max_size=settings.group_consumer_max_size,
                # no names at all are those that there are
                assignors=settings.group_consumer_assignors or tuple(ASSIGNORS),
                migration=Migration(settings.group_consumer_migration_policy),
            ),
            offsets=OffsetSettings(
                metadata_bytes_max=settings.offset_metadata_max_bytes,
                retention_ms=settings.offsets_retention_minutes * 60_000,
            ),
            retention_check_interval_ms=settings.offsets_retention_check_interval_ms,
            expiry_clock=self._deletion_clock,
        )

    def _listen(self) -> tuple[Endpoint, ...]:
        settings = self._settings
        bound: list[Endpoint] = []
        for listener in self._listeners:
            if listener.scheme == ZMQ:
                self._router = bind_router(listener, settings)
                self._undo.callback(self._router.stop)
                bound.append(Endpoint(ZMQ, listener.host, self._router.port))
        clients = [listener for listener in self._listeners if listener.scheme == TCP]
        with ExitStack() as held:
            if self._node.registrations is not None:
                clients = [held.enter_context(reserved_endpoint(it)) for it in clients]
            own = self._node.enter([*clients, *bound])
            for listener in clients:
                port = self._engine.listen(listener.scheme, listener.host, listener.port)
                bound.append(Endpoint(TCP, listener.host, port))
        bound += own
        bound.sort(key=lambda endpoint: [it.scheme for it in self._listeners].index(endpoint.scheme))
        self._serve(bound)
        self._log.info("ready", listeners=" ".join(map(str, bound)), node_id=settings.node_id)
        return tuple(bound)

    def _serve(self, bound: list[Endpoint]) -> None:
        settings = self._settings
        serving = Serving(self._services(bound), APIS)
        control = ControlLoop(
            self._engine, serving, noticed=self._node.noticed, changes_at_once=self._node.changes_at_once
        )
        self._undo.callback(control.stop)
        self._groups.start(self._engine, serving)
        control.start()
        if self._router is not None:
            (at,) = [endpoint for endpoint in bound if endpoint.scheme == ZMQ]
            # ZeroMQ does not tell by which address a peer came: the machine's name has to do where there are many
            host = socket.gethostname() if at.host in EVERYWHERE else at.host
            self._router.start(self._engine.zmq_intake(at.scheme, host, at.port))
        self._undo.callback(self._node.configs.subscribe(self._changed))
        self._changed(None)
        housekeeping = Housekeeping(broker_tasks(self._engine), self._clock)
        self._undo.callback(housekeeping.stop)
        housekeeping.start()
        for number in range(self._engine.directory_count()):
            each = directory_tasks(self._engine, number, settings, self._clock, self._deletion_clock)
            housekeeping = Housekeeping(each, self._clock, f"housekeeping-{number}")
            self._undo.callback(housekeeping.stop)
            housekeeping.start()
        if settings.log_cleaner_enable:
            task = cleaner_task(self._engine, self._settings_in_force, self._deletion_clock)
            cleaner = Housekeeping([task], self._clock, "cleaner")
            self._undo.callback(cleaner.stop)
            self._undo.callback(self._engine.stop_cleaner)
            cleaner.start()
        if settings.remote_log_storage_system_enable:
            task = tiers_task(self._engine, settings, self._deletion_clock)
            tiers = Housekeeping([task], self._clock, "tiers")
            self._undo.callback(tiers.stop)
            self._undo.callback(self._engine.stop_tiers)
            tiers.start()
        if len(settings.log_dirs) > 1:
            moves = Housekeeping([moves_task(self._engine, self._clock)], self._clock, "moves")
            self._undo.callback(moves.stop)
            self._undo.callback(self._engine.stop_moves)
            moves.start()
        scrub = Housekeeping([scrub_task(self._engine, self._clock)], self._clock, "scrub")
        self._undo.callback(scrub.stop)
        self._undo.callback(self._engine.stop_scrub)
        scrub.start()

    def _settings_in_force(self) -> BrokerSettings:
        # each change makes another `config`
        return self._node.configs.config.broker()

    def _changed(self, topic: str | None) -> None:
        """Takes the settings that may be changed while it runs; `topic` is None for those of brokers."""
        if topic is None and self._router is not None:
            settings = self._settings_in_force()
            self._router.limit_connections(settings.max_connections, settings.max_connections_per_ip)

    def _services(self, bound: list[Endpoint]) -> Services:
        node = self._node
        return Services(
            node_id=self._settings.node_id,
            cluster_id=self._cluster_id,
            topics=node.topics,
            placement=node.placement,
            brokers=node.brokers,
            configs=node.configs,
            producer_ids=node.producer_ids,
            data_plane=self._engine,
            addresses=Addresses(
                bound, self._advertised, node_id=self._settings.node_id, registrations=node.registrations
            ),
            authorizer=self._authorizer,
            groups=self._groups,
        )

    def stop(self) -> None:
        """Ends the broker cleanly and blocks until nothing of it is left; raises where the logs could not be closed."""
        self._log.info("stopping")
        try:
            self._node.leave()
            self._stop_listening(self._settings.fastlog_shutdown_timeout_ms)
        finally:
            self._undo.close()
        self._log.info("stopped")

    def _stop_listening(self, grace_ms: int) -> None:
        # long polls are answered now, so that listeners need not wait for them
        self._engine.finish_waiting()
        self._groups.finish_waiting()
        if self._router is not None:
            self._router.begin_stop(grace_ms)
        self._engine.stop_listening(grace_ms)
        if self._router is not None:
            self._router.stop()


def _groups_memory(bytes_max: int) -> int:
    """The setting, where -1 is an eighth of the machine's memory."""
    if bytes_max >= 0:
        return bytes_max
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8
