"""Damaged records of replicas here: they are fetched from another replica and written anew where they were.

Below the high watermark all replicas hold the same batches, so nothing else changes: not where the log ends, nor who is
in sync, nor who leads. Until then the damaged records are not served. The engine checks what comes: checksums, offsets,
leader epochs, and that it fills the place (`rust/log/src/partition_log/mend.rs`).
"""

from __future__ import annotations

import struct
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import msgspec

from fastlog.broker.peers.messages import Answer, AskVerified
from fastlog.broker.replicas.fetchers import LISTENER
from fastlog.broker.replicas.following import FETCH_VERSION
from fastlog.broker.replicas.link import Bell, Link
from fastlog.errors import FastlogError, error_for
from fastlog.events import EventLog
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.transport.channel import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.broker.replicas.settings import ReplicaSettings
    from fastlog.broker.replicas.view import View
    from fastlog.ports import Clock
    from fastlog.transport.channel import Channel

#: what could not be mended is tried again after this time
RETRY_MS = 10_000
#: damaged bytes that are mended at once; they are in memory meanwhile
BYTES_MAX = 256 << 20
#: how much is asked for at once
FETCH_BYTES = 8 << 20
TOLD_MAX = 1_000
#: what a follower reports again before that is not looked at again
VERIFY_AGAIN_MS = 60_000
REPORTS_MAX = 1_000
#: base offset, length, …, last offset delta
HEADER = struct.Struct(">qi11xi")
PRELUDE_BYTES = 12


class DamagedLogs(Protocol):
    """The engine's calls; all block."""

    def damages_found(self) -> int:
        """How often damage was found in a log since the start. Cheap."""
        ...

    def damaged(self) -> list[tuple[str, bytes, int, int, int, int, str]]:
        """Topic, its id, partition, first damaged offset, first good one behind it, bytes, what is wrong."""
        ...

    def verify(self, topic: str, topic_id: bytes, partition: int, offset: int) -> bool:
        """Has the segment checked that has an offset: what is bad there is damage then. False where too many wait."""
        ...

    def mend(self, topic: str, topic_id: bytes, partition: int, offset: int, records: bytes) -> None:
        """Puts records in the place of the damaged ones from `offset` on; InvalidRequestError where they do not fit."""
        ...


class Damaged(msgspec.Struct, frozen=True):
    """Damaged records of a replica here."""

    topic: str
    topic_id: bytes
    partition: int
    offset: int
    next_offset: int
    size_bytes: int
    reason: str


class Mender:
    """Mends what is damaged here, by `mend_all`. Of one thread, but for `stop`."""

    def __init__(
        self,
        node_id: int,
        engine: DamagedLogs,
        view: Callable[[], View],
        open_channel: Callable[[str, int], Channel],
        settings: ReplicaSettings,
        clock: Clock,
    ) -> None:
        """`view` answers what is known of the cluster now."""
        self._node_id = node_id
        self._engine = engine
        self._view = view
        self._timeout_ms = settings.request_timeout_ms
        self._clock = clock
        self._log = EventLog("replicas")
        self._bell = Bell()
        self._link = Link(open_channel, self._bell)
        self._is_stopped = False
        self._seen = 0
        #: when to look again though no new damage was found; None where none is left
        self._again_ms: int | None = None
        self._told: set[tuple[bytes, int, int, str]] = set()
        self._reported: SimpleQueue[AskVerified] = SimpleQueue()
        self._verified_ms: dict[AskVerified, int] = {}

    def report(self, report: AskVerified, answer: Callable[[Answer], None]) -> None:
        """A follower was sent what has a wrong checksum: the disk is looked at soon. From any thread."""
        if self._reported.qsize() < REPORTS_MAX:
            self._reported.put(report)
        answer(Answer())

    def stop(self) -> None:
        """Ends what is under way, and later calls at once."""
        self._is_stopped = True
        self._bell.ring()

    def close(self) -> None:
        """Lets go of the connection; nothing is called any more."""
        self._link.close()
        self._bell.close()

    def mend_all(self) -> None:
        """Mends what was found damaged, and again what could not be mended some time ago. Blocks; cheap without."""
        if not self._is_stopped:
            self._verify_reported()
        found, now_ms = self._engine.damages_found(), self._clock.monotonic_ms()
        is_due = self._again_ms is not None and now_ms >= self._again_ms
        if self._is_stopped or (found == self._seen and not is_due):
            return
        self._seen, self._again_ms = found, None
        view = self._view()
        for each in self._engine.damaged():
            damaged = Damaged(*each)
            if self._is_stopped:
                break
            if not self._mend(damaged, view):
                self._again_ms = self._clock.monotonic_ms() + RETRY_MS
        self._link.close()

    def _verify_reported(self) -> None:
        """Has looked at what followers met. They go on to ask, and so to report, until it is mended."""
        now_ms = self._clock.monotonic_ms()
        for report, at_ms in list(self._verified_ms.items()):
            if now_ms - at_ms >= VERIFY_AGAIN_MS:
                del self._verified_ms[report]
        while not self._reported.empty():
            report = self._reported.get()
            topic = self._view().by_id.get(report.topic_id)
            if topic is None or report in self._verified_ms:
                continue
            try:
                if self._engine.verify(topic.name, report.topic_id.bytes, report.partition, report.offset):
                    self._verified_ms[report] = now_ms
            except (FastlogError, OSError) as error:
                self._log.warning(
                    "what a follower was sent with a wrong checksum could not be looked at",
                    topic=topic.name,
                    partition=report.partition,
                    offset=report.offset,
                    reason=str(error),
                )

    def _mend(self, damaged: Damaged, view: View) -> bool:
        if damaged.size_bytes > BYTES_MAX:
            self._complain(damaged, [f"{damaged.size_bytes} bytes are more than is mended at once"])
            return False
        failures: list[str] = []
        for source, at in self._sources(damaged, view).items():
            try:
                self._link.connect(at)
                records = self._fetch(damaged)
                self._engine.mend(damaged.topic, damaged.topic_id, damaged.partition, damaged.offset, records)
            except (FastlogError, OSError) as error:
                if isinstance(error, ConnectionLostError):
                    self._link.close()
                failures.append(f"broker {source}: {error}")
                continue
            self._log.warning(
                "mended damaged records from another replica; look at the disk",
                topic=damaged.topic,
                partition=damaged.partition,
                offset=damaged.offset,
                next_offset=damaged.next_offset,
                bytes=damaged.size_bytes,
                source=source,
            )
            return True
        self._complain(damaged, failures or ["no other replica is there"])
        return False

    def _sources(self, damaged: Damaged, view: View) -> Mapping[int, tuple[str, int]]:
        """Where other replicas are, by broker: the leader's first, then those in sync."""
        topic = view.by_id.get(UUID(bytes=damaged.topic_id))
        if topic is None or damaged.partition >= len(topic.partitions):
            return {}
        state = topic.partitions[damaged.partition]
        order = dict.fromkeys((state.leader, *state.isr, *state.replicas))
        known = {it: view.brokers[it].endpoints.get(LISTENER) for it in order if it in view.brokers}
        return {it: at for it, at in known.items() if at is not None and it != self._node_id}

    def _fetch(self, damaged: Damaged) -> bytes:
        """The batches of the damaged range that the connected broker gives to a consumer: what is committed."""
        found, offset = bytearray(), damaged.offset
        while offset < damaged.next_offset and len(found) <= damaged.size_bytes:
            records = self._ask(damaged, offset)
            start, offset = len(found), self._next_offset(records, offset)
            found += records
            if len(found) == start:
                break
        return bytes(found)

    def _ask(self, damaged: Damaged, offset: int) -> bytes:
        wanted = FetchPartition(
            partition=damaged.partition, fetch_offset=offset, partition_max_bytes=FETCH_BYTES
        )
        request = FetchRequest(
            max_bytes=FETCH_BYTES, topics=[FetchTopic(topic_id=damaged.topic_id, partitions=[wanted])]
        )
        frame = encode_request_frame(
            request, FETCH_VERSION, self._link.next_correlation_id(), f"broker-{self._node_id}"
        )
        answer = self._link.ask(frame, self._timeout_ms, lambda _: self._is_stopped)
        response = decode_response_frame(ApiKey.FETCH, FETCH_VERSION, answer)[1]
        if response.error_code:
            raise error_for(response.error_code, "it refused the fetch")
        (data,) = response.responses[0].partitions
        if data.error_code:
            raise error_for(data.error_code, f"it does not give offset {offset}")
        records = bytes(data.records or b"")
        return records[: self._whole(records)]

    @staticmethod
    def _whole(records: bytes) -> int:
        """How many bytes are whole batches."""
        end = 0
        while end + HEADER.size <= len(records):
            size = PRELUDE_BYTES + HEADER.unpack_from(records, end)[1]
            if size < HEADER.size or end + size > len(records):
                break
            end += size
        return end

    @staticmethod
    def _next_offset(records: bytes, offset: int) -> int:
        """The offset behind whole batches."""
        end = 0
        while end < len(records):
            base_offset, length, last_delta = HEADER.unpack_from(records, end)
            offset = max(offset, base_offset + last_delta + 1)
            end += PRELUDE_BYTES + length
        return offset

    def _complain(self, damaged: Damaged, failures: list[str]) -> None:
        why = "; ".join(failures)
        key = (damaged.topic_id, damaged.partition, damaged.offset, why)
        if key in self._told or len(self._told) >= TOLD_MAX:
            return
        self._told.add(key)
        self._log.error(
            "damaged records could not be mended, they are not served here; it is tried again. If this stays, stop "
            "this broker, remove the partition's directory and start it: the replica is then fetched anew",
            topic=damaged.topic,
            partition=damaged.partition,
            offset=damaged.offset,
            next_offset=damaged.next_offset,
            damage=damaged.reason,
            reason=why,
        )
