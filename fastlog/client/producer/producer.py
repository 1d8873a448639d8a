"""The producer that applications use: `send` hands a record over, the delivery it returns tells what became of it."""

from __future__ import annotations

import atexit
import random
import threading
from typing import TYPE_CHECKING, Any, Self

from fastlog.client.backoff import Backoff
from fastlog.client.connection import monotonic_ms
from fastlog.client.metadata import ClusterImage, Metadata
from fastlog.client.producer import settings as limits
from fastlog.client.producer.accumulator import Accumulator, TopicQueues, check_partition
from fastlog.client.producer.background import Background
from fastlog.client.producer.bulk import BulkDelivery
from fastlog.client.producer.forks import refused_in_children
from fastlog.client.producer.links import BrokerLinks, ChannelOpener, LinkSlot
from fastlog.client.producer.partition_queue import PartitionQueue
from fastlog.client.producer.partitioner import murmur2, resolve_partitioner
from fastlog.client.producer.sender import Sender
from fastlog.client.wakeup import Wakeup
from fastlog.errors import ClosedError, error_for
from fastlog.native._builder import BatchBuilder
from fastlog.native._bulk import Handover, append_many
from fastlog.native._sending import Sending

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from types import TracebackType

    from fastlog.client.metadata import BrokerAddress
    from fastlog.client.producer.partitioner import Partitioner
    from fastlog.native._column import Column
    from fastlog.native._sending import Delivery

Buffer = bytes | bytearray | memoryview

#: how long `close` waits for its threads after everything is decided
JOIN_SECONDS = 2.0
#: how long the interpreter's exit waits for a producer that nobody closed
EXIT_SECONDS = 10.0


class Producer(Sending):
    """Sends records to topics. Thread-safe; share one per process.

    Records are collected per partition into batches and sent by one thread, over ZeroMQ where the cluster has it and
    TCP otherwise. With the default `acks="all"` and idempotence an acknowledged record is written once and in order,
    over reconnects and moved leaders. With `idempotence=False` or fewer acks a retry may write twice or out of
    order, as in Kafka.

    Keys are hashed with murmur2, as Kafka's Java client does; librdkafka (kcat, confluent-kafka) uses CRC32 unless told
    otherwise: `partitioner="consistent"` does the same as it.
    """

    def __init__(
        self,
        bootstrap: str | Iterable[str] = "127.0.0.1:9092",
        *,
        acks: str | int = "all",
        linger_ms: float = 5,
        batch_bytes: int | None = None,
        compression: str | None = None,
        idempotence: bool | None = None,
        buffer_bytes: int = 64 * 1024 * 1024,
        max_block_ms: float = 60_000,
        delivery_timeout_ms: float = 120_000,
        request_timeout_ms: float = 30_000,
        connect_timeout_ms: float = 10_000,
        retry_backoff_ms: float = 100,
        retry_backoff_max_ms: float = 1_000,
        partitioner: str | Partitioner = "murmur2",
        max_in_flight: int = limits.IN_FLIGHT_MAX_IDEMPOTENT,
        max_request_bytes: int = limits.REQUEST_BYTES_MAX,
        client_id: str = "fastlog-producer",
    ) -> None:
        """Starts the producer's threads; connects when the first record is sent. Raises ConfigError.

        `bootstrap` is HOST:PORT, several separated by commas or as a list. `acks` is "all", 1 (the leader) or 0
        (nobody: a delivery is done once it is sent). A batch of a partition is sent when it has `batch_bytes` or
        after `linger_ms`; by default 256 KiB, and up to 1 MiB with `send_many`. `compression` is None, "gzip",
        "snappy", "lz4" or "zstd". `partitioner` is "murmur2", "consistent" or a function (key, partition_count) ->
        partition, or None for one that changes from batch to batch.

        `idempotence` is on where acks is "all". `buffer_bytes` bounds the memory of records that are not
        acknowledged: when it is used up, `send` blocks up to `max_block_ms` and then raises BufferFullError. A
        delivery fails with DeliveryTimeoutError `delivery_timeout_ms` after `send`, whatever happens.
        `request_timeout_ms` is how long one answer may take before the request is sent again, after
        `retry_backoff_ms` doubled up to `retry_backoff_max_ms`; `max_in_flight` is how many requests to a broker, and
        batches of a partition, may be unanswered.
        """
        acks_code = limits.parse_acks(acks)
        self._settings = limits.ProducerSettings(
            acks=acks_code,
            linger_ms=linger_ms,
            batch_bytes=min(limits.BATCH_BYTES, max_request_bytes) if batch_bytes is None else batch_bytes,
            bulk_batch_bytes=min(limits.BULK_BATCH_BYTES, max_request_bytes)
            if batch_bytes is None
            else batch_bytes,
            compression=limits.parse_compression(compression),
            idempotent=acks_code == -1 if idempotence is None else idempotence,
            buffer_bytes=buffer_bytes,
            max_block_ms=max_block_ms,
            delivery_timeout_ms=delivery_timeout_ms,
            request_timeout_ms=request_timeout_ms,
            connect_timeout_ms=connect_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            max_in_flight=max_in_flight,
            max_request_bytes=max_request_bytes,
            client_id=client_id,
            partitioner=resolve_partitioner(partitioner),
        )
        limits.check(self._settings, idempotence)
        self._wakeup = Wakeup()
        self._backoff = Backoff(retry_backoff_ms, retry_backoff_max_ms, random.random)
        self._accumulator = self._new_accumulator()
        self._background = self._new_background(bootstrap)
        self._sender = self._new_sender()
        self._closing = threading.Lock()
        refused_in_children().add(self)
        # threads that outlive the interpreter are frozen: without this what is buffered would be lost without a word
        atexit.register(self.close, EXIT_SECONDS)
        self._background.start()
        self._sender.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.refusal else "open"
        return f"<Producer {self._settings.client_id} {state}, {self._accumulator.buffered_bytes} bytes buffered>"

    def _send_slowly(
        self,
        topic: str,
        value: Buffer | None,
        key: Buffer | None,
        partition: int | None,
        headers: Sequence[tuple[str, Buffer | None]] | None,
        timestamp_ms: int,
        more_follow: bool = False,
    ) -> Delivery:
        queues = self._accumulator.topics.get(topic)
        if queues is None:
            queues = self._first_use(topic)
        if partition is not None:
            check_partition(queues, partition)
        return self._accumulator.append(
            queues, partition, value, key, headers, timestamp_ms, more_follow=more_follow
        )

    def send_many(
        self,
        topic: str,
        values: Iterable[Buffer | None] | Column,
        keys: Iterable[Buffer | None] | Column | None = None,
        *,
        partition: int | None = None,
        headers: Iterable[tuple[str, Buffer | None]] | None = None,
        timestamp_ms: int | None = None,
    ) -> BulkDelivery:
        """Hands many records over and returns one delivery for all: as a loop of `send`, several times quicker.

        `values` and `keys` are lists, other iterables, or Columns: buffers with offsets, as Arrow has them. There is
        one key, or None, for each value. `partition`, `headers` and `timestamp_ms` hold for all records. An iterator
        is drawn from in chunks; records that come slowly or without end are for `send`.

        Blocks and raises as `send` does. Where it raises after some records, those before are on their way: the
        error's `delivery` has them, and their number is in its notes.
        """
        if self.refusal is not None:
            raise self.refusal
        if topic not in self._accumulator.topics:
            self._first_use(topic)
        partitioner = self._settings.partitioner
        natively = partitioner is murmur2
        handover = Handover(partition is None and (keys is not None or not natively))
        delivery = BulkDelivery(topic, handover)
        try:
            append_many(
                self,
                handover,
                topic,
                values,
                keys,
                partition=partition,
                headers=headers,
                timestamp_ms=timestamp_ms,
                partitioner=None if natively else partitioner,
            )
        except BaseException as error:
            if handover.count:
                error.add_note(
                    f"send_many to {topic!r}: {handover.count} records before this were handed over"
                )
                error.delivery = delivery  # type: ignore[attr-defined]
            raise
        return delivery

    def flush(self, timeout: float | None = None) -> None:
        """Sends everything that is buffered and blocks until each delivery is done, well or not, and
        its callbacks have run.

        Raises TimeoutError where some are open after `timeout` seconds; their deliveries go on.
        """
        self._require_other_thread("flush")
        deadline = None if timeout is None else monotonic_ms() + timeout * 1000
        batches = self._accumulator.flush()
        for index, batch in enumerate(batches):
            left = None if deadline is None else max(0.0, deadline - monotonic_ms()) / 1000
            if not batch.wait(left):
                raise TimeoutError(
                    f"{sum(not open_batch.done for open_batch in batches[index:])} batch(es) were not acknowledged "
                    f"within {timeout} s; their deliveries go on"
                )

    def close(self, timeout: float | None = None) -> None:
        """Refuses new records, sends what is buffered and ends the threads.

        Waits at most `timeout` seconds (by default delivery_timeout_ms) for deliveries; those still open then fail with
        ClosedError. A second call does nothing. Never raises for failed deliveries: look at them.
        """
        if self.refusal is not None:
            return
        self._require_other_thread("close")
        with self._closing:
            if self.refusal is not None:
                return
            self.refusal = ClosedError("the producer is closed; make a new one to send more")
            seconds = self._settings.delivery_timeout_ms / 1000 + 1 if timeout is None else timeout
            self._accumulator.refuse(self.refusal)
            try:
                self.flush(seconds)
            except TimeoutError:
                pass  # what is open fails below, on the sender's way out
            finally:
                self._stop(seconds)

    # -- construction ----------------------------------------------------------------------------------------------

    def _new_accumulator(self) -> Accumulator:
        settings = self._settings
        if settings.partitioner is murmur2:
            self._hash_keys_natively()
        return Accumulator(
            self.lock,
            batch_bytes=settings.batch_bytes,
            bulk_batch_bytes=settings.bulk_batch_bytes,
            buffer_bytes=settings.buffer_bytes,
            max_request_bytes=settings.max_request_bytes,
            linger_ms=settings.linger_ms,
            max_block_ms=settings.max_block_ms,
            partitioner=settings.partitioner,
            new_builder=BatchBuilder,
            clock_ms=monotonic_ms,
            signal=self._wakeup.signal,
        )

    def _new_background(self, bootstrap: str | Iterable[str]) -> Background:
        settings = self._settings
        metadata = Metadata(
            bootstrap,
            client_id=settings.client_id,
            request_timeout_ms=settings.request_timeout_ms,
            connect_timeout_ms=settings.connect_timeout_ms,
            retry_backoff_ms=settings.retry_backoff_ms,
            retry_backoff_max_ms=settings.retry_backoff_max_ms,
        )
        return Background(
            metadata,
            backoff=self._backoff,
            clock_ms=monotonic_ms,
            on_image=self._image_changed,
            on_identity=self._wake,
        )

    def _new_sender(self) -> Sender:
        settings = self._settings
        opener = ChannelOpener(settings.connect_timeout_ms, settings.linger_ms)

        def new_slot(broker: BrokerAddress) -> LinkSlot:
            return LinkSlot(
                broker,
                opener=opener,
                backoff=self._backoff,
                client_id=settings.client_id,
                connect_timeout_ms=settings.connect_timeout_ms,
                request_timeout_ms=settings.request_timeout_ms,
            )

        sender = Sender(
            settings=settings,
            accumulator=self._accumulator,
            background=self._background,
            links=BrokerLinks(new_slot, opener),
            wakeup=self._wakeup,
            clock_ms=monotonic_ms,
        )
        if sender.inline is None:
            self.opener = self._accumulator
        return sender

    # -- topics ----------------------------------------------------------------------------------------------------

    def _first_use(self, topic: str) -> TopicQueues:
        """The queues of a topic that was not used before; blocks until its metadata is known."""
        if not isinstance(topic, str):
            raise TypeError(f"topic must be a str, not {type(topic).__name__}")
        image = self._background.topic(topic, self._settings.max_block_ms)
        with self._accumulator.lock:
            queues = self._accumulator.topics.get(topic)
            if queues is None:
                partitions = [self._new_queue(topic, index) for index in range(len(image.partitions))]
                queues = TopicQueues(topic, partitions, self._choose_sticky(topic))
                self._accumulator.topics[topic] = queues
                self.topic_lanes[topic] = queues.lanes
            return queues

    def _new_queue(self, topic: str, partition: int) -> PartitionQueue:
        settings = self._settings
        return PartitionQueue(
            topic,
            partition,
            idempotent=settings.idempotent,
            in_flight_max=settings.max_in_flight,
            retriable=is_retriable,
            retry_delay_ms=self._backoff.delay_ms,
        )

    def _choose_sticky(self, topic: str) -> Any:
        def choose(current: int, count: int) -> int:
            """A random partition other than `current`, one with a leader where there is any."""
            image = self._background.image
            led = [index for index in range(count) if index != current and image.leader(topic, index) >= 0]
            return random.choice(led) if led else max(current, 0)

        return choose

    def _image_changed(self, image: ClusterImage, topics: Collection[str]) -> None:
        is_news = not topics
        with self._accumulator.lock:
            for name in topics:
                queues, known = self._accumulator.topics.get(name), image.topics.get(name)
                if queues is None:
                    continue
                is_news = True
                for index in range(len(queues.queues), len(known.partitions) if known else 0):
                    queues.add(self._new_queue(name, index))
            if is_news:
                # not for each of thousands of topics that are used for the first time: nothing waits for that
                self._accumulator.wake()

    # -- the end ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._accumulator.lock:
            self._accumulator.wake()

    def _stop(self, seconds: float) -> None:
        self._background.close()
        self._sender.stop()
        self._wake()
        self._sender.join(min(seconds, JOIN_SECONDS) + JOIN_SECONDS)
        self._background.join(min(seconds, JOIN_SECONDS))
        atexit.unregister(self.close)

    def _require_other_thread(self, what: str) -> None:
        if threading.current_thread() is self._sender:
            raise RuntimeError(f"{what}() was called in a delivery callback, which would wait for itself")


def is_retriable(code: int) -> bool:
    """Whether a batch that was answered with `code` may be sent again."""
    return error_for(code).retriable
