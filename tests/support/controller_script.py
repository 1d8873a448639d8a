"""Reads and runs scripts about a controller: a command a line, and below it, indented, what came of it.

    brokers ID[/RACK] …                up ID… [unclean]      down ID…
    bounce ID… [unclean]               goes and comes between two looks
    topic NAME [min=N] [unclean=yes] PARTITION=REPLICAS …      made and led, all in sync
    stored TOPIC-PARTITION FIELD=VALUE …                       written by somebody else; no controller is told
    accepted                           the brokers that are published
    elect                              another controller       fence          it is told that there is another
    former                             the controller before that, which does not know yet, looks who is registered
    min TOPIC N                        unclean TOPIC yes|no      a changed setting
    isr BROKER TOPIC-PARTITION MEMBER[:EPOCH],… [epoch=N] [version=N] [as=EPOCH]
    offline ID TP…                     all replicas of a broker whose disk failed
    shutdown ID                        suspect BY… of=ID        unsuspect BY… of=ID
    log-end ID TOPIC-PARTITION EPOCH OFFSET
    prefer TP…|all                     elect-unclean TP…|all
    reassign TP=REPLICAS …             cancel TP …              reassignments
    create NAME [partitions=N] [factor=N] [PARTITION=REPLICAS …]      grow NAME COUNT      delete NAME
    stopped ID NAME                    wait MS                  writes hold | go [lost|applied|away …]

Shown: each partition as it was published, the answers, what brokers are asked, who is fenced.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from fastlog import errors
from fastlog.ports import PartitionKey, PartitionState, Topic
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import AskLogEnds, Effect, Item, Publish, Reply, Resign, StopReplicas
from fastlog.state.controller.settings import TopicFacts
from tests.support.controller_world import World


class Script:
    """Runs commands in one world; `do` answers the lines of what came of one."""

    def __init__(self) -> None:
        self.world = World()
        self.ids: dict[str, UUID] = {}
        self.former = self.world.controller

    def do(self, line: str) -> list[str]:
        """Runs one line."""
        word, *rest = line.split()
        named = dict(it.split("=", 1) for it in rest if "=" in it)
        plain = [it for it in rest if "=" not in it]
        said = getattr(self, "do_" + word.replace("-", "_"))(plain, named) or []
        told, self.world.told[:] = list(self.world.told), []
        for effect in told:
            said += self.shown(effect)
        return said

    # --- brokers and controllers ---

    def do_brokers(self, plain: list[str], named: dict[str, str]) -> None:
        for it in plain:
            broker, _, rack = it.partition("/")
            self.world.store.register(int(broker), rack=rack or None)
        self.world.elect()

    def do_up(self, plain: list[str], named: dict[str, str]) -> None:
        for it in plain:
            if it != "unclean":
                self.world.store.register(int(it), clean="unclean" not in plain)
        self.world.brokers_changed()

    def do_down(self, plain: list[str], named: dict[str, str]) -> None:
        for it in plain:
            del self.world.store.registrations[int(it)]
        self.world.brokers_changed()

    do_bounce = do_up

    def do_elect(self, plain: list[str], named: dict[str, str]) -> None:
        self.former = self.world.controller
        self.world.elect()

    def do_former(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.step(ev.BrokersChanged(registrations=self.world.store.registered()), self.former)

    def do_fence(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.step(ev.Fenced())

    def do_accepted(self, plain: list[str], named: dict[str, str]) -> list[str]:
        return [shown(tuple(it.broker_id for it in self.world.controller.image().brokers))]

    def do_wait(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.now_ms += int(plain[0])
        self.world.step(ev.Tick())

    def do_writes(self, plain: list[str], named: dict[str, str]) -> None:
        world = self.world
        world.is_held = plain[0] == "hold"
        world.outcomes.extend(plain[1:])
        if not world.is_held:
            world.deliver_all()

    def do_shutdown(self, plain: list[str], named: dict[str, str]) -> None:
        broker = int(plain[0])
        epoch = self.world.store.registrations[broker].broker_epoch
        self.world.step(ev.ShutdownAsked(token=f"shutdown {broker}", broker_id=broker, broker_epoch=epoch))

    def do_offline(self, plain: list[str], named: dict[str, str]) -> None:
        broker = int(plain[0])
        epoch = self.world.store.registrations[broker].broker_epoch
        keys = tuple(self.key(it) for it in plain[1:])
        self.world.step(
            ev.ReplicasOffline(token=f"offline {broker}", broker_id=broker, broker_epoch=epoch, keys=keys)
        )

    def do_suspect(self, plain: list[str], named: dict[str, str], *, refused: bool = True) -> None:
        of = int(named["of"])
        epochs = {it.broker_id: it.broker_epoch for it in self.world.store.registered()}
        for by in map(int, plain):
            self.world.step(
                ev.Suspected(by=by, by_epoch=epochs[by], of=of, of_epoch=epochs[of], refused=refused)
            )

    def do_unsuspect(self, plain: list[str], named: dict[str, str]) -> None:
        self.do_suspect(plain, named, refused=False)

    # --- partitions ---

    def do_topic(self, plain: list[str], named: dict[str, str]) -> None:
        name = plain[0]
        facts = TopicFacts(int(named.pop("min", 1)), named.pop("unclean", "no") == "yes")
        rows = {int(index): ids(replicas) for index, replicas in named.items()}
        self.create(
            name, facts, ev.CreateAsked(token="", name=name, topic_id=self.id_of(name), assignments=rows)
        )
        assert not any(it.code for it in self.world.replies()), self.world.replies()
        self.world.told[:] = [it for it in self.world.told if not isinstance(it, Reply)]

    def create(self, name: str, facts: TopicFacts, event: ev.CreateAsked) -> None:
        self.ids.pop(name, None)
        topic_id = self.id_of(name)
        self.world.store.facts[topic_id] = facts
        self.world.step(msgspec.structs.replace(event, topic_id=topic_id, facts=facts))

    def do_stored(self, plain: list[str], named: dict[str, str]) -> list[str]:
        key = self.key(plain[0])
        store = self.world.store
        state = store.states[key]
        more: dict[str, object] = {
            field: value == "yes" if field == "recovering" else int(value) if field in INTS else ids(value)
            for field, value in named.items()
        }
        store.states[key] = msgspec.structs.replace(state, version=state.version + 1, **more)
        return [self.state(key, store.states[key])]

    def do_min(self, plain: list[str], named: dict[str, str]) -> None:
        topic_id = self.ids[plain[0]]
        old = self.world.store.facts[topic_id]
        self.facts(topic_id, TopicFacts(int(plain[1]), old.unclean))

    def do_unclean(self, plain: list[str], named: dict[str, str]) -> None:
        topic_id = self.ids[plain[0]]
        self.facts(topic_id, TopicFacts(self.world.store.facts[topic_id].min_isr, plain[1] == "yes"))

    def facts(self, topic_id: UUID, facts: TopicFacts) -> None:
        self.world.store.facts[topic_id] = facts
        self.world.step(ev.FactsChanged(topic_id=topic_id, facts=facts))

    def do_isr(self, plain: list[str], named: dict[str, str]) -> None:
        broker, key = int(plain[0]), self.key(plain[1])
        state = self.world.store.states.get(key) or PartitionState(
            replicas=(), leader=-1, leader_epoch=0, isr=()
        )
        epochs = {it.broker_id: it.broker_epoch for it in self.world.store.registered()}
        members = [(int(it), int(epoch) if epoch else None) for it, _, epoch in split(plain[2])]
        proposed = ev.Proposed(
            key,
            int(named.get("epoch", state.leader_epoch)),
            int(named.get("version", state.version)),
            tuple(it for it, _ in members),
            tuple(epochs.get(it, 0) if epoch is None else epoch for it, epoch in members),
        )
        self.world.step(
            ev.IsrAsked(
                token=f"isr {broker}",
                broker_id=broker,
                broker_epoch=int(named.get("as", epochs.get(broker, 0))),
                proposals=(proposed,),
            )
        )

    def do_log_end(self, plain: list[str], named: dict[str, str]) -> None:
        broker = int(plain[0])
        end = ev.LogEnd(self.key(plain[1]), int(plain[2]), int(plain[3]))
        epoch = self.world.store.registrations[broker].broker_epoch
        self.world.step(ev.LogEndsTold(broker_id=broker, broker_epoch=epoch, ends=(end,)))

    def do_prefer(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.step(ev.ElectAsked(token="elect", kind="preferred", keys=self.keys(plain)))

    def do_elect_unclean(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.step(ev.ElectAsked(token="elect", kind="unclean", keys=self.keys(plain)))

    def do_reassign(self, plain: list[str], named: dict[str, str]) -> None:
        targets = tuple((self.key(it), ids(replicas)) for it, replicas in named.items())
        self.world.step(ev.ReassignAsked(token="reassign", targets=targets))

    def do_cancel(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.step(ev.ReassignAsked(token="cancel", targets=tuple((self.key(it), None) for it in plain)))

    def do_reassignments(self, plain: list[str], named: dict[str, str]) -> list[str]:
        found = self.world.controller.reassignments(None)
        return [self.state(*it) for it in found] or ["none"]

    # --- topics ---

    def do_create(self, plain: list[str], named: dict[str, str]) -> None:
        count, factor = int(named.pop("partitions", -1)), int(named.pop("factor", -1))
        rows = {int(index): ids(replicas) for index, replicas in named.items()}
        event = ev.CreateAsked(
            token="create",
            name=plain[0],
            topic_id=UUID(int=0),
            partition_count=count,
            replication_factor=factor,
            assignments=rows,
        )
        self.create(plain[0], TopicFacts(), event)

    def do_grow(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.step(ev.GrowAsked(token="grow", topic_id=self.ids[plain[0]], count=int(plain[1])))

    def do_delete(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.step(ev.DeleteAsked(token="delete", topic_id=self.ids[plain[0]]))

    def do_stopped(self, plain: list[str], named: dict[str, str]) -> list[str]:
        broker, topic_id = int(plain[0]), self.ids[plain[1]]
        epoch = self.world.store.registrations[broker].broker_epoch
        self.world.step(ev.ReplicasStopped(broker_id=broker, broker_epoch=epoch, topic_id=topic_id))
        return ["noted still" if topic_id in self.world.store.deletions else "forgotten"]

    # --- names ---

    def id_of(self, name: str) -> UUID:
        return self.ids.setdefault(
            name, UUID(int=1000 + self.world.store.next_broker_epoch * 100 + len(self.ids))
        )

    def key(self, name: str) -> PartitionKey:
        topic, _, index = name.rpartition("-")
        return PartitionKey(self.ids.get(topic, UUID(int=0)), int(index))

    def keys(self, plain: list[str]) -> tuple[PartitionKey, ...] | None:
        return None if plain == ["all"] else tuple(self.key(it) for it in plain)

    def name(self, key: PartitionKey) -> str:
        names = {topic_id: name for name, topic_id in self.ids.items()}
        return f"{names.get(key.topic_id, '?')}-{key.partition}"

    # --- what is shown ---

    def shown(self, effect: Effect) -> list[str]:
        if isinstance(effect, Publish):
            lines = [line for topic in effect.topics for line in self.topic(topic)]
            lines += [self.state(key, state) for key, state in effect.partitions]
            return lines + ["deleted" for _ in effect.deleted]
        if isinstance(effect, Reply):
            return self.reply(effect)
        if isinstance(effect, AskLogEnds):
            return [f"broker {effect.broker_id} is asked where {self.name(it)} ends" for it in effect.keys]
        if isinstance(effect, StopReplicas):
            epochs = " ".join(f"{index}@{epoch}" for index, epoch in effect.leader_epochs.items())
            return [f"broker {effect.broker_id} is to drop {effect.name} {epochs}".rstrip()]
        assert isinstance(effect, Resign)
        return ["resigns"]

    def topic(self, topic: Topic) -> list[str]:
        keys = (PartitionKey(topic.topic_id, it) for it in range(len(topic.partitions)))
        return [self.state(key, state) for key, state in zip(keys, topic.partitions, strict=True)]

    def state(self, key: PartitionKey, state: PartitionState) -> str:
        leader = f"leader {state.leader}" if state.leader != -1 else "no leader"
        parts = [
            f"{self.name(key)}: {leader} @{state.leader_epoch} isr {shown(state.isr)} of {shown(state.replicas)}"
        ]
        fields = ("elr", "last_known_elr", "adding", "removing")
        parts += [f"{it} {shown(getattr(state, it))}" for it in fields if getattr(state, it)]
        if state.recovering:
            parts.append("recovering")
        return ", ".join(parts)

    def reply(self, reply: Reply) -> list[str]:
        if reply.code:
            return [f"{reply.token} -> {error_name(reply.code)}"]
        if reply.items:
            return [f"{reply.token} -> {self.item(it)}" for it in reply.items]
        return [f"{reply.token} -> ok"]

    def item(self, item: Item) -> str:
        if item.code:
            return f"{self.name(item.key)} {error_name(item.code)}"
        assert item.state is not None
        return f"{self.name(item.key)} ok, v{item.state.version} isr {shown(item.state.isr)}"


INTS = {"leader", "leader_epoch"}


def ids(text: str) -> tuple[int, ...]:
    return tuple(int(it) for it in text.split(",") if it)


def split(text: str) -> list[tuple[str, str, str]]:
    return [it.partition(":") for it in text.split(",")]


def shown(members: tuple[int, ...]) -> str:
    return ",".join(map(str, members)) or "none"


def error_name(code: int) -> str:
    """Kafka's name for an error code."""
    return errors.error_for(code).name


def run(text: str) -> str:
    """The script with what comes of its commands now; equal to `text` where that is what it says."""
    script, out = Script(), []
    for line in text.splitlines():
        if line.startswith("  "):
            continue
        out.append(line)
        if not line:
            script = Script()
        elif not line.startswith("#"):
            out += ["  " + said for said in script.do(line)]
    return "\n".join(out) + "\n"
