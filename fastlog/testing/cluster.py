"""A cluster on this machine: real brokers, `fastlog serve` each, and a real ZooKeeper.

from fastlog.testing import Cluster

with Cluster(3) as cluster:
    Producer(cluster.bootstrap)
    cluster.leader_of("orders", 0).kill()
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastlog.testing.cluster_broker import ClusterBroker
from fastlog.testing.zookeeper import ZooKeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from fastlog.client.admin import Admin
    from fastlog.testing.leash import Leash

READY_SECONDS = 60.0
WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.05


class Cluster:
    """Brokers with the ids from 1 on, on free ports of 127.0.0.1: a context manager, or `start` and `close`.

    Without `folder` all lies in a temporary one that goes at the end. `settings` are of all brokers, by Kafka's keys;
    `racks` of each in turn. `zookeeper` is a running one, HOST:PORT[,…][/PATH]; without, the cluster has its own.
    """

    def __init__(
        self,
        brokers: int = 3,
        *,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        racks: Sequence[str] = (),
        zookeeper: str | None = None,
        zookeeper_port: int = 0,
        ports: Mapping[int, Mapping[str, int]] | None = None,
    ) -> None:
        """`ports` by broker id and scheme, where they are not to be any free ones."""
        self._is_temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="fastlog-cluster-"))
        self.zookeeper = None if zookeeper else ZooKeeper(self.folder / "zookeeper", port=zookeeper_port)
        self._address = zookeeper
        self._count = brokers
        self._settings = dict(settings or {})
        self._racks = racks
        self._ports = ports or {}
        self.brokers: dict[int, ClusterBroker] = {}
        """By id."""
        self.leash: Leash | None = None
        """Who holds what `start` starts."""

    def __getitem__(self, broker_id: int) -> ClusterBroker:
        """The broker with an id."""
        return self.brokers[broker_id]

    @property
    def bootstrap(self) -> str:
        """HOST:PORT of every broker, with commas between."""
        return ",".join(each.bootstrap for each in self.brokers.values())

    def start(self) -> Cluster:
        """Starts ZooKeeper, then all brokers at once; returns when every broker knows the others."""
        try:
            if self.zookeeper is not None:
                self._address = self.zookeeper.start().hosts
                self._hold(*(each.process.pid for each in self.zookeeper.servers if each.process))
            for broker_id in range(1, self._count + 1):
                self.add(broker_id).start()
                self._hold(self[broker_id].pid)
            for each in self.brokers.values():
                each.wait()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def _hold(self, *pids: int) -> None:
        if self.leash is not None:
            for pid in pids:
                self.leash.hold(pid)

    def add(self, broker_id: int, settings: Mapping[str, str] | None = None) -> ClusterBroker:
        """One broker more, which is not started yet; `settings` of its own override those of all."""
        own = {**self._settings, **(settings or {})}
        if broker_id <= len(self._racks):
            own.setdefault("broker.rack", self._racks[broker_id - 1])
        assert self._address is not None  # noqa: S101  # it is started
        broker = ClusterBroker(
            broker_id,
            self.folder,
            zookeeper=self._address,
            ports=self._ports.get(broker_id),
            settings=own,
        )
        self.brokers[broker_id] = broker
        return broker

    def running(self) -> list[ClusterBroker]:
        """The brokers whose processes run."""
        return [each for each in self.brokers.values() if each.is_running]

    # --- what the cluster says of itself ---

    def admin(self, broker_id: int | None = None) -> Admin:
        """A client of all running brokers, or of one; to be closed."""
        from fastlog.client.admin import Admin

        asked = self.running() if broker_id is None else [self[broker_id]]
        return Admin(",".join(each.bootstrap for each in asked))

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Returns when every running broker knows all that run, and one that controls; raises TimeoutError."""
        wanted = {each.broker_id for each in self.running()}
        deadline = time.monotonic() + seconds
        for broker_id in sorted(wanted):
            with self.admin(broker_id) as admin:

                def knows_all(admin: Admin = admin) -> bool:
                    told = admin.describe_cluster()
                    return {it.node_id for it in told.brokers} == wanted and told.controller_id in wanted

                self.wait_until(
                    f"broker {broker_id} knows all", knows_all, max(0.0, deadline - time.monotonic())
                )

    def controller(self) -> ClusterBroker:
        """The broker that controls, as one of the running ones knows it."""
        with self.admin() as admin:
            return self[admin.describe_cluster().controller_id]

    def leader_of(self, topic: str, partition: int = 0) -> ClusterBroker:
        """The broker that leads a partition, waited for."""
        found: list[int] = []

        def has_leader() -> bool:
            with self.admin() as admin:
                leader = admin.describe_topic(topic).partitions[partition].leader
            found[:] = [leader]
            return leader in self.brokers

        self.wait_until(f"{topic}-{partition} has a leader", has_leader)
        return self[found[0]]

    def wait_in_sync(self, topic: str, count: int, seconds: float = WAIT_SECONDS) -> None:
        """Returns when every partition has a leader and `count` replicas in sync; raises TimeoutError."""
        seen = ""

        def is_in_sync() -> bool:
            nonlocal seen
            with self.admin() as admin:
                partitions = admin.describe_topic(topic).partitions
            seen = ", ".join(
                f"{it.partition}: leader {it.leader}, in sync {list(it.isr)}" for it in partitions
            )
            return all(it.leader >= 0 and len(it.isr) == count for it in partitions)

        try:
            self.wait_until(f"{topic} has {count} replicas in sync", is_in_sync, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; last seen {seen or 'nothing'}") from error.__cause__

    @staticmethod
    def wait_until(what: str, is_so: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Looks until it is so; a client's errors count as no. Raises TimeoutError, which says `what` is not so."""
        from fastlog.errors import FastlogError

        deadline = time.monotonic() + seconds
        last: Exception | None = None
        while True:
            try:
                if is_so():
                    return
                last = None
            except FastlogError as error:
                last = error
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}") from last
            time.sleep(LOOK_SECONDS)

    # --- the end ---

    def stop(self) -> None:
        """Ends all brokers at once as an operator would, then ZooKeeper.

        Raises RuntimeError, when the others have ended, where a broker did not end in time and was killed.
        """
        for each in self.brokers.values():
            each.begin_stop()
        late: list[RuntimeError] = []
        for each in self.brokers.values():
            try:
                each.stop()
            except RuntimeError as error:
                late.append(error)
        if self.zookeeper is not None:
            self.zookeeper.stop()
        if late:
            raise RuntimeError("\n".join(map(str, late)))

    def close(self) -> None:
        """Ends everything without a farewell, and removes what is temporary; again is harmless."""
        for each in self.brokers.values():
            with contextlib.suppress(ProcessLookupError):
                each.kill()
        if self.zookeeper is not None:
            self.zookeeper.kill()
        if self._is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
