# What other Cython modules may use of _builder.pyx without a call through Python.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

# The bytes of a key or a value for the time of a call. `size` is -1 for null; `held` says that `view` is to
# be released. `bytes`, the usual case, need no view.
cdef struct Piece:
    const uint8_t* data
    Py_ssize_t size
    bint held
    Py_buffer view


cdef int take(Piece* piece, object source, str what) except -1
cdef void drop(Piece* piece) noexcept
cdef uint32_t hash_of(object key) except? 0


cdef class BatchBuilder:
    cdef uint8_t* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef Py_ssize_t limit
    cdef Py_ssize_t exports
    cdef int32_t records
    cdef int64_t base_timestamp
    cdef int64_t max_timestamp
    cdef bint sealed

    cdef bint add(self, object value, object key, object headers, int64_t timestamp_ms) except -1
    cdef bint put(self, Piece* value, Piece* key, bytes headers, int64_t timestamp_ms) except -1
    cdef int grow(self, Py_ssize_t needed) except -1
