# What other Cython modules may use of _builder.pyx without a call through Python.

from libc.stdint cimport int32_t, int64_t, uint32_t

from wire cimport Item, Space

# The bytes of a key or a value for the time of a call. `held` says that `view` is to be released. `bytes`, the
# usual case, need no view.
cdef struct Piece:
    Item item
    bint held
    Py_buffer view


cdef int take(Piece* piece, object source, str what) except -1
cdef void drop(Piece* piece) noexcept
cdef bytes encode_headers(object headers)
cdef uint32_t hash_murmur2(Item data) noexcept nogil
cdef uint32_t hash_of(object key) except? 0


cdef class BatchBuilder:
    cdef Space space
    cdef Py_ssize_t exports
    # records are being added without the GIL: everything else is refused
    cdef bint filling
    cdef bint sealed

    cdef bint add(self, object value, object key, object headers, int64_t timestamp_ms) except -1
    cdef bint put(self, Item value, Item key, bytes headers, int64_t timestamp_ms) except -1
    cdef int require_open(self) except -1
    cdef bint begin_filling(self) except -1
    cdef void end_filling(self) noexcept
    cdef void shrink(self) noexcept
    cdef bint begin_seal(self, int64_t producer_id, int32_t producer_epoch, int32_t base_sequence) noexcept
    cdef void end_seal(self, uint32_t crc) noexcept
