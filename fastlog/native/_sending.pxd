# What other Cython modules may use of _sending.pyx without a call through Python.

from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int32_t, int64_t

from fastlog.native._builder cimport BatchBuilder


cdef int64_t now_ms() noexcept


cdef class Lock:
    cdef PyThread_type_lock handle

    cdef void take(self) noexcept
    cdef void give(self) noexcept


cdef class Fate:
    cdef public str topic
    cdef public int32_t partition
    cdef public bint done
    cdef public int64_t base_offset
    cdef public int64_t log_append_time_ms
    cdef public object error
    cdef public list parts
    # what follows is explained in Batch
    cdef public object builder
    cdef public int32_t count
    cdef public double created_ms
    cdef public int64_t reserved_bytes
    cdef public object sealed
    cdef public tuple sealed_as
    cdef public int64_t producer_id
    cdef public int32_t producer_epoch
    cdef public int32_t base_sequence
    cdef public int64_t ordinal
    cdef public int32_t attempts
    cdef public bint uncertain
    cdef public bint abandoned
    cdef public double not_before_ms
    cdef public str last_problem
    cdef public object record_errors
    cdef public object parent
    cdef public object gate
    cdef public bint settled
    cdef public list callbacks
    cdef public Lock _lock

    cpdef bint acknowledge(self, int64_t base_offset, int64_t log_append_time_ms)


cdef class Delivery:
    cdef readonly Fate batch
    cdef readonly Py_ssize_t index
    cdef readonly int64_t timestamp_ms


cdef class Lane:
    cdef BatchBuilder builder
    cdef readonly Fate batch
    # the queue of its partition, for Opener
    cdef public object queue


cdef class Opener:
    # puts a record into the lane, whose open batch has no room or is none; False where Python has to decide. Under the
    # lock
    cdef bint open_for(self, Lane lane, object value, object key, int64_t stamp) except -1


cdef class TopicLanes:
    # changes by `add` alone
    cdef readonly list lanes
    cdef public Py_ssize_t sticky
    # the lane, where there is one
    cdef Lane only


cdef class Sending:
    cdef readonly Lock lock
    cdef readonly dict topic_lanes
    # the exception that `send` raises, once the producer is closed
    cdef public object refusal
    # keys are hashed here unless the user has another partitioner
    cdef bint hashes_keys
    # opens batches, where that needs no Python; None before it is known, and where each batch leaves at once
    cdef public Opener opener

    cdef Lane lane_of(self, TopicLanes topic, object key, object partition)
    cdef object append(
        self, Lane lane, object value, object key, object headers, int64_t stamp, bint is_sticky
    )
