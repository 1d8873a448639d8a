"""Requests that only a partition's leader answers: sent to each leader, and again where leaders have moved."""

from __future__ import annotations

import random
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fastlog.client.backoff import Backoff
from fastlog.client.connection import Connection, monotonic_ms
from fastlog.client.metadata import Metadata
from fastlog.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NotReachableError,
    UnknownTopicOrPartitionError,
    error_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastlog.client.metadata import BrokerAddress

TopicPartition = tuple[str, int]
NO_HINTS: Mapping[int, str] = MappingProxyType({})


def by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Partitions, grouped by topic in order of first mention."""
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    return topics


class LeaderRequests:
    """Keeps a connection per broker. Not thread-safe."""

    def __init__(self, metadata: Metadata, *, client_id: str, request_timeout_ms: float) -> None:
        self._metadata = metadata
        self._client_id = client_id
        self._request_timeout_ms = request_timeout_ms
        self._connections: dict[BrokerAddress, Connection] = {}
        self._backoff = Backoff(50, 1_000, random.random)

    def ask(
        self,
        wanted: Mapping[TopicPartition, Any],
        build: Callable[[Mapping[TopicPartition, Any]], Any],
        read: Callable[[Any], Iterable[tuple[TopicPartition, int, Any]]],
        timeout_ms: float,
        *,
        what: str,
        hints: Mapping[int, str] = NO_HINTS,
        unanswered: dict[TopicPartition, Exception] | None = None,
    ) -> dict[TopicPartition, Any]:
        """The result for every partition of `wanted`; `what` is asked for, in the words of an error.

        `hints` say of error codes why, and what to do.

        Partitions whose leader has moved or cannot be reached are asked again until `timeout_ms` has passed. Those that
        are left then are put into `unanswered`, each with the reason; without it the last reason is raised. Raises the
        first error that asking again cannot mend.
        """
        deadline = monotonic_ms() + timeout_ms
        results: dict[TopicPartition, Any] = {}
        attempt = 0
        while True:
            attempt += 1
            left = {entry: wanted[entry] for entry in wanted if entry not in results}
            if not left:
                return {entry: results[entry] for entry in wanted}
            problems = self._round(
                left, build, read, results, max(deadline - monotonic_ms(), 1.0), what, hints
            )
            if not problems:
                continue
            delay = self._backoff.delay_ms(attempt)
            if monotonic_ms() + delay >= deadline:
                if unanswered is None:
                    raise problems.popitem()[1]
                unanswered.update(problems)
                return {entry: results[entry] for entry in wanted if entry in results}
            time.sleep(delay / 1000)

    def close(self) -> None:
        """Ends the connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _round(
        self,
        left: Mapping[TopicPartition, Any],
        build: Callable[[Mapping[TopicPartition, Any]], Any],
        read: Callable[[Any], Iterable[tuple[TopicPartition, int, Any]]],
        results: dict[TopicPartition, Any],
        timeout_ms: float,
        what: str,
        hints: Mapping[int, str],
    ) -> dict[TopicPartition, Exception]:
        """Asks each leader once; errors after which asking again may help, the last one last."""
        image = self._metadata.refresh(by_topic(left), timeout_ms=timeout_ms)
        problems: dict[TopicPartition, Exception] = {}
        groups: dict[BrokerAddress, dict[TopicPartition, Any]] = {}
        for entry, spec in left.items():
            leader = image.leader(*entry)
            if leader < 0:
                problems[entry] = self._no_leader(entry, f"{what} {spec}")
            else:
                groups.setdefault(image.brokers[leader], {})[entry] = spec
        for broker, group in groups.items():
            try:
                response = self._connection(broker).request(build(group), timeout_ms=timeout_ms)
            except NotReachableError as error:
                self._connections.pop(broker).close() if broker in self._connections else None
                problems.update(dict.fromkeys(group, error))
                continue
            for entry, code, result in read(response):
                if code:
                    tried = f"{what} {group[entry]} of {entry[0]}-{entry[1]}"
                    problems[entry] = self._refused(tried, code, broker, hints)
                else:
                    results[entry] = result
        return problems

    def _connection(self, broker: BrokerAddress) -> Connection:
        connection = self._connections.get(broker)
        if connection is None:
            connection = self._connections[broker] = Connection(
                broker.host,
                broker.port,
                client_id=self._client_id,
                request_timeout_ms=self._request_timeout_ms,
            )
        return connection

    def _no_leader(self, entry: TopicPartition, what: str) -> KafkaError:
        topic, partition = entry
        known = self._metadata.image.topics.get(topic)
        if known is not None and known.error_code:
            is_unknown = known.error_code == UnknownTopicOrPartitionError.code
            reason = (
                "there is no such topic; `list_topics` names them all"
                if is_unknown
                else "so says the cluster of the topic"
            )
            error = error_for(known.error_code, f"{what} of {topic}-{partition}: {reason}")
            if not error.retriable:
                raise error
            return error
        if known is not None and partition >= len(known.partitions):
            raise UnknownTopicOrPartitionError(
                f"{what} of {topic}-{partition}: the topic has {len(known.partitions)} partitions, from 0 on"
            )
        return LeaderNotAvailableError(
            f"{what} of {topic}-{partition}: it has no leader now; look at its replicas, or try again"
        )

    @staticmethod
    def _refused(what: str, code: int, broker: BrokerAddress, hints: Mapping[int, str]) -> KafkaError:
        hint = f": {hints[code]}" if code in hints else ""
        error = error_for(code, f"{what}, asked of {broker.host}:{broker.port}{hint}")
        if not error.retriable:
            raise error
        return error


def leaders_of(
    bootstrap: str | Iterable[str],
    *,
    client_id: str,
    request_timeout_ms: float,
    bootstrap_timeout_ms: float,
) -> tuple[Metadata, LeaderRequests]:
    """What finds and asks the leaders of a cluster; each is to be closed. Connects when it is first used.

    Raises ConfigError where `bootstrap` names no broker.
    """
    metadata = Metadata(
        bootstrap,
        client_id=client_id,
        request_timeout_ms=request_timeout_ms,
        bootstrap_timeout_ms=bootstrap_timeout_ms,
    )
    return metadata, LeaderRequests(metadata, client_id=client_id, request_timeout_ms=request_timeout_ms)
