# cython: auto_pickle=False, autotestdict=False
"""What `Producer.send` does once per record: pick the partition, append to its open batch, make the delivery.

Everything that happens once per batch is in Python (`fastlog.client.producer`) and is reached through
`_send_slowly`.
"""

cimport cython
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_release_lock
)
from libc.stdint cimport int32_t, int64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from fastlog.native._builder cimport hash_of


cdef int64_t now_ms() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t> now.tv_sec * 1000 + now.tv_nsec // 1_000_000


@cython.final
cdef class Lock:
    """A mutual exclusion that costs Cython no call through Python; otherwise like threading.Lock."""

    def __cinit__(self):
        self.handle = PyThread_allocate_lock()
        if self.handle == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.handle != NULL:
            PyThread_free_lock(self.handle)

    cdef void take(self) noexcept:
        if not PyThread_acquire_lock(self.handle, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.handle, WAIT_LOCK)

    cdef void give(self) noexcept:
        PyThread_release_lock(self.handle)

    def acquire(self, blocking=True):
        """Takes the lock; False where it is taken and `blocking` is false. Releases the GIL to wait."""
        if blocking:
            self.take()
            return True
        return bool(PyThread_acquire_lock(self.handle, NOWAIT_LOCK))

    def release(self):
        """Gives the lock back; only after `acquire`."""
        self.give()

    def attempt(self, work, argument, /):
        """Returns `work(argument)`, done while the lock is held; None where it is taken."""
        # no signal is looked at before `try`: one that raises cannot leave the lock taken
        if not PyThread_acquire_lock(self.handle, NOWAIT_LOCK):
            return None
        try:
            return work(argument)
        finally:
            self.give()

    def __enter__(self):
        self.take()
        return self

    def __exit__(self, *_):
        self.give()


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class RecordMetadata:
    """Where an acknowledged record lies. Immutable; compares equal to one with the same four fields.

    `offset` is -1 where the broker did not tell it (acks=0, or a duplicate that it no longer remembers).
    `timestamp_ms` is the record's own, or the broker's where the topic uses LogAppendTime.
    """

    cdef readonly str topic
    cdef readonly int32_t partition
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp_ms

    def __cinit__(self, str topic not None, int32_t partition, int64_t offset, int64_t timestamp_ms):
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp_ms = timestamp_ms

    cdef tuple fields(self):
        return self.topic, self.partition, self.offset, self.timestamp_ms

    def __eq__(self, other):
        if type(other) is not RecordMetadata:
            return NotImplemented
        return self.fields() == (<RecordMetadata> other).fields()

    def __hash__(self):
        return hash(self.fields())

    def __repr__(self):
        return (
            f"RecordMetadata(topic={self.topic!r}, partition={self.partition}, offset={self.offset}, "
            f"timestamp_ms={self.timestamp_ms})"
        )

    def __reduce__(self):
        return RecordMetadata, self.fields()


cdef class Fate:
    """The base of Batch: what every delivery asks of it, and fields that cost less here than in Python.

    `error` and what follows it count once `done` is true.
    """

    def __cinit__(self, *_, **__):
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1
        self.ordinal = -1
        self.last_problem = ""

    cpdef bint acknowledge(self, int64_t base_offset, int64_t log_append_time_ms):
        """As `complete`, in short and under the lock, where nobody is to be told; else False, and nothing is done."""
        if self.callbacks or self.parent is not None or self.gate is not None:
            return False
        self.base_offset = base_offset
        self.log_append_time_ms = log_append_time_ms
        self.done = self.settled = True
        return True


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class Delivery:
    """The outcome of one `send`, like a concurrent.futures.Future that cannot be cancelled."""

    # Not tracked by the garbage collector, since there are millions: the only cycle, through callbacks, is
    # cut when the batch is done.
    def __init__(self, Fate batch not None, Py_ssize_t index, int64_t timestamp_ms):
        self.batch = batch
        self.index = index
        self.timestamp_ms = timestamp_ms

    def __repr__(self):
        failed = self.batch.done and self.batch.error_of(self.index) is not None
        state = "failed" if failed else "delivered" if self.batch.done else "pending"
        return f"<Delivery {self.batch.topic}-{self.batch.partition} {state}>"

    def done(self):
        """Whether the broker has answered, or the producer has given up."""
        return self.batch.done

    def result(self, timeout=None):
        """Blocks until the record is acknowledged and returns its RecordMetadata: where it lies.

        Raises the delivery's error where it failed, TimeoutError after `timeout` seconds (it goes on then).
        """
        cdef Fate batch = self.batch
        if not batch.done or batch.error is not None or batch.parts:
            error = self.exception(timeout)
            if error is not None:
                raise error
            if batch.parts:
                return batch.metadata_of(self.index, self.timestamp_ms)
        # asked once per record
        cdef int64_t offset = batch.base_offset + self.index if batch.base_offset >= 0 else -1
        cdef int64_t appended = batch.log_append_time_ms
        return RecordMetadata(
            batch.topic, batch.partition, offset, appended if appended >= 0 else self.timestamp_ms
        )

    def exception(self, timeout=None):
        """Blocks like `result`, and returns the error instead of raising it; None where there is none."""
        if not self.batch.done and not self.batch.wait(timeout):
            raise TimeoutError(
                f"the record for {self.batch.topic}-{self.batch.partition} was not acknowledged within "
                f"{timeout} s; the delivery goes on: wait again, or see delivery_timeout_ms"
            )
        return self.batch.error_of(self.index)

    def add_done_callback(self, callback, /):
        """Calls `callback(delivery)` when it is done: at once if it is, else on the sender's thread.

        The callback must be quick and must not wait for other deliveries. What it raises is logged.
        """
        self.batch.add_callback(callback, self)


@cython.final
cdef class Lane:
    """The batch of one partition that takes records now. Change it under the producer's lock only."""

    def open(self, Fate batch not None, /):
        """Lets records go into `batch`."""
        self.builder = batch.builder
        self.batch = batch

    def close(self):
        """Takes no more records into the open batch, if there is one, and fixes its number of records."""
        if self.batch is not None:
            self.batch.count = self.builder.space.records
            self.builder = None
            self.batch = None


@cython.final
cdef class TopicLanes:
    """One topic: the lanes of its partitions, and the partition for records without a key."""

    def __init__(self, list lanes not None, Py_ssize_t sticky):
        self.lanes = lanes
        self.sticky = sticky
        self.only = lanes[0] if len(lanes) == 1 else None

    def add(self, Lane lane not None, /):
        """Adds the lane of the next partition."""
        self.lanes.append(lane)
        self.only = lane if len(self.lanes) == 1 else None


cdef class Opener:
    """The base of Collecting: opens batches for records that found none with room."""

    cdef bint open_for(self, Lane lane, object value, object key, int64_t stamp) except -1:
        return False


cdef class Sending:
    """The base of Producer; a subclass has `_send_slowly` with the arguments of `send` by position, and one more:
    whether many records follow at once.
    """

    def __cinit__(self, *_, **__):
        self.lock = Lock()
        self.topic_lanes = {}

    def _hash_keys_natively(self):
        """Says that the partitioner is murmur2."""
        self.hashes_keys = True

    def send(self, topic, value, *, key=None, partition=None, headers=None, timestamp_ms=None):
        """Hands one record over and returns its Delivery; `send(...).result()` waits for the acknowledgement.

        `value` and `key` are bytes or None: encode text first. `headers` is a sequence of (str, bytes or
        None). Without `partition` the partitioner chooses. `timestamp_ms` is now by default.

        Blocks where the topic is not known yet (its metadata is fetched) and where the buffer is full, up to
        max_block_ms each. Raises TypeError, ConfigError (no such partition), ClosedError, BufferFullError,
        MessageTooLargeError, NotReachableError, and the topic's error.
        """
        if self.refusal is not None:
            raise self.refusal
        cdef int64_t stamp = now_ms() if timestamp_ms is None else timestamp_ms
        if headers is not None:
            # an iterable may run any code: not under the lock
            headers = tuple(headers)
        found = self.topic_lanes.get(topic)
        cdef Lane lane = None if found is None else self.lane_of(<TopicLanes> found, key, partition)
        if lane is not None:
            # the sticky partition may change with the batch, which is for Python
            delivery = self.append(
                lane, value, key, headers, stamp,
                partition is None and key is None and (<TopicLanes> found).only is None
            )
            if delivery is not None:
                return delivery
        return self._send_slowly(topic, value, key, partition, headers, stamp)

    cdef Lane lane_of(self, TopicLanes topic, object key, object partition):
        """The lane for a record, None where Python has to decide."""
        cdef Py_ssize_t index
        if partition is not None:
            index = partition
            if not 0 <= index < len(topic.lanes):
                return None
        elif not self.hashes_keys:
            return None
        elif topic.only is not None:
            # with thousands of topics the list is in no cache, and waiting for it takes a tenth of `send`
            return topic.only
        elif key is None:
            index = topic.sticky
        else:
            index = <Py_ssize_t> (hash_of(key) & 0x7fffffff) % <Py_ssize_t> len(topic.lanes)
        return <Lane> topic.lanes[index]

    cdef object append(
        self, Lane lane, object value, object key, object headers, int64_t stamp, bint is_sticky
    ):
        """The delivery of a record that the open batch had room for, or one that was opened; else None."""
        cdef Delivery delivery
        self.lock.take()
        try:
            if lane.builder is None or not lane.builder.add(value, key, headers, stamp):
                if self.opener is None or is_sticky or headers is not None:
                    return None
                if not self.opener.open_for(lane, value, key, stamp):
                    return None
            delivery = Delivery.__new__(Delivery)
            delivery.batch = lane.batch
            delivery.index = lane.builder.space.records - 1
            delivery.timestamp_ms = stamp
            return delivery
        finally:
            self.lock.give()
