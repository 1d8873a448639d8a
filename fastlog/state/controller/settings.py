"""What a controller is held to; the settings of the broker have the same names where Kafka has them."""

from __future__ import annotations

import msgspec


class ControllerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds and times of a controller."""

    auto_leader_rebalance: bool = True
    """`auto.leader.rebalance.enable`."""
    imbalance_check_ms: int = 300_000
    """`leader.imbalance.check.interval.seconds`."""
    imbalance_percent: int = 10
    """`leader.imbalance.per.broker.percentage`: above it, a broker's preferred partitions are given back to it."""
    balance_batch: int = 100
    """Leaders moved at once by the balance; the next batch waits until all of them are written."""
    write_items: int = 99
    """Partitions of one write: 100 operations of a multi, of which one checks the fence."""
    asks_per_partition: int = 16
    """Requests that wait for a partition's write; a leader that asks again and again is told to ask later."""
    suspicion_interval_ms: int = 30_000
    """A process is taken for dead on the word of its peers once in this time: a false suspicion costs churn."""
    suspecting_peers: int = 2
    """Peers that must agree at least; with fewer the session decides."""
    log_end_wait_ms: int = 2_000
    """How long the log ends of replicas that were not in sync are waited for, once all that were have answered."""
    retry_ms: int = 500
    """When what the store gave no certain answer to is tried or read again."""


class TopicFacts(msgspec.Struct, frozen=True):
    """What a topic's settings say that elections ask."""

    min_isr: int = 1
    """`min.insync.replicas`."""
    unclean: bool = False
    """`unclean.leader.election.enable`."""
