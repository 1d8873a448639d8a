"""What a notice does to the replicas here, in one order: who is registered; settings; roles, those to be led first;
in-sync replicas; the image that clients are answered from; who is followed.

So nothing is shown as led that is not, and nobody is followed in an epoch that the engine does not know.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastlog.broker.configs import warn_of_unusable
from fastlog.broker.replicas.asked import Asked
from fastlog.broker.replicas.away import Away
from fastlog.broker.replicas.fetchers import Fetchers
from fastlog.broker.replicas.image import ClusterImage, steps, stored_in
from fastlog.broker.replicas.leaders import Leaders
from fastlog.broker.replicas.proposals import Proposals
from fastlog.broker.replicas.roles import Roles, Steps
from fastlog.broker.replicas.view import after
from fastlog.events import EventLog
from fastlog.ports import PartitionKey
from fastlog.state.replica.isr import NOT_MADE, IsrSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.peers.messages import Delta, Snapshot
    from fastlog.broker.peers.ports import Commands, Peers
    from fastlog.broker.replicas.engine import ReplicaEngine
    from fastlog.broker.replicas.fetchers import Fetching
    from fastlog.broker.replicas.settings import ReplicaSettings
    from fastlog.broker.replicas.view import Change
    from fastlog.config import Config
    from fastlog.ports import Clock, Registration

#: of the time that a look at followers took, before the next one that a notice calls for
LOOK_PAUSES = 4


class Replicas:
    """Roles, leaderships, fetchers and the image. Of the replicas' worker; blocks on the disk only."""

    def __init__(
        self,
        *,
        node_id: int,
        config: Config,
        engine: ReplicaEngine,
        peers: Peers,
        commands: Commands,
        put: Callable[..., None],
        clock: Clock,
        fetching: Callable[[int], Fetching],
        settings: ReplicaSettings,
        cluster_changed: Callable[[int, Sequence[Registration]], None],
        accepted: Callable[[int, int], None],
    ) -> None:
        """`put` has a call made on the worker; the others are as `ReplicaManager` says."""
        self._node_id = node_id
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._cluster_changed = cluster_changed
        self._accepted = accepted
        self._told_accepted: tuple[int, int] | None = None
        self._log = EventLog("replicas")
        self.image = ClusterImage(config, node_id)
        self.roles = Roles(node_id, engine)
        self.leaders = Leaders(node_id, engine, IsrSettings(lag_ms=settings.lag_ms))
        self.fetchers = Fetchers(fetching)
        self._away = Away(engine, self.roles, settings.retry_ms)
        self.proposals = Proposals(node_id, peers, put, settings)
        #: the epoch of the newest controller that was asked
        self._asked_epoch = -1
        self._asked = Asked(node_id, engine, self.roles, clock, settings, self._drop)
        self._asked.listen(commands, put)
        now_ms = clock.monotonic_ms()
        self._look_ms = now_ms + settings.isr_tick_ms
        self._may_look_ms = now_ms
        self._look_at_all_ms = now_ms + settings.lag_ms // 2
        self._retry_ms = now_ms

    # --- the registration of this broker ---

    def registered(self, broker_epoch: int) -> None:
        """This broker is registered: what it leads by the states that are known, it leads from now on."""
        self.roles.registered(broker_epoch)
        self._asked.registered(broker_epoch)
        self.fetchers.registered(broker_epoch)
        self._apply_roles()
        self._look_whether_accepted()

    def resign(self) -> None:
        """Its registration is over: leads nothing any more, and begins no fetch."""
        count = self._engine.resign()
        self.leaders.drop(self.roles.resigned())
        self._asked.registered(None)
        self.fetchers.registered(None)
        if count:
            self._log.info("leads nothing until it is registered anew", partitions=count)

    def _look_whether_accepted(self) -> None:
        epoch, own = self.roles.broker_epoch, self.image.brokers.get(self._node_id)
        if epoch is None or own is None or own.broker_epoch != epoch:
            return
        told = (epoch, self.image.view.controller_epoch)
        if told != self._told_accepted:
            self._told_accepted = told
            self._accepted(*told)

    # --- notices ---

    def apply(self, notice: Delta | Snapshot) -> None:
        """Takes in the next notice."""
        change = after(self.image.view, notice)
        view = change.view
        if change.brokers_changed:
            epochs = view.broker_epochs()
            self._engine.set_broker_epochs(epochs)
            self.leaders.brokers(epochs)
            self.fetchers.know(view.brokers)
        self._tell_settings(change)
        for topic in change.gone:
            self._drop(self.roles.gone(topic.topic_id))
            self._away.forget(topic.topic_id)
        taken = self.roles.take((view.by_id[key.topic_id].name, key, state) for key, state in change.states)
        if taken.is_superseded:
            self.resign()
        self.leaders.drop(taken.left)
        self.fetchers.leave(taken.left)
        self._put_away(taken, change)
        self._lead(taken, change)
        self._show(change)
        self._follow(taken.followed)
        self._look_whether_accepted()
        self._asked.answer_log_ends()

    def _tell_settings(self, change: Change) -> None:
        for resource in change.settings:
            if resource.kind == "topic" or resource in self.image.own_resources:
                warn_of_unusable(self._log, resource, stored_in(change.view, resource).values)
        config, of_topic = self.image.settings_in(change.view)
        concerned = self.image.topics_concerned(change)
        if None in concerned:
            self._engine.configure(config.broker())
        names = change.view.by_name if None in concerned else concerned
        for name in names:
            if name is not None and name in change.view.by_name:
                self._engine.set_topic_settings(name, of_topic(name))

    def _put_away(self, taken: Steps, change: Change) -> None:
        now_ms = self._clock.monotonic_ms()
        for topic_id, partitions in taken.away.items():
            self._away.put(change.view.by_id[topic_id].name, topic_id, partitions, now_ms)

    def _lead(self, taken: Steps, change: Change) -> None:
        _, of_topic = self.image.settings_in(change.view)
        for key in taken.told:
            held, known = self.roles.get(key), self.leaders.state(key)
            if held is not None and known is not None:
                if held.state.replicas != known.replicas:
                    self.roles.tell_replicas(key, of_topic)
                self.leaders.told(key, held.state)
        self.roles.apply(of_topic, taken)
        self._begin(taken.led)

    def _begin(self, led: Sequence[PartitionKey]) -> None:
        now_ms = self._clock.monotonic_ms()
        for key in led:
            held = self.roles.get(key)
            if held is not None:
                self.leaders.begin(key, held.topic, held.state, now_ms)

    def _show(self, change: Change) -> None:
        view = change.view
        if change.brokers_changed or self.image.controller_id != view.controller_id:
            self._cluster_changed(view.controller_id, tuple(view.brokers.values()))
        for put, removed in steps(change):
            self._engine.publish_topics(put, removed)
        self.image.replace(change)

    def _follow(self, keys: Sequence[PartitionKey]) -> None:
        followed = [(key, held) for key in keys if (held := self.roles.get(key)) is not None]
        if followed:
            self.fetchers.follow(
                [(key, held.topic, held.state.leader, held.state.leader_epoch) for key, held in followed]
            )

    def _drop(self, keys: Sequence[PartitionKey]) -> None:
        """Replicas of a deleted topic: nobody touches their logs any more."""
        self.leaders.drop(keys)
        self.fetchers.leave(keys, is_deleted=True)
        # a topic of the same name may have waited for this
        self._retry_ms = 0

    def _apply_roles(self) -> None:
        """What is left to be done for states that were told before."""
        taken = Steps()
        self.roles.apply(self.image.topic_settings, taken)
        self._begin(taken.led)
        self._follow(taken.followed)

    # --- time, and what the engine noticed ---

    def tick(self) -> None:
        """Looks at followers, roles that failed, and questions that wait, where it is time."""
        # nobody else may have come to say that there are some
        self.take_notices()
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._look_at_all_ms:
            self._look_at_all_ms = now_ms + self._settings.lag_ms // 2
            self._look(now_ms, at_all=True)
        elif now_ms >= self._look_ms and self.leaders.is_restless:
            self._look(now_ms, at_all=False)
        if now_ms >= self._retry_ms and self.roles.is_pending:
            self._retry_ms = now_ms + self._settings.retry_ms
            self._apply_roles()
        self._away.tick(now_ms)
        self._asked.answer_log_ends()

    def _look(self, now_ms: int, *, at_all: bool) -> None:
        self._look_ms = now_ms + self._settings.isr_tick_ms
        self.leaders.look(now_ms, at_all=at_all)
        ended_ms = self._clock.monotonic_ms()
        # where much is led a look takes long, and is taken for a part of the time only
        self._may_look_ms = ended_ms + LOOK_PAUSES * (ended_ms - now_ms)

    def take_notices(self) -> None:
        """Takes what the engine noticed: followers that may join, logs that are synced."""
        synced: list[PartitionKey] = []
        for what, topic, index, _ in self._engine.drain_notices():
            if what == "joinable":
                self.leaders.joinable(topic, index)
                # at once: a producer may wait for it
                self._look_ms = min(self._look_ms, self._may_look_ms)
            elif (found := self.image.view.by_name.get(topic)) is not None:
                synced.append(PartitionKey(found.topic_id, index))
        if synced:
            self.fetchers.synced(synced)

    # --- proposals ---

    def propose(self, controller_id: int, controller_epoch: int) -> None:
        """Sends what is to be proposed now to the controller."""
        proposals, epoch = self.leaders.take_proposals(), self.roles.broker_epoch
        if proposals and epoch is not None:
            self._asked_epoch = controller_epoch
            self.proposals.send(controller_id, epoch, proposals, partial(self._answered, controller_epoch))

    def _answered(self, controller_epoch: int, items: Any) -> None:
        now_ms = self._clock.monotonic_ms()
        for key, proposal, code, state in items:
            # of a controller that has a successor, which was asked since and may have made it by now
            if code in NOT_MADE and controller_epoch < self._asked_epoch:
                continue
            known = self.leaders.state(key)
            if state is not None and known is not None and self.roles.took(key, state):
                self._take_over(key, known.replicas, state.replicas)
            self.leaders.answered(key, proposal, code, state, now_ms)

    def _take_over(self, key: PartitionKey, known: Sequence[int], replicas: Sequence[int]) -> None:
        if known != replicas:
            self.roles.tell_replicas(key, self.image.topic_settings)
