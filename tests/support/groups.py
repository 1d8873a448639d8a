"""Random groups for the assignors, and rounds of a group's life."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from fastlog.state.assignors import ASSIGNORS, Counts, Partition, Subscription

TOPICS = ["a", "b", "topic-c", "d"]


@dataclass
class Life:
    """A group from rebalance to rebalance, as a leader sees it."""

    assignor: str
    chances: random.Random
    counts: dict[str, int] = field(default_factory=dict)
    members: dict[str, Subscription] = field(default_factory=dict)
    #: what each member was given last, and in which generation
    given: dict[str, tuple[list[Partition], int]] = field(default_factory=dict)
    generation: int = 0

    def change(self, *, same_topics: bool) -> None:
        """Members come, go and change their minds; topics grow."""
        chances = self.chances
        for topic in chances.sample(TOPICS, chances.randint(1, len(TOPICS))):
            self.counts[topic] = self.counts.get(topic, 0) + chances.randint(0, 7)
        self.counts = {topic: count for topic, count in self.counts.items() if count} or {"a": 1}
        for member in list(self.members):
            if chances.random() < 0.25:
                del self.members[member]
                self.given.pop(member, None)
        for _ in range(chances.randint(0 if self.members else 1, 5)):
            static = f"i{chances.randint(0, 99)}" if chances.random() < 0.3 else None
            name = f"client-{chances.randint(0, 10**6)}-{chances.getrandbits(64):x}"
            self.members[name] = Subscription(topics=(), group_instance_id=static)
        shared = tuple(chances.sample(sorted(TOPICS), chances.randint(1, len(TOPICS))))
        for member, subscription in self.members.items():
            some = tuple(chances.sample(TOPICS, chances.randint(1, len(TOPICS))))
            self.members[member] = replace(subscription, topics=shared if same_topics else some)

    def known(self) -> Counts:
        """The topics that are there and wanted."""
        wanted = {topic for subscription in self.members.values() for topic in subscription.topics}
        return {topic: count for topic, count in self.counts.items() if topic in wanted}

    def subscriptions(self) -> dict[str, Subscription]:
        """What the members tell when they join."""
        assignor = ASSIGNORS[self.assignor]
        told = {}
        for member, subscription in self.members.items():
            owned, generation = self.given.get(member, ([], -1))
            owned = [partition for partition in owned if partition[0] in subscription.topics]
            told[member] = replace(
                subscription,
                user_data=assignor.user_data(owned, generation),
                owned_partitions=tuple(owned) if assignor.cooperative else (),
                generation_id=generation,
            )
        return told

    def take(self, assignment: dict[str, list[Partition]]) -> None:
        """A new generation begins; now and then a member misses it."""
        self.generation += 1
        for member, partitions in assignment.items():
            if self.chances.random() < 0.9:
                self.given[member] = (partitions, self.generation)
