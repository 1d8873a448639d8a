"""What of a broker depends on whether it is alone or one of a cluster; here: a node that needs nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.addresses import EVERYWHERE
from fastlog.broker.api import APIS
from fastlog.broker.configs import LocalConfigs
from fastlog.broker.image import publish_cluster
from fastlog.broker.placement import LocalBrokers, LocalPlacement
from fastlog.broker.producer_ids import ProducerIds
from fastlog.broker.topics import LocalTopics
from fastlog.cluster import INCARNATIONS_NAME
from fastlog.cluster.local import LocalStore, check_store, encode_cluster_id
from fastlog.config import Config, Endpoint
from fastlog.errors import FastlogError
from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack
    from pathlib import Path
    from typing import Any

    from fastlog.broker.addresses import Registrations
    from fastlog.broker.groups.coordinator import GroupCoordinator
    from fastlog.config import BrokerSettings
    from fastlog.native._engine import Engine
    from fastlog.ports import Clock, Random

#: the engine's word for an end of a run that took nothing
CLEAN = "clean"


class Foundation:
    """What every broker has."""

    def __init__(
        self,
        *,
        config: Config,
        settings: BrokerSettings,
        data_dirs: tuple[Path, ...],
        listeners: tuple[Endpoint, ...],
        advertised: tuple[Endpoint, ...],
        engine: Engine,
        clock: Clock,
        random: Random,
        undo: ExitStack,
    ) -> None:
        """`listeners` are as they are configured, where port 0 is any; `undo` ends what was begun, in reverse."""
        self.config = config
        self.settings = settings
        self.data_dirs = data_dirs
        self.listeners = listeners
        self.advertised = advertised
        self.engine = engine
        self.clock = clock
        self.random = random
        self.undo = undo

    @property
    def data_dir(self) -> Path:
        """The first data directory, which has what is not of one directory."""
        return self.data_dirs[0]


class LocalNode:
    """A node that is a cluster by itself: its metadata lies in its own (first) data directory."""

    def __init__(self, foundation: Foundation) -> None:
        self._foundation = foundation
        self._log = EventLog("broker")
        self.registrations: Registrations | None = None
        # what changes topics is one thread, in the order of the requests
        self.changes_at_once = 1

    def join(self, known: str | None) -> str:
        """See Node."""
        directory = self._foundation.data_dir
        if (directory / INCARNATIONS_NAME).exists():
            raise FastlogError(
                f"the data directory {directory} belongs to a broker of a cluster: say where its ZooKeeper is "
                "(zookeeper.connect), or name another directory (log.dirs)"
            )
        # the directory is taken into use next, which writes to it: a refusal must come before
        check_store(directory, known)
        return known or encode_cluster_id(self._foundation.random.uuid())

    def open(self, cluster_id: str, last_stop: str, *, has_lost: bool) -> None:
        """See Node."""
        base, node_id = self._foundation, self._foundation.settings.node_id
        self._cluster_id = cluster_id
        self._may_have_lost = has_lost or last_stop != CLEAN
        store = LocalStore(base.data_dir, cluster_id)
        base.undo.callback(store.close)
        self.configs = LocalConfigs(base.config, store, node_id)
        self.topics = LocalTopics(
            node_id=node_id,
            store=store,
            configs=self.configs,
            data_plane=base.engine,
            random=base.random,
            publish=base.engine.publish_topics,
        )
        base.undo.callback(self.configs.subscribe(self.topics.apply_settings))
        self.producer_ids = ProducerIds(store)
        self.placement = LocalPlacement(self.topics, node_id)
        self.brokers = LocalBrokers(self.topics, node_id)

    def may_exist(self, topic: str) -> bool:
        """See Node."""
        return topic in self.topics

    def load(self, groups: GroupCoordinator) -> None:
        """See Node."""
        base = self._foundation
        base.undo.callback(self.topics.subscribe(groups.topics_changed))
        self.topics.load(may_have_lost=self._may_have_lost)
        warn_of_strays(base.engine, self._log)

    def enter(self, bound: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """See Node."""
        base = self._foundation
        publish_cluster(
            base.engine,
            node_id=base.settings.node_id,
            cluster_id=self._cluster_id,
            auto_create_topics=base.settings.auto_create_topics_enable,
            apis=APIS,
            advertised=base.advertised,
            zmq=next((reachable(it) for it in bound if it.scheme == "ZMQ"), None),
        )
        return ()

    def noticed(self) -> None:
        """See Node: nobody follows, so there are none."""

    def leave(self) -> None:
        """See Node: there is nobody to take over."""


def reachable(endpoint: Endpoint) -> Endpoint:
    """The endpoint with an empty host where it is bound to every interface."""
    return Endpoint(endpoint.scheme, "", endpoint.port) if endpoint.host in EVERYWHERE else endpoint


def warn_of_strays(engine: Any, log: EventLog) -> None:
    """All partitions are open: names the directories that belong to none.

    Metadata may have been lost, by a hand or a disk: what to do with the records is not for us to say.
    """
    for stray in engine.finish_opening():
        log.warning(
            "directory of no known topic, left alone: if there is to be one, its metadata is missing",
            directory=str(stray),
        )
