# cython: auto_pickle=False, autotestdict=False
"""What `Producer.send_many` does: many records into the open batches of a topic, without the GIL where it can.

Records come in chunks. With the GIL their addresses are noted, and their owners held; without it, under the
producer's lock, keys are hashed and bytes copied until a batch is full. The record that does not fit goes through
`_send_slowly`, as one of `send` does: opening batches, waiting for room and all errors are in that one place.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc

from wire cimport PUT_DONE, Item, Space, put_record

from fastlog.native._builder cimport encode_headers, hash_murmur2
from fastlog.native._column cimport CHUNK_RECORDS, Source, bytes_of
from fastlog.native._sending cimport Delivery, Fate, Lane, Sending, TopicLanes, now_ms

cdef enum:
    STICKY = -1


@cython.final
cdef class Segment:
    """Records of one `send_many` that lie one after the other in one batch.

    `record` is the number of the first: in the order in which they were given or, where they were spread by key, among
    those of its partition.
    """

    cdef readonly Fate batch
    cdef readonly Py_ssize_t first
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t record


@cython.final
cdef class Handover:
    """Where the records of one `send_many` went. Made before the first one, grows with them."""

    cdef readonly list segments
    # records so far
    cdef readonly Py_ssize_t count
    # the last segment by partition
    cdef dict last
    # the partition of each record, where they were spread by key
    cdef bint spread
    cdef int32_t* partitions
    cdef Py_ssize_t capacity

    def __cinit__(self, bint spread):
        self.segments = []
        self.last = {}
        self.spread = spread

    def __dealloc__(self):
        free(self.partitions)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity
        if not self.spread or self.count + more <= self.capacity:
            return 0
        capacity = max(self.count + more, 2 * self.capacity)
        cdef int32_t* partitions = <int32_t*> realloc(self.partitions, <size_t> capacity * sizeof(int32_t))
        if partitions == NULL:
            raise MemoryError
        self.partitions = partitions
        self.capacity = capacity
        return 0

    cdef int note(self, Fate batch, Py_ssize_t first, Py_ssize_t count) except -1:
        """`count` records went into `batch`, where they begin with the one at `first`."""
        cdef Segment last = self.last.get(batch.partition)
        cdef Segment segment
        if last is not None and last.batch is batch and last.first + last.count == first:
            last.count += count
            return 0
        segment = Segment.__new__(Segment)
        segment.batch = batch
        segment.first = first
        segment.count = count
        if not self.spread:
            segment.record = self.count
        elif last is not None:
            segment.record = last.record + last.count
        self.last[batch.partition] = segment
        self.segments.append(segment)
        return 0

    def records_of(self, int partition):
        """The numbers of the records that went to `partition`, in order; only where they were spread by key."""
        cdef Py_ssize_t index
        cdef list out = []
        if self.spread:
            for index in range(self.count):
                if self.partitions[index] == partition:
                    out.append(index)
        return out

    @property
    def is_spread(self):
        """Whether records were spread by key: then `record` of a segment counts within its partition."""
        return self.spread


@cython.final
cdef class Run:
    """One call of send_many: what is the same for all its records, and the lanes while they are filled."""

    cdef Sending producer
    cdef Handover handover
    cdef str topic
    cdef object partition
    cdef tuple headers
    cdef bytes coded_headers
    cdef Item header_item
    cdef Source values
    cdef Source keys
    cdef bint has_keys
    # a partitioner in Python, and what it chose for the present chunk
    cdef object partitioner
    cdef int32_t* chosen
    # of the lanes that may be filled, from first_lane on; a space is NULL where no batch is open
    cdef Py_ssize_t first_lane
    cdef Py_ssize_t lane_count
    cdef Py_ssize_t lane_capacity
    cdef Space** spaces
    cdef int32_t* starts
    cdef Py_ssize_t sticky

    def __dealloc__(self):
        free(self.chosen)
        free(self.spaces)
        free(self.starts)

    cdef int prepare(self, headers) except -1:
        self.headers = None if headers is None else tuple(headers)
        self.coded_headers = b"\0" if headers is None else encode_headers(self.headers)
        self.header_item.data = <const uint8_t*> PyBytes_AS_STRING(self.coded_headers)
        self.header_item.size = PyBytes_GET_SIZE(self.coded_headers)
        if self.partitioner is not None:
            self.chosen = <int32_t*> malloc(CHUNK_RECORDS * sizeof(int32_t))
            if self.chosen == NULL:
                raise MemoryError
        return 0

    cdef int go(self, object timestamp_ms) except -1:
        """Hands over all there is; raises what ended it early, after the records before it."""
        cdef int64_t given = -1 if timestamp_ms is None else timestamp_ms
        cdef Py_ssize_t count
        cdef object error = None
        if given < -1:
            raise ValueError(f"timestamp_ms is {given}; it counts from the epoch, or is -1 for none")
        while error is None:
            count = self.values.next(CHUNK_RECORDS)
            error = self.values.error
            if self.keys is not None and count:
                count = self.match_keys(count)
                error = self.keys.error or error
            if not count:
                break
            if self.chosen != NULL:
                self.choose(count)
            self.hand_over(count, now_ms() if timestamp_ms is None else given)
        if error is not None:
            raise error
        return 0

    cdef Py_ssize_t match_keys(self, Py_ssize_t count) except -1:
        """The keys of `count` values; how many there are."""
        cdef Py_ssize_t drawn = self.keys.next(count)
        if drawn < count and self.keys.error is None:
            self.keys.error = ValueError(
                f"the keys ended after {self.keys.position}, and there are more values: give one key, or None, for each"
            )
        return drawn

    cdef int choose(self, Py_ssize_t count) except -1:
        """Asks the partitioner about each record of the present chunk."""
        cdef Py_ssize_t index
        cdef Py_ssize_t partitions = len((<TopicLanes> self.producer.topic_lanes[self.topic]).lanes)
        cdef object key = None
        for index in range(count):
            if self.has_keys:
                key = bytes_of(self.keys.items[index])
            lane = self.partitioner(key, partitions)
            self.chosen[index] = STICKY if lane is None else lane
        return 0

    cdef int hand_over(self, Py_ssize_t count, int64_t stamp) except -1:
        """Adds the records of the present chunk."""
        cdef Py_ssize_t done = 0
        self.handover.reserve(count)
        while done < count:
            if self.producer.refusal is not None:
                raise self.producer.refusal
            done = self.fill(done, count, stamp)
            if done < count:
                self.send_one(done, stamp)
                done += 1
        return 0

    cdef int send_one(self, Py_ssize_t index, int64_t stamp) except -1:
        """Sends a record as `send` does: it opens a batch, waits for room, or raises."""
        cdef object partition = self.partition
        cdef object key = None if self.keys is None else bytes_of(self.keys.items[index])
        cdef Delivery delivery
        if self.chosen != NULL and self.chosen[index] != STICKY:
            partition = self.chosen[index]
        delivery = self.producer._send_slowly(
            self.topic, bytes_of(self.values.items[index]), key, partition, self.headers, stamp, True
        )
        if self.handover.spread:
            self.handover.partitions[self.handover.count] = delivery.batch.partition
        self.handover.note(delivery.batch, delivery.index, 1)
        self.handover.count += 1
        return 0

    cdef Py_ssize_t fill(self, Py_ssize_t start, Py_ssize_t count, int64_t stamp) except -1:
        """Adds records to open batches from `start` on; the first that found no room, or `count`."""
        cdef object found = self.producer.topic_lanes.get(self.topic)
        cdef Py_ssize_t stop = start
        if found is None:
            return start
        self.producer.lock.take()
        try:
            try:
                if self.open_lanes(<TopicLanes> found):
                    with nogil:
                        stop = self.put_all(start, count, stamp)
            finally:
                self.close_lanes(<TopicLanes> found)
                self.handover.count += stop - start
            return stop
        finally:
            self.producer.lock.give()

    cdef bint open_lanes(self, TopicLanes topic) except -1:
        """Takes the batches that are open; False where none can be of use."""
        cdef Py_ssize_t index
        cdef Py_ssize_t count = len(topic.lanes)
        cdef Lane lane
        self.sticky = topic.sticky
        self.first_lane = self.lane_count = 0
        if self.partition is not None:
            if not 0 <= self.partition < count:
                return False
            self.first_lane, count = self.partition, 1
        elif not self.handover.spread:
            self.first_lane, count = topic.sticky, 1
        self.make_room(count)
        for index in range(count):
            lane = <Lane> topic.lanes[self.first_lane + index]
            self.spaces[index] = NULL
            self.lane_count = index + 1
            if lane.builder is not None:
                lane.builder.begin_filling()
                self.spaces[index] = &lane.builder.space
                self.starts[index] = lane.builder.space.records
        return True

    cdef int make_room(self, Py_ssize_t lanes) except -1:
        if lanes <= self.lane_capacity:
            return 0
        free(self.spaces)
        free(self.starts)
        self.lane_capacity = 0
        self.spaces = <Space**> malloc(<size_t> lanes * sizeof(Space*))
        self.starts = <int32_t*> malloc(<size_t> lanes * sizeof(int32_t))
        if self.spaces == NULL or self.starts == NULL:
            raise MemoryError
        self.lane_capacity = lanes
        return 0

    cdef Py_ssize_t put_all(self, Py_ssize_t start, Py_ssize_t count, int64_t stamp) noexcept nogil:
        """Adds records to the lanes from `start` on; the first that found no room, or `count`."""
        cdef Py_ssize_t index
        cdef Py_ssize_t lane = 0
        cdef Item* values = self.values.items
        cdef Item* keys = NULL
        cdef Item key
        key.data = NULL
        key.size = -1
        if self.has_keys:
            keys = self.keys.items
        for index in range(start, count):
            if keys != NULL:
                key = keys[index]
            if self.handover.spread:
                lane = self.lane_for(key, index)
                self.handover.partitions[self.handover.count + index - start] = <int32_t> lane
            if self.spaces[lane] == NULL:
                return index
            if put_record(self.spaces[lane], values[index], key, self.header_item, stamp) != PUT_DONE:
                return index
        return count

    cdef inline Py_ssize_t lane_for(self, Item key, Py_ssize_t index) noexcept nogil:
        """Where a record goes that is spread by key, as `Sending.lane_of` has it."""
        cdef Py_ssize_t lane = STICKY
        if self.chosen != NULL:
            lane = self.chosen[index]
        elif key.size >= 0:
            lane = <Py_ssize_t> (hash_murmur2(key) & 0x7fffffff) % self.lane_count
        return self.sticky if lane == STICKY else lane

    cdef int close_lanes(self, TopicLanes topic) except -1:
        """Gives the batches back, and notes what went into each."""
        cdef Py_ssize_t index
        cdef Lane lane
        cdef int32_t added
        for index in range(self.lane_count):
            if self.spaces[index] == NULL:
                continue
            lane = <Lane> topic.lanes[self.first_lane + index]
            lane.builder.end_filling()
            added = self.spaces[index].records - self.starts[index]
            if added:
                self.handover.note(lane.batch, self.starts[index], added)
        return 0


def append_many(
    Sending producer not None, Handover handover not None, str topic not None, values, keys, *, partition, headers,
    timestamp_ms, partitioner
):
    """Hands `values`, with `keys` where they are not None, to the batches of `topic`; `handover` says where they are.

    Both are iterables of bytes-like objects or None, or Columns. `partitioner` is a function (key, count) in place
    of murmur2. Blocks and raises as `Sending.send` does; what was handed over before an error stays so.
    """
    cdef Run run = Run.__new__(Run)
    run.producer = producer
    run.handover = handover
    run.topic = topic
    run.partition = None if partition is None else <Py_ssize_t> partition
    run.partitioner = partitioner if partition is None else None
    run.values = Source.__new__(Source, values, "value")
    if keys is not None:
        run.keys = Source.__new__(Source, keys, "key")
        run.has_keys = True
        if 0 <= run.values.total != run.keys.total >= 0:
            raise ValueError(
                f"there are {run.values.total} values and {run.keys.total} keys: give one key, or None, for each value"
            )
    run.prepare(headers)
    run.go(timestamp_ms)
