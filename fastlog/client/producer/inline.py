"""Sending on the caller's thread: with `linger_ms=0` a record whose batch is alone goes to the socket within `send`.

That saves waking the sender, which then only reads the answer. All else stays the sender's: connecting, retries, what
could not be sent, and every callback.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastlog.client.producer import requests
from fastlog.client.producer.requests import ProduceToken
from fastlog.protocol.api import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.client.producer.accumulator import Accumulator
    from fastlog.client.producer.background import Background
    from fastlog.client.producer.links import BrokerLinks, LinkSlot
    from fastlog.client.producer.partition_queue import PartitionQueue
    from fastlog.client.producer.settings import ProducerSettings
    from fastlog.native._sending import Lock

#: the sender looks at deadlines that often at least while records are sent here, so that no one has to wake it for them
LOOK_INTERVAL_MS = 100.0


class InlineSender:
    """Sends lone batches while the sender sleeps. Only over TCP, whose socket another thread may poll meanwhile."""

    def __init__(
        self,
        *,
        settings: ProducerSettings,
        accumulator: Accumulator,
        background: Background,
        links: BrokerLinks,
        turn: Lock,
        clock_ms: Callable[[], float],
    ) -> None:
        """`turn` is held by the thread that may touch `links` and take batches: the sender while it is awake."""
        #: when something was last sent here
        self.sent_ms = 0.0
        #: what could not be sent, for the sender to deal with; guarded by `turn`
        self.failed: list[tuple[LinkSlot, ProduceToken, BaseException]] = []
        self._settings = settings
        self._accumulator = accumulator
        self._background = background
        self._links = links
        self._turn = turn
        self._clock_ms = clock_ms

    def send(self, queue: PartitionQueue) -> bool | None:
        """Sends the batch that was just opened in `queue`; true where nothing is left for the sender but the answer.

        Does not block. Raises nothing but what a signal raises.
        """
        return self._turn.attempt(self._send, queue)

    def _send(self, queue: PartitionQueue) -> bool:
        now_ms = self._clock_ms()
        token = ProduceToken()
        slot: LinkSlot | None = None
        try:
            with self._accumulator.lock:
                slot = self._slot_for(queue, now_ms)
                if slot is None:
                    return False
                token.entries.append((queue, queue.take(slot.link)))
                self._accumulator.changed(queue)
            for _, batch in token.entries:
                requests.seal(batch, self._settings.compression)
            settings, spoken = self._settings, slot.version(ApiKey.PRODUCE)
            with self._accumulator.lock:
                ids = self._accumulator.topic_ids(token.entries, self._background.image)
            request, version = token.request(settings.acks, settings.request_timeout_ms, spoken, ids)
            slot.send(request, version, token, now_ms, answered=True)
        except BaseException as error:
            # callbacks, and the end of a connection that the sender may be polling, are the sender's
            if slot is not None:
                self.failed.append((slot, token, error))
            if not isinstance(error, Exception):
                raise
            return False
        self.sent_ms = now_ms
        look_ms = now_ms + min(LOOK_INTERVAL_MS, self._settings.request_timeout_ms)
        return slot.usable(now_ms) and self._accumulator.is_asleep(look_ms)

    def _slot_for(self, queue: PartitionQueue, now_ms: float) -> LinkSlot | None:
        """The connection for the only batch of `queue`, where there is one with nothing to be done before."""
        if queue.in_flight or len(queue.waiting) != 1 or not self._accumulator.is_asleep(math.inf):
            return None
        slot = self._links.slot_for(self._background.image, queue.topic, queue.partition)
        if slot is None or slot.link is None or not slot.usable(now_ms):
            return None
        if slot.in_flight >= self._settings.max_in_flight or not queue.may_send(now_ms, slot.link):
            return None
        return slot
