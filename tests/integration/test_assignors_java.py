"""Our assignors beside Kafka's own classes: the same input gives the same assignment, byte for byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fastlog.state.assignors import (
    ASSIGNORS,
    Partition,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_subscription,
)
from tests.integration.kafka import tool
from tests.support.groups import Life

SOURCE = Path(__file__).parent / "kafka" / "Assignments.java"
LIVES, ROUNDS = 40, 6
Case = tuple[str, dict[str, int], dict[str, Subscription]]


def line(case: Case) -> str:
    name, counts, subscriptions = case
    topics = ",".join(f"{topic}={count}" for topic, count in counts.items())
    members = [
        f"{member};{subscription.group_instance_id or '-'};{encode_subscription(subscription).hex()}"
        for member, subscription in subscriptions.items()
    ]
    return "\t".join([name, topics, *members])


def cases(name: str) -> list[Case]:
    """What a leader of such a group is asked over some rounds, with conflicts and members left behind."""
    found: list[Case] = []
    for seed in range(LIVES):
        life = Life(name, random.Random(seed))
        for _ in range(ROUNDS):
            life.change(same_topics=seed % 2 == 0)
            if not life.known():
                continue
            # as they arrive: the bytes are sorted
            subscriptions = {
                member: decode_subscription(encode_subscription(told), told.group_instance_id)
                for member, told in life.subscriptions().items()
            }
            found.append((name, dict(life.known()), subscriptions))
            life.take(ASSIGNORS[name].assign(life.known(), subscriptions))
    return found


def topics_in_order(partitions: list[Partition]) -> dict[str, list[int]]:
    """The order of topics means nothing: range goes over a map of them."""
    found: dict[str, list[int]] = {}
    for topic, number in partitions:
        found.setdefault(topic, []).append(number)
    return found


@pytest.mark.parametrize("name", sorted(ASSIGNORS))
def test_the_answers_are_those_of_kafka(name: str) -> None:
    asked = cases(name)
    answers = tool(str(SOURCE), stdin="".join(f"{line(case)}\n" for case in asked)).splitlines()
    assert len(answers) == len(asked) > 100
    for case, answer in zip(asked, answers, strict=True):
        pairs = dict(word.split("=") for word in answer.split(" "))
        theirs = {
            member: topics_in_order(decode_assignment(bytes.fromhex(text))) for member, text in pairs.items()
        }
        ours = {
            member: topics_in_order(partitions)
            for member, partitions in ASSIGNORS[name].assign(case[1], case[2]).items()
        }
        assert ours == theirs, line(case)
