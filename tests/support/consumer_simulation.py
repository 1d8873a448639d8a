"""Members of the consumer protocol that come, go, stall and are lost, while answers get lost, writes fail and the
coordinator restarts.

The promise: of the members that the coordinator knows, no two believe to have the same partition.
"""

from __future__ import annotations

import random

from tests.support.consumer_members import Member, settle
from tests.support.group_world import World

TOPICS = ("t", "u", "v")
UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH = 25, 110


class Simulation:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.chances = random.Random(seed)
        self.world = World()
        for topic in TOPICS:
            self.world.topics.put(topic, self.chances.randint(1, 8))
        self.live: list[Member] = []
        self.moves = self.restarts = self.failures = 0
        self.deaf: set[Member] = set()
        self.trace: list[str] = []
        self._names = 0

    def step(self) -> None:
        """Something happens."""
        act = self.chances.choices(
            [
                self.beat,
                self.deafen,
                self.come,
                self.go,
                self.die,
                self.stall,
                self.change,
                self.grow,
                self.restart,
                self.fail,
            ],
            [40, 6, 4, 2, 1, 3, 2, 1, 1, 1],
        )[0]
        act()
        self.world.wait(self.chances.choice((0, 100, 2_000, 6_000)))
        self.world.fails_with = 0
        self.check()

    def check(self) -> None:
        """No partition has two members that the coordinator knows."""
        group = self.world.coordinator._consumers.table.find("g")
        if group is None:
            return
        owner: dict[tuple[bytes, int], str] = {}
        for member in self.live:
            if member.name not in group.members:
                continue
            for partition in member.owned:
                assert partition not in owner, f"{partition} has {owner[partition]} and {member.name}"
                owner[partition] = member.name
        assert self.world.memory.held_bytes == self.world.counted_bytes()

    def note(self, what: str) -> None:
        self.trace.append(what)

    def some(self) -> Member | None:
        return self.chances.choice(self.live) if self.live else None

    def beat(self) -> None:
        member = self.some()
        if member is None:
            return
        known = member.epoch, set(member.owned)
        member.beat(full=self.chances.random() < 0.1)
        self.note(f"{member.name} beats: {member.error} {member.epoch}")
        if member in self.deaf:
            member.epoch, member.owned = known
            return
        self.moves += member.owned != known[1]
        if member.error in (UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH):
            # it abandons what it has and joins again
            self.join_again(member)

    def deafen(self) -> None:
        """The answers to a member are lost from now on; or no more, where that was so."""
        member = None if self.deaf else self.some()
        self.deaf = set() if member is None else {member}
        self.note(f"deaf: {[it.name for it in self.deaf]}")

    def join_again(self, member: Member) -> None:
        member.join()
        self.note(f"{member.name} joins again: {member.error} {member.epoch}")
        assert member.error != FENCED_MEMBER_EPOCH, f"{member.name} is fenced until its session ends"

    def come(self) -> None:
        if len(self.live) > 6:
            return
        self._names += 1
        wanted = self.chances.sample(TOPICS, self.chances.randint(1, 3))
        assignor = self.chances.choice((None, None, "uniform", "range"))
        regex = self.chances.choice((None, None, "[tu]"))
        member = Member(self.world, f"m{self._names}", *wanted, regex=regex, assignor=assignor)
        member.join()
        self.note(f"{member.name} comes: {member.error}")
        if not member.error:
            self.live.append(member)

    def go(self) -> None:
        member = self.some()
        if member is not None:
            self.live.remove(member)
            member.leave()
            self.note(f"{member.name} goes")

    def die(self) -> None:
        member = self.some()
        if member is not None:
            self.live.remove(member)
            self.note(f"{member.name} dies")

    def stall(self) -> None:
        member = self.some()
        if member is not None:
            member.is_slow = not member.is_slow
            self.note(f"{member.name} is slow: {member.is_slow}")

    def change(self) -> None:
        member = self.some()
        if member is not None:
            member.topics = self.chances.sample(TOPICS, self.chances.randint(1, 3))
            member.beat(full=True)
            self.note(f"{member.name} wants {member.topics}: {member.error}")

    def grow(self) -> None:
        topic = self.chances.choice(TOPICS)
        count = self.world.topics.facts[topic].partition_count
        self.world.topics.put(topic, min(count + 1, 12))
        self.world.coordinator.topics_changed({topic})
        self.note(f"{topic} grows")

    def restart(self) -> None:
        self.world.restart()
        self.restarts += 1
        self.note("restart")

    def fail(self) -> None:
        self.world.fails_with = self.chances.choice((7, 19, 56))
        self.failures += 1
        self.note(f"writes fail with {self.world.fails_with}")
        self.beat()
        self.come()

    def finish(self) -> None:
        """Left alone, every partition that is wanted has one owner."""
        self.world.fails_with = 0
        self.deaf.clear()
        if not self.live:
            self.come()
        for member in self.live:
            member.is_slow = False
        for _ in range(30):
            for member in self.live:
                member.beat(full=True)
                if member.error:
                    self.join_again(member)
            self.world.wait(4_000)
        settle(*self.live, rounds=30)
        self.check()
        wanted = {topic for it in self.live for topic in (*it.topics, *("tu" if it.regex else ""))}
        every = {
            (facts.topic_id, number)
            for topic in wanted
            for facts in [self.world.topics.facts[topic]]
            for number in range(facts.partition_count)
        }
        owned = [partition for it in self.live for partition in it.owned]
        assert sorted(owned) == sorted(every), f"{sorted(every - set(owned))} have no owner"
        group = self.world.coordinator.describe_consumer_group("g")
        assert group.group_state == "Stable"
        assert {it.epoch for it in self.live} == {group.group_epoch}


def run(seed: int, steps: int) -> Simulation:
    """Runs one seed to its end; an AssertionError names it."""
    simulation = Simulation(seed)
    try:
        for _ in range(steps):
            simulation.step()
        simulation.finish()
    except AssertionError as error:
        last = "\n".join(simulation.trace[-12:])
        raise AssertionError(f"seed {seed}: {error}\n{last}") from error
    return simulation
