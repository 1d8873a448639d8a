"""Simulated members of one group around a coordinator that is restarted and whose log fails, stalls and recovers.

Members do what clients do: they join, assign when they lead, heartbeat, commit, and begin again when they are told to.
Everything that happens follows from the seed. What must never happen is asserted as it would.
"""

from __future__ import annotations

import random
from typing import Any

from fastlog.protocol.messages.leave_group import MemberIdentity
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from fastlog.protocol.messages.offset_fetch import OffsetFetchRequestGroup
from fastlog.state.group.settings import GroupSettings
from tests.support.group_world import Note, World

PARTITIONS = 8
GROUP = "g"
# a client that waited so long for an answer sends again
REQUEST_TIMEOUT_MS = 40_000
HEARTBEAT_MS = 2_000
SETTLE_MS = 200_000
REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, MEMBER_ID_REQUIRED, FENCED = 27, 22, 25, 79, 82


class Client:
    """A member: `joining`, `syncing` or `stable`, and dead for good."""

    def __init__(self, simulation: Simulation, name: str, instance_id: str | None) -> None:
        self.simulation = simulation
        self.name = name
        self.instance_id = instance_id
        self.member_id = ""
        self.generation = -1
        self.state = "out"
        self.owned: frozenset[int] = frozenset()
        self.asked: tuple[Note, int] | None = None
        self.heard_ms = 0
        self.given: dict[str, bytes] = {}
        self.stalled_until_ms = 0
        self.late: list[Any] = []

    def step(self) -> None:
        """Does what is due."""
        world = self.simulation.world
        now = world.now.monotonic_ms
        if self.stalled_until_ms:
            if now < self.stalled_until_ms:
                return
            # it does not know yet that it was gone
            self.stalled_until_ms = 0
            self.commit()
            late, self.late = self.late, []
            for answer in late:
                self.hear(answer)
            return
        if self.asked is not None and now - self.asked[1] > REQUEST_TIMEOUT_MS:
            # the answer went with a restart
            self.asked = None
            self.state = "out"
        if self.asked is not None:
            return
        if self.state == "out":
            self.join()
        elif self.state == "stable" and now - self.heard_ms >= HEARTBEAT_MS:
            self.heard_ms = now
            self.told(world.heartbeat(self.member_id, self.generation, GROUP, self.instance_id))

    def hear(self, answer: Any) -> None:
        """Takes an answer, unless it is stalled, or has given the request up."""
        if self.stalled_until_ms:
            self.late.append(answer)
        elif self.asked is not None and self.asked[0].is_answered:
            self.asked = None
            if self.state == "joining":
                self.joined(answer)
            else:
                self.synced(answer)

    def told(self, code: int) -> None:
        """Reacts to an error as clients do."""
        if code:
            self.owned = frozenset()
            self.state = "out"
            if code in (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION):
                self.member_id = ""
            if code == FENCED:
                self.simulation.live.remove(self)

    def join(self) -> None:
        self.owned = frozenset()
        self.state = "joining"
        self.asked = (
            self.simulation.world.join(
                self.name,
                GROUP,
                member_id=self.member_id,
                instance_id=self.instance_id,
                session_timeout_ms=6_000,
                rebalance_timeout_ms=15_000,
            ),
            self.simulation.world.now.monotonic_ms,
        )

    def joined(self, answer: Any) -> None:
        if answer.error_code == MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            self.join()
            return
        if answer.error_code:
            self.told(answer.error_code)
            return
        self.member_id, self.generation = answer.member_id, answer.generation_id
        self.given = {}
        if answer.leader == self.member_id and not answer.skip_assignment and answer.members:
            ids = [it.member_id for it in answer.members]
            assert self.member_id in ids
            shares = {it: bytes(range(number, PARTITIONS, len(ids))) for number, it in enumerate(ids)}
            self.given = shares
            self.simulation.shares[self.generation] = shares
        self.state = "syncing"
        self.asked = (
            self.simulation.world.sync(self.name, self.member_id, self.generation, self.given, GROUP),
            self.simulation.world.now.monotonic_ms,
        )

    def synced(self, answer: Any) -> None:
        if answer.error_code:
            self.told(answer.error_code)
            return
        self.state = "stable"
        self.heard_ms = self.simulation.world.now.monotonic_ms
        self.owned = frozenset(answer.assignment)
        self.simulation.owns(self)

    def commit(self) -> None:
        """Commits a position of one of its partitions."""
        if self.state == "stable" and self.owned:
            self.simulation.commit(self, self.simulation.rng.choice(sorted(self.owned)))


class Simulation:
    """A run of one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(GroupSettings(initial_rebalance_delay_ms=1_000))
        self.live: list[Client] = []
        self.shares: dict[int, dict[str, bytes]] = {}
        self.trace: list[str] = []
        self._names = 0
        self._owners: dict[tuple[int, int], str] = {}
        self._newest = 0
        self._positions = dict.fromkeys(range(PARTITIONS), -1)
        self._acknowledged = dict.fromkeys(range(PARTITIONS), -1)
        self._commits: dict[str, tuple[Client, int, int, int]] = {}
        self.rebalances = self.commits = self.restarts = 0

    # --- what must hold ---

    def owns(self, client: Client) -> None:
        """A member was told its partitions: nobody else was told one of them in this generation."""
        self._newest = max(self._newest, client.generation)
        for partition in client.owned:
            # a static member that comes back goes on with what it had
            who = client.instance_id or client.name
            owner = self._owners.setdefault((client.generation, partition), who)
            assert owner == who, f"generation {client.generation}: {partition} is {owner}'s and {who}'s"

    def commit(self, client: Client, partition: int) -> None:
        self._positions[partition] += 1
        offset = self._positions[partition]
        row = OffsetCommitRequestPartition(partition, offset)
        request = OffsetCommitRequest(
            group_id=GROUP,
            generation_id_or_member_epoch=client.generation,
            member_id=client.member_id,
            group_instance_id=client.instance_id,
            topics=[OffsetCommitRequestTopic("t", partitions=[row])],
        )
        name = f"commit {client.name} {partition} {offset}"
        self._commits[name] = (client, partition, offset, self._newest)
        world = self.world
        world.carry_out(world.coordinator.commit(request, 9, world.reply(name), world.now))

    def _committed(self, name: str, answer: Any) -> None:
        client, partition, offset, newest = self._commits.pop(name)
        code = answer.topics[0].partitions[0].error_code
        if code == 0:
            self.commits += 1
            self._acknowledged[partition] = max(self._acknowledged[partition], offset)
            assert client.generation >= newest or client.state != "stable", (
                f"a commit of generation {client.generation} was taken after {newest} had begun"
            )
        elif code in (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS, FENCED):
            client.heard_ms = 0

    def check(self) -> None:
        """No acknowledged commit is lost, and what memory holds is what was counted."""
        assert self.world.memory.held_bytes == self.world.counted_bytes()
        fetched = self.world.coordinator.fetch(OffsetFetchRequestGroup(GROUP, topics=None))
        found = {
            it.partition_index: it.committed_offset for topic in fetched.topics for it in topic.partitions
        }
        for partition, offset in self._acknowledged.items():
            got = found.get(partition, -1)
            assert offset <= got <= self._positions[partition], (
                f"partition {partition}: {offset}, found {got}"
            )

    # --- what happens ---

    def step(self) -> None:
        """Something happens, chosen by chance."""
        rng, world = self.rng, self.world
        what = rng.choices(
            ["time", "start", "leave", "kill", "commit", "restart", "log", "stall"],
            [60, 4, 3, 2, 25, 1, 3, 2],
        )[0]
        if what == "time":
            self._pass(rng.choice([10, 500, 1_000, 3_000]))
        elif what == "start" and len(self.live) < 6:
            self.start()
        elif what in ("leave", "kill") and len(self.live) > 1:
            client = self.live.pop(rng.randrange(len(self.live)))
            if what == "leave" and client.member_id:
                world.leave("", MemberIdentity(client.member_id, client.instance_id))
        elif what == "commit" and self.live:
            rng.choice(self.live).commit()
        elif what == "stall" and self.live:
            stalled = rng.choice(self.live)
            stalled.stalled_until_ms = world.now.monotonic_ms + rng.choice([4_000, 20_000, 50_000])
        elif what == "restart":
            self.restarts += 1
            world.is_held, world.fails_with = False, 0
            world.restart()
            self._commits.clear()
            assert self._generation() >= self._newest, "a generation that members were told of is forgotten"
        elif what == "log":
            world.is_held = rng.random() < 0.4
            world.fails_with = rng.choice([0, 0, 0, 56, 7])
            if not world.is_held:
                world.release()
        self._deliver()
        self.trace.append(
            f"{what} {self._generation()} {[(it.name, it.state, sorted(it.owned)) for it in self.live]}"
        )
        self.check()

    def start(self) -> None:
        """A client begins; sometimes one that was there before, by its instance id."""
        self._names += 1
        instance_id = self.rng.choice([None, None, "i1", "i2"])
        if instance_id in {it.instance_id for it in self.live}:
            instance_id = None
        self.live.append(Client(self, f"c{self._names}", instance_id))

    def _pass(self, ms: int) -> None:
        end = self.world.now.monotonic_ms + ms
        while self.world.now.monotonic_ms < end:
            self.world.wait(min(250, end - self.world.now.monotonic_ms))
            self._deliver()
            for client in list(self.live):
                client.step()
                self._deliver()

    def _deliver(self) -> None:
        while self.world.answers:
            name, answer = self.world.answers.pop(0)
            if name.startswith("commit "):
                if name in self._commits:
                    self._committed(name, answer)
                continue
            for client in self.live:
                if client.name == name:
                    client.hear(answer)
                    break

    def _generation(self) -> int:
        groups = self.world.coordinator._groups
        group = groups.find(GROUP)
        return 0 if group is None else group.generation

    def finish(self) -> None:
        """Without further mishaps the group comes to rest, and every partition has one owner who is alive."""
        self.world.is_held, self.world.fails_with = False, 0
        self.world.release()
        # one more is gone, and nobody but the coordinator can tell
        self.live[:-1] = self.live[:-2]
        if not self.live:
            self.start()
        for client in self.live:
            client.stalled_until_ms = 0
        self._pass(SETTLE_MS)
        owned = sorted(partition for client in self.live for partition in client.owned)
        states = [(it.name, it.state, it.generation) for it in self.live]
        assert owned == list(range(PARTITIONS)), f"{owned} {states}"
        assert {it.generation for it in self.live} == {self._generation()}
        self.rebalances = self._generation()
        self.check()


def run(seed: int, steps: int) -> Simulation:
    """Runs one seed to its end; an AssertionError names it."""
    simulation = Simulation(seed)
    try:
        for _ in range(steps):
            simulation.step()
        simulation.finish()
    except AssertionError as error:
        last = "\n".join(simulation.trace[-10:])
        raise AssertionError(f"seed {seed}: {error}\n{last}") from error
    return simulation
