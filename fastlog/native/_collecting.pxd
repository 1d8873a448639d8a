# What other Cython modules may use of _collecting.pyx without a call through Python.

from libc.stdint cimport int32_t, int64_t

from fastlog.native._sending cimport Fate, Lane, Lock, Opener


cdef class Queue:
    cdef public str topic
    cdef public int32_t partition
    # what follows is explained in PartitionQueue
    cdef public object waiting
    cdef public list in_flight
    cdef public Lane lane
    cdef public int64_t producer_id
    cdef public int32_t producer_epoch
    cdef public bint wants_producer_id
    cdef public double decided_ms
    cdef public bint started
    cdef public int64_t opened
    cdef public int64_t last_bytes
    cdef public int64_t batch_bytes_max
    cdef public object connection
    cdef public bint _idempotent
    cdef public int32_t _in_flight_max
    cdef public int64_t _next_sequence
    cdef public int64_t _next_ordinal
    cdef public bint _confirmed
    cdef public object _gap
    cdef public int64_t _gap_ordinal
    # who leads the partition, and its topic's id (None = not known), in the image with this number, of those that the
    # sender has seen
    cdef int64_t image_number
    cdef object leader
    cdef bytes topic_id

    cpdef bint may_send(self, double now_ms, object connection=*) except -1
    cpdef Fate take(self, object connection=*)
    cpdef int acknowledged(self, Fate batch) except -1


cdef class Collecting(Opener):
    cdef public Lock lock
    # what follows is explained in Accumulator
    cdef public dict active
    cdef public object closed
    cdef public int64_t blocked
    cdef public double hold_until_ms
    cdef public bint awaits_answers
    cdef public object send_at_once
    cdef public object _space
    cdef public int64_t _free_bytes
    cdef public int64_t _opened_count
    cdef public int64_t _buffer_bytes
    cdef public int64_t _batch_bytes
    cdef public int64_t _max_request_bytes
    cdef public double _linger_ms
    cdef public object _new_batch
    cdef public object _clock_ms
    cdef public object _signal
    cdef public bint _sleeping
    cdef public double _sleeping_until_ms
    cdef public bint _news
    # the image that was used last, and which it was of all, counted from 1
    cdef object image
    cdef int64_t image_number

    cdef int64_t share(self, int64_t turns) noexcept
    cpdef int64_t _first_bytes(self, Queue queue) except -1
    cpdef bint _grow(self, Queue queue, Fate batch, int64_t record_bytes) except -1
    cpdef Fate _open(self, Queue queue, object builder, int64_t size)
    cpdef int _close_open(self, Queue queue) except -1
    cpdef int wake(self) except -1
    cpdef int changed(self, Queue queue) except -1
    cpdef int trim(self, Queue queue, Fate batch, int64_t size) except -1
    cdef object leader_of(self, Queue queue, object image)
    cdef int tell_of_room(self) except -1
