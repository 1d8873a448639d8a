# cython: auto_pickle=False, autotestdict=False
"""What the producer does once per batch: open it, find what is due, take it for a request, note that it arrived.

With thousands of partitions a batch has few records, and its own cost is most of theirs. All that is rare, such as
errors, waiting for room and the splitting of batches, is in Python (`fastlog.client.producer`).
"""

from collections import deque

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t

from fastlog.native._builder cimport BatchBuilder
from fastlog.native._sending cimport Fate, Lane, Opener

cdef enum:
    # batch header, and more than a record's lengths, deltas and attributes take
    RECORD_BYTES = 61 + 40
    # a batch that fills by and by may have so much room at least
    SHARE_BYTES_MIN = 4096
    # so much a batch takes at first where many take turns, and counts for at least: its objects take as much again
    FIRST_BYTES_MIN = 512
    # a batch without room takes so many times as much, as long as its share allows: few steps, and little unused
    GROWTH = 2
    # so many partitions may take turns with large batches from the start
    FEW = 16
    NO_SEQUENCE = -1

# sequences wrap from 2147483647 to 0
cdef int64_t SEQUENCE_END = 1 << 31
# while somebody waits for room, and batches are on their way, open ones leave so long after they were opened
cdef double BLOCKED_MS_MAX = 1_000.0

cdef bytes NO_ID = bytes(16)

RECORD_OVERHEAD = RECORD_BYTES
FIRST_BYTES = FIRST_BYTES_MIN
LONGEST_BLOCKED_MS = BLOCKED_MS_MAX


cdef class Queue:
    """The base of PartitionQueue: the batches of one partition while all goes well."""

    def __cinit__(self, *_, **__):
        self.waiting = deque()
        self.in_flight = []
        self.lane = Lane()
        self.lane.queue = self
        self.producer_id = self.producer_epoch = -1
        self.decided_ms = -INFINITY
        self.batch_bytes_max = SEQUENCE_END
        self._gap_ordinal = -1

    cpdef bint may_send(self, double now_ms, object connection=None) except -1:
        """Whether `take` may be called now for a request on `connection`; linger is the caller's business."""
        cdef Fate head
        if not self.waiting:
            return False
        head = self.waiting[0]
        if self.in_flight:
            if head.attempts or self._gap is not None or connection is not self.connection:
                return False
            if self._idempotent and not self._confirmed:
                return False
            return len(self.in_flight) < self._in_flight_max
        if head.not_before_ms > now_ms:
            return False
        if self._gap is not None and not head.uncertain:
            self._restart()
        return not self.wants_producer_id

    cpdef Fate take(self, object connection=None):
        """Moves the next batch to the batches in flight, with its sequence. Only after `may_send`."""
        cdef Fate batch = self.waiting.popleft()
        if batch is self.lane.batch:
            self.lane.close()
        if batch.ordinal < 0:
            batch.ordinal = self._next_ordinal
            self._next_ordinal += 1
        if self._idempotent and batch.base_sequence == NO_SEQUENCE:
            batch.producer_id, batch.producer_epoch = self.producer_id, self.producer_epoch
            batch.base_sequence = <int32_t> self._next_sequence
            self._next_sequence = (self._next_sequence + batch.count) % SEQUENCE_END
        batch.attempts += 1
        self.in_flight.append(batch)
        self.connection = connection
        return batch

    cpdef int acknowledged(self, Fate batch) except -1:
        """The broker answered that `batch` is in the log."""
        if self.in_flight and self.in_flight[0] is batch:
            del self.in_flight[0]
        else:
            self.in_flight.remove(batch)
        if batch.producer_id == self.producer_id and batch.producer_epoch == self.producer_epoch:
            self._confirmed = True
            if batch.ordinal > self._gap_ordinal:
                # the broker took what follows the missing batch, so it does not miss it
                self._gap = None
        return 0


@cython.final
cdef class _Part:
    """What one request takes, while it is put together."""

    cdef object slot
    cdef object link
    cdef object token
    cdef list entries
    cdef int64_t size_bytes
    # it takes no more
    cdef bint full


cdef class Collecting(Opener):
    """The base of Accumulator: open batches and their room. All of it is done under the producer's lock."""

    def __cinit__(self, *_, **__):
        self.active = {}
        self.hold_until_ms = self._sleeping_until_ms = -INFINITY

    cdef bint open_for(self, Lane lane, object value, object key, int64_t stamp) except -1:
        cdef Queue queue = lane.queue
        cdef BatchBuilder builder
        cdef Fate batch = lane.batch
        cdef int64_t record_bytes = RECORD_BYTES
        cdef int64_t size
        if queue is None or self.closed is not None:
            return False
        if type(value) is bytes:
            record_bytes += len(<bytes> value)
        elif value is not None:
            return False
        if type(key) is bytes:
            record_bytes += len(<bytes> key)
        elif key is not None:
            return False
        if batch is not None:
            if self._grow(queue, batch, record_bytes) and lane.builder.add(value, key, None, stamp):
                return True
            self._close_open(queue)
        if record_bytes > self._max_request_bytes:
            return False
        size = max(record_bytes, min(self._first_bytes(queue), queue.batch_bytes_max))
        if self._free_bytes < size:
            return False
        builder = BatchBuilder.__new__(BatchBuilder, size)
        builder.add(value, key, None, stamp)
        self._open(queue, builder, size)
        return True

    cdef int64_t share(self, int64_t turns) noexcept:
        """The size of a batch that fills by and by: one of each partition that takes turns with it takes half of the
        buffer, the other half is for those on their way.

        With thousands of topics larger ones would use the buffer up before the first is full.
        """
        return min(self._batch_bytes, max(<int64_t> SHARE_BYTES_MIN, self._buffer_bytes // (2 * turns)))

    cpdef int64_t _first_bytes(self, Queue queue) except -1:
        """The room of a new batch that fills by and by; it may grow.

        How many partitions take turns is told by the batches that were opened since the last one here. Few get their
        share at once. Of many each begins with what the last batch needed and somewhat more, so that the buffer holds
        records and not room for them.
        """
        cdef int64_t turns
        if queue.opened:
            turns = self._opened_count - queue.opened + 1
        else:
            turns = max(<int64_t> FEW, <int64_t> len(self.active))
        cdef int64_t share = self.share(turns)
        if turns <= FEW:
            return share
        return min(share, max(<int64_t> FIRST_BYTES_MIN, queue.last_bytes + queue.last_bytes // 4))

    cpdef bint _grow(self, Queue queue, Fate batch, int64_t record_bytes) except -1:
        """Gives the open batch room for a record and more; False where it has its share, or nothing is free."""
        cdef BatchBuilder builder = batch.builder
        cdef int64_t turns = max(self._opened_count - queue.opened + 1, <int64_t> len(self.active))
        cdef int64_t limit = builder.space.limit
        cdef int64_t needed = builder.space.size + record_bytes
        cdef int64_t size = min(min(self.share(turns), queue.batch_bytes_max), max(GROWTH * limit, needed))
        if size < needed or size <= limit or self._free_bytes < size - limit:
            return False
        builder.grow(size)
        batch.reserved_bytes += size - limit
        self._free_bytes -= size - limit
        return True

    cpdef Fate _open(self, Queue queue, object builder, int64_t size):
        """Opens a batch, whose records `builder` takes."""
        cdef double now_ms = self._clock_ms()
        cdef object kind = self._new_batch
        cdef Fate batch = <Fate?> kind.__new__(kind)
        batch.topic, batch.partition = queue.topic, queue.partition
        batch.builder = builder
        batch._lock = self.lock
        batch.created_ms = now_ms
        batch.reserved_bytes = size
        self._free_bytes -= size
        queue.lane.open(batch)
        queue.started = True
        self._opened_count += 1
        queue.opened = self._opened_count
        queue.waiting.append(batch)
        self.active[queue] = None
        if self.send_at_once is None and (
            not self._sleeping or max(now_ms + self._linger_ms, self.hold_until_ms) < self._sleeping_until_ms
        ):
            self.wake()
        return batch

    cpdef int _close_open(self, Queue queue) except -1:
        """Takes no more records into the open batch, so that the sender may have it."""
        queue.lane.close()
        return self.wake()

    # -- the sender's side -----------------------------------------------------------------------------------------

    cpdef int wake(self) except -1:
        """Makes the sender look again."""
        if self._sleeping:
            self._sleeping = False
            self._signal()
        else:
            self._news = True
        return 0

    def look(self, double now_ms):
        """The queues whose first waiting batch may be sent now, as far as linger and back-off say, and when others may.

        What happens from now on is news.
        """
        cdef Queue queue
        cdef Fate head
        cdef double due_ms
        cdef double next_ms = INFINITY
        cdef double linger_ms = self._linger_ms
        cdef double hold_until_ms = self.hold_until_ms
        cdef list due = []
        self._news = False
        if self.blocked:
            # what is on its way will make room; where all open batches left for that, they would have few records each
            linger_ms = BLOCKED_MS_MAX if self.awaits_answers else -INFINITY
            hold_until_ms = -INFINITY
        for found in self.active:
            queue = <Queue> found
            head = queue.waiting[0]
            due_ms = head.not_before_ms
            if head is queue.lane.batch:
                due_ms = max(due_ms, hold_until_ms, head.created_ms + linger_ms)
            if due_ms <= now_ms:
                due.append(queue)
            elif due_ms < next_ms:
                next_ms = due_ms
        return due, next_ms

    def plan(self, sender, image, double now_ms, int64_t bytes_aim, int in_flight_max):
        """Takes what is due for requests, one a broker, each of about `bytes_aim`.

        Answers them by slot, when something else will be due, and how many batches were open until now. `sender` is
        asked for the slot of each leader, and about what is rare.
        """
        cdef dict parts = {}
        cdef Queue queue
        cdef Fate head
        cdef _Part part
        cdef int64_t size
        cdef int64_t opened = 0
        cdef int full = 0
        due, due_ms = self.look(now_ms)
        for found in due:
            queue = <Queue> found
            leader = self.leader_of(queue, image)
            part = parts.get(leader)
            if part is None:
                part = parts[leader] = _Part.__new__(_Part)
                part.slot, retry_ms = sender._slot_of(image, leader, now_ms)
                if retry_ms is not None:
                    part.full = True
                    due_ms = min(due_ms, retry_ms)
                elif part.slot is not None:
                    part.link = part.slot.link
                    part.full = part.slot.in_flight >= in_flight_max
                full += part.full
            if part.slot is None:
                sender._has_no_leader(queue, image)
                continue
            if part.full:
                if full >= len(image.brokers):
                    break
                continue
            if not queue.may_send(now_ms, part.link) and not sender._may_send_as(queue, part.link, now_ms):
                continue
            head = queue.waiting[0]
            size = size_of(head)
            if part.entries is None:
                part.entries = []
            elif part.size_bytes + size > bytes_aim:
                part.full = True
                full += 1
                continue
            if head is queue.lane.batch:
                opened += 1
            part.entries.append((queue, queue.take(part.link)))
            part.size_bytes += size
            self.trim(queue, head, size)
            self.changed(queue)
        return [(part.slot, part.entries) for part in parts.values() if part.entries], due_ms, opened

    cdef object leader_of(self, Queue queue, object image):
        """Who leads the queue's partition in `image`, which is never changed: each queue asks it once."""
        if image is not self.image:
            self.image = image
            self.image_number += 1
        if queue.image_number != self.image_number:
            queue.leader = image.leader(queue.topic, queue.partition)
            known = image.topics.get(queue.topic)
            queue.topic_id = None if known is None or known.topic_id == NO_ID else known.topic_id
            queue.image_number = self.image_number
        return queue.leader

    def topic_ids(self, list entries not None, image):
        """The ids of the topics of `entries` in `image`, by name; None where one is not known."""
        cdef Queue queue
        cdef dict ids = {}
        for entry in entries:
            queue = entry[0]
            self.leader_of(queue, image)
            if queue.topic_id is None:
                return None
            ids[queue.topic] = queue.topic_id
        return ids

    cpdef int changed(self, Queue queue) except -1:
        """Batches of `queue` were taken, dropped or put back: the other queues come first next time."""
        self.active.pop(queue, None)
        if queue.waiting:
            self.active[queue] = None
        return 0

    cpdef int trim(self, Queue queue, Fate batch, int64_t size) except -1:
        """Gives back the room that a batch of `size` bytes was given and did not need, now that it takes no more."""
        cdef int64_t surplus = batch.reserved_bytes - max(size, <int64_t> FIRST_BYTES_MIN)
        if batch.builder is not None:
            queue.last_bytes = size
        if surplus > 0:
            batch.reserved_bytes -= surplus
            self._free_bytes += surplus
            self.tell_of_room()
        return 0

    def acknowledge(self, list entries, dict answers, double now_ms):
        """Ends the batches that are in the log and about which nobody is to be told; returns the others.

        `answers` has what the broker said, by topic and partition.
        """
        cdef Queue queue
        cdef Fate batch
        cdef list others = []
        for entry in entries:
            queue, batch = entry
            answer = answers.get((batch.topic, batch.partition))
            if (
                answer is None or answer.error_code or batch.abandoned
                or not batch.acknowledge(answer.base_offset, answer.log_append_time_ms)
            ):
                others.append(entry)
                continue
            queue.acknowledged(batch)
            queue.decided_ms = now_ms
            batch.sealed = None
            self._free_bytes += batch.reserved_bytes
            batch.reserved_bytes = 0
        self.tell_of_room()
        return others

    def release(self, batches):
        """Gives back the room of batches whose memory nobody needs any more."""
        cdef Fate batch
        for batch in batches:
            self._free_bytes += batch.reserved_bytes
            batch.reserved_bytes = 0
        self.tell_of_room()

    cdef int tell_of_room(self) except -1:
        if self.blocked:
            self._space.notify_all()
        return 0


cdef int64_t size_of(Fate batch) except -1:
    """Bytes as sent, or an upper bound before the batch is sealed."""
    if type(batch.builder) is BatchBuilder:
        return (<BatchBuilder> batch.builder).space.size
    return batch.size_bytes
