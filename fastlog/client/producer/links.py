"""The producer's connections: one per broker, over ZeroMQ where the broker has it, made anew with back-off when
lost.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastlog.client.addresses import parse_address
from fastlog.client.link import Link
from fastlog.transport.channel import ConnectionLostError
from fastlog.transport.tcp import TcpChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastlog.client.backoff import Backoff
    from fastlog.client.link import Answer
    from fastlog.client.metadata import BrokerAddress, ClusterImage
    from fastlog.transport.channel import Channel
    from fastlog.transport.dealer import DealerContext


class ChannelOpener:
    """Opens the best channel to a broker: ZeroMQ where it names an endpoint, TCP otherwise.

    Always TCP where `linger_ms` is 0: four threads hand a request and its answer on there, eight with ZeroMQ.
    """

    def __init__(self, connect_timeout_ms: float, linger_ms: float) -> None:
        self._connect_timeout_ms = connect_timeout_ms
        self._prefers_tcp = linger_ms == 0
        self._context: DealerContext | None = None

    def open(self, broker: BrokerAddress) -> Channel:
        """Starts a connection; raises ConnectionLostError where it fails at once."""
        if broker.zmq_endpoint is None or self._prefers_tcp:
            return TcpChannel(broker.host, broker.port)
        if self._context is None:
            from fastlog.transport.dealer import DealerContext  # a TCP-only client needs no libzmq

            self._context = DealerContext()
        host, port = parse_address(broker.zmq_endpoint)
        return self._context.open(host, port, int(self._connect_timeout_ms))

    def close(self) -> None:
        """Ends what the channels share; they must be closed."""
        if self._context is not None:
            self._context.close()
            self._context = None


class LinkSlot:
    """The connection to one broker, or the wait until the next try at one."""

    def __init__(
        self,
        broker: BrokerAddress,
        *,
        opener: ChannelOpener,
        backoff: Backoff,
        client_id: str,
        connect_timeout_ms: float,
        request_timeout_ms: float,
    ) -> None:
        self.broker = broker
        self.link: Link | None = None
        #: when a connection may be tried again; infinity while there is one
        self.retry_at_ms = -math.inf
        self._opener = opener
        self._backoff = backoff
        self._client_id = client_id
        self._connect_timeout_ms = connect_timeout_ms
        self._request_timeout_ms = request_timeout_ms
        self._failures = 0
        #: why the last try at a connection failed
        self.last_problem = ""

    @property
    def address(self) -> str:
        """Where the broker is, for messages."""
        return self.link.address if self.link is not None else f"{self.broker.host}:{self.broker.port}"

    @property
    def is_tcp(self) -> bool:
        """Whether the connection is one over TCP."""
        return self.link is not None and isinstance(self.link.channel, TcpChannel)

    @property
    def in_flight(self) -> int:
        """Requests that are not answered."""
        return len(self.link.unanswered) if self.link is not None else 0

    def silent_ms(self, now_ms: float) -> float:
        """For how long the broker owes an answer, if only to being connected to; 0 where it does not."""
        return self.link.silent_ms(now_ms) if self.link is not None else 0.0

    def tokens(self) -> list[Any]:
        """The tokens of the requests that are not answered, in the order of sending."""
        if self.link is None:
            return []
        return [request.token for request in self.link.unanswered.values() if request.token is not self.link]

    def usable(self, now_ms: float) -> bool:
        """Whether a request can be sent now; starts a connection where there is none and its time has come."""
        if self.link is not None:
            return self.link.ready and not self.link.channel.backlog()
        if now_ms >= self.retry_at_ms:
            self._connect(now_ms)
        return False

    def version(self, api_key: int) -> int:
        """The version of `api_key` to be used; raises UnsupportedVersionError. The slot must be usable."""
        return self._usable_link().version(api_key)

    def send(self, request: Any, version: int, token: object, now_ms: float, *, answered: bool) -> None:
        """See Link.send. The slot must be usable."""
        self._usable_link().send(request, version, token, now_ms, answered=answered)

    def process(self, now_ms: float) -> list[Answer]:
        """Answers that came; raises ConnectionLostError, after which `lost` must be called."""
        if self.link is None:
            return []
        answers = self.link.process(now_ms)
        if self.link.ready:
            self._failures = 0
        return answers

    def lost(self, reason: str, now_ms: float) -> list[Any]:
        """Gives the connection up and returns the tokens of its unanswered requests, in the order of sending."""
        tokens = self.tokens()
        if self.link is not None:
            self.link.close()
            self.link = None
        self._try_later(reason, now_ms)
        return tokens

    def close(self) -> None:
        """Ends the connection."""
        if self.link is not None:
            self.link.close()

    def _connect(self, now_ms: float) -> None:
        try:
            channel = self._opener.open(self.broker)
        except ConnectionLostError as error:
            self._try_later(str(error), now_ms)
            return
        self.retry_at_ms = math.inf
        self.link = Link(
            channel,
            client_id=self._client_id,
            now_ms=now_ms,
            connect_timeout_ms=self._connect_timeout_ms,
            request_timeout_ms=self._request_timeout_ms,
        )

    def _try_later(self, reason: str, now_ms: float) -> None:
        self.last_problem = reason
        self._failures += 1
        self.retry_at_ms = now_ms + self._backoff.delay_ms(self._failures)

    def _usable_link(self) -> Link:
        if self.link is None:
            raise ConnectionLostError(f"there is no connection to {self.address}")
        return self.link


class BrokerLinks:
    """All slots, by broker id."""

    def __init__(self, new_slot: Callable[[BrokerAddress], LinkSlot], opener: ChannelOpener) -> None:
        self._new_slot = new_slot
        self._opener = opener
        self._slots: dict[int, LinkSlot] = {}
        #: slots of brokers that have moved to another address, with requests still unanswered at the old one
        self._retired: list[LinkSlot] = []

    def slots(self) -> list[LinkSlot]:
        """Every slot that may have answers."""
        if self._retired:
            self._retired = [slot for slot in self._retired if self._keep(slot)]
        return [*self._slots.values(), *self._retired]

    def slot_for(self, image: ClusterImage, topic: str, partition: int) -> LinkSlot | None:
        """The slot of the partition's leader; None where there is no leader."""
        return self.slot_of(image, image.leader(topic, partition))

    def slot_of(self, image: ClusterImage, leader: int) -> LinkSlot | None:
        """The slot of a broker that is in the image; None for NO_LEADER."""
        if leader < 0:
            return None
        broker = image.brokers[leader]
        slot = self._slots.get(leader)
        if slot is not None and slot.broker is not broker and slot.broker == broker:
            # the same in a newer image: not compared again
            slot.broker = broker
        if slot is None or slot.broker is not broker:
            if slot is not None:
                self._retired.append(slot)
            slot = self._slots[leader] = self._new_slot(broker)
        return slot

    def channels(self) -> Iterable[Channel]:
        """The channels to wait for."""
        return [slot.link.channel for slot in self.slots() if slot.link is not None]

    def next_deadline_ms(self) -> float:
        """When `process` must be called at the latest."""
        return min(
            (slot.link.next_deadline_ms() for slot in self.slots() if slot.link is not None), default=math.inf
        )

    def close(self) -> None:
        """Ends all connections."""
        for slot in [*self._slots.values(), *self._retired]:
            slot.close()
        self._opener.close()

    @staticmethod
    def _keep(slot: LinkSlot) -> bool:
        if slot.in_flight:
            return True
        slot.close()
        return False
