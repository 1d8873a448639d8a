# What other Cython modules may use of _column.pyx without a call through Python.

from libc.stdint cimport int64_t

from wire cimport Item

cdef enum:
    # about a batch of short records: their addresses stay in the second-level cache
    CHUNK_RECORDS = 4096


cdef object bytes_of(Item item)


cdef class Column:
    cdef Py_buffer data_view
    cdef Py_buffer offsets_view
    cdef bint holds_data
    cdef bint holds_offsets
    cdef bint wide
    cdef Py_ssize_t count

    cdef int width_of_offsets(self, int offset_bytes) except -1
    cdef int64_t offset_at(self, Py_ssize_t index) noexcept nogil
    cdef bint item_at(self, Py_ssize_t index, Item* item) noexcept nogil
    cdef Py_ssize_t first_wrong(self) noexcept nogil
    cdef object misfit(self, Py_ssize_t index)


cdef class Source:
    cdef str what
    cdef Column column
    # a list or a tuple
    cdef object sequence
    cdef object iterator
    cdef Py_ssize_t position
    # how many there are, -1 where it is not known
    cdef Py_ssize_t total
    # owns the bytes of the present chunk
    cdef list chunk
    cdef Item* items
    # what ended the present chunk early
    cdef object error

    cdef Py_ssize_t next(self, Py_ssize_t most) except -1
    cdef Py_ssize_t next_of_column(self, Py_ssize_t most) except -1
    cdef list draw(self, Py_ssize_t most)
    cdef Py_ssize_t note_addresses(self) except -1
    cdef int note_copy(self, object value, Py_ssize_t index, Item* item) except -1
