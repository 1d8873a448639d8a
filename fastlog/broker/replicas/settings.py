"""What a broker's replication is held to; the settings of the broker have these names where Kafka has them."""

from __future__ import annotations

import msgspec


class ReplicaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds, sizes in bytes."""

    lag_ms: int = 30_000
    """`replica.lag.time.max.ms`."""
    fetch_wait_ms: int = 500
    """`replica.fetch.wait.max.ms`: how long a leader may hold back an answer that has nothing new."""
    fetch_min_bytes: int = 1
    """`replica.fetch.min.bytes`."""
    fetch_bytes_max: int = 1_048_576
    """`replica.fetch.max.bytes`: of one partition; its first batch comes whole, however large."""
    response_bytes_max: int = 10_485_760
    """`replica.fetch.response.max.bytes`: of all partitions of an answer."""
    backoff_ms: int = 1_000
    """`replica.fetch.backoff.ms`."""
    request_timeout_ms: int = 30_000
    """`replica.socket.timeout.ms`: a leader that has not answered by then counts as lost."""
    handshake_timeout_ms: int = 5_000
    """How long a connection to a leader may take."""
    isr_tick_ms: int = 500
    """How often a partition is looked at of which somebody is about to join, or a proposal is under way."""
    proposal_timeout_ms: int = 10_000
    """How long the controller's answer to a proposal, or a snapshot, is waited for."""
    log_ends_wait_ms: int = 1_000
    """How long a question for log ends waits for the states that it is about."""
    retry_ms: int = 1_000
    """When a role that the engine could not take on, on a full disk say, is tried again."""
    notices_max: int = 10_000
    """What waits to be applied; notices beyond are dropped, and a snapshot makes up for them."""
