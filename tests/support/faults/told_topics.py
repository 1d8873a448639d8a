"""What the brokers of a cluster say of a topic, all the time, while something befalls them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.raw import RawTcp

if TYPE_CHECKING:
    from fastlog.testing import Cluster
    from fastlog.testing.cluster_broker import ClusterBroker

PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 30.0
VERSION = 8


class ToldTopic:
    """Asks every broker for a topic from the beginning of a `with` block to its end."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.codes: set[int] = set()
        """The topic's error codes."""
        self.partitions: set[int] = set()
        """How many partitions it was said to have."""
        self._topic = topic
        self._over = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(it,), daemon=True) for it in cluster.brokers.values()
        ]

    def __enter__(self) -> ToldTopic:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join(2 * ANSWER_SECONDS)
        assert not self._failures, self._failures

    def _run(self, broker: ClusterBroker) -> None:
        request = MetadataRequest([MetadataRequestTopic(name=self._topic)], allow_auto_topic_creation=False)
        try:
            with RawTcp("127.0.0.1", broker.ports["PLAINTEXT"], seconds=ANSWER_SECONDS) as connection:
                while not self._over.wait(PAUSE_SECONDS):
                    (topic,) = connection.ask(request, VERSION).topics
                    self.codes.add(topic.error_code)
                    self.partitions.add(len(topic.partitions))
        except BaseException as error:
            self._failures.append(error)
