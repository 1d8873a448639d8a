# cython: auto_pickle=False, autotestdict=False
"""Where the records of `send_many` come from: lists, iterators, and buffers with offsets, as addresses and sizes."""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_SetItem
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from posix.time cimport CLOCK_MONOTONIC_COARSE, clock_gettime, timespec

from wire cimport Item

from fastlog.native._builder cimport Piece, drop, take

cdef enum:
    # an iterator that is slower than this has its records handed over before the chunk is full
    CHUNK_MS = 5


cdef int64_t coarse_ms() noexcept:
    """A clock that costs little and ticks every few milliseconds."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
    return <int64_t> now.tv_sec * 1000 + now.tv_nsec // 1_000_000


cdef object bytes_of(Item item):
    """The bytes as an object, None for null."""
    if item.size < 0:
        return None
    return PyBytes_FromStringAndSize(<const char*> item.data, item.size)


@cython.final
cdef class Column:
    """Byte strings that lie one after the other in one buffer, as in Arrow's binary and string arrays.

    `offsets` is a buffer of n + 1 integers of 4 or 8 bytes in the machine's order: string i is
    `data[offsets[i]:offsets[i + 1]]`. A buffer of plain bytes holds integers of `offset_bytes` (4: Arrow's binary and
    string; 8: their large forms). There are no nulls. Both buffers are held, not copied: leave them unchanged
    until `send_many` has returned. Raises TypeError and ValueError where they do not fit together.
    """

    def __cinit__(self, data, offsets, *, int offset_bytes=4):
        PyObject_GetBuffer(data, &self.data_view, PyBUF_SIMPLE)
        self.holds_data = True
        PyObject_GetBuffer(offsets, &self.offsets_view, PyBUF_ND | PyBUF_FORMAT)
        self.holds_offsets = True
        self.wide = self.width_of_offsets(offset_bytes) == 8
        cdef Py_ssize_t width = 8 if self.wide else 4
        if self.offsets_view.len < width or self.offsets_view.len % width:
            raise ValueError(
                f"the offsets have {self.offsets_view.len} bytes; n strings need n + 1 integers of {width} bytes"
            )
        self.count = self.offsets_view.len // width - 1
        cdef Py_ssize_t wrong
        with nogil:
            wrong = self.first_wrong()
        if wrong >= 0:
            raise self.misfit(wrong)

    def __dealloc__(self):
        if self.holds_data:
            PyBuffer_Release(&self.data_view)
        if self.holds_offsets:
            PyBuffer_Release(&self.offsets_view)

    cdef int width_of_offsets(self, int offset_bytes) except -1:
        if offset_bytes != 4 and offset_bytes != 8:
            raise ValueError(f"offset_bytes is {offset_bytes}; offsets have 4 or 8 bytes")
        cdef bytes kind = b"B" if self.offsets_view.format == NULL else <bytes> self.offsets_view.format
        cdef Py_ssize_t width = self.offsets_view.itemsize
        if width == 1 and kind[-1:] in b"bBc":
            return offset_bytes
        if (width == 4 or width == 8) and kind.lstrip(b"@=<") in (b"i", b"l", b"q"):
            return <int> width
        raise TypeError(
            f"the offsets are of format {kind.decode()!r}; they are signed integers of 4 or 8 bytes, or plain bytes"
        )

    cdef inline int64_t offset_at(self, Py_ssize_t index) noexcept nogil:
        if self.wide:
            return (<const int64_t*> self.offsets_view.buf)[index]
        return (<const int32_t*> self.offsets_view.buf)[index]

    cdef inline bint item_at(self, Py_ssize_t index, Item* item) noexcept nogil:
        """String `index`, which must be less than `count`; False where its offsets do not fit. Looked at with every
        use, since the buffers may be changed by others."""
        cdef int64_t start = self.offset_at(index)
        cdef int64_t end = self.offset_at(index + 1)
        if start < 0 or end < start or end > self.data_view.len:
            return False
        item.data = <const uint8_t*> self.data_view.buf + start
        item.size = end - start
        return True

    cdef Py_ssize_t first_wrong(self) noexcept nogil:
        cdef Py_ssize_t index
        cdef Item item
        for index in range(self.count):
            if not self.item_at(index, &item):
                return index
        return -1

    cdef object misfit(self, Py_ssize_t index):
        return ValueError(
            f"offsets {index} and {index + 1} are {self.offset_at(index)} and {self.offset_at(index + 1)}: they must "
            f"not fall, and lie within the {self.data_view.len} bytes of data"
        )

    def __len__(self):
        return self.count

    def __getitem__(self, Py_ssize_t index):
        cdef Item item
        if index < 0:
            index += self.count
        if not 0 <= index < self.count:
            raise IndexError(f"the column has {self.count} strings")
        if not self.item_at(index, &item):
            raise self.misfit(index)
        return PyBytes_FromStringAndSize(<const char*> item.data, item.size)

    def __repr__(self):
        return f"<Column of {self.count} strings, {self.data_view.len} bytes>"


@cython.final
cdef class Source:
    """Gives the values or the keys, chunk by chunk, as addresses that are good until the next chunk."""

    def __cinit__(self, source, str what):
        self.what = what
        self.total = -1
        self.items = <Item*> malloc(CHUNK_RECORDS * sizeof(Item))
        if self.items == NULL:
            raise MemoryError
        if isinstance(source, Column):
            self.column = source
            self.total = self.column.count
        elif isinstance(source, (list, tuple)):
            self.sequence = source
            self.total = len(source)
        elif isinstance(source, (bytes, bytearray, memoryview, str)):
            raise TypeError(
                f"send_many takes an iterable of {what}s or a Column, not one {type(source).__name__}: see send"
            )
        else:
            self.iterator = iter(source)

    def __dealloc__(self):
        free(self.items)

    cdef Py_ssize_t next(self, Py_ssize_t most) except -1:
        """Fills `items` with the next ones, `most` at most; 0 at the end. Where something goes wrong on the way,
        `error` has it, and what came before it is there."""
        cdef Py_ssize_t count
        if self.column is not None:
            return self.next_of_column(most)
        if self.sequence is not None:
            self.chunk = list(self.sequence[self.position:self.position + most])
        else:
            self.chunk = self.draw(most)
        count = self.note_addresses()
        self.position += count
        return count

    cdef Py_ssize_t next_of_column(self, Py_ssize_t most) except -1:
        cdef Py_ssize_t count = min(most, self.column.count - self.position)
        cdef Py_ssize_t index
        for index in range(count):
            if not self.column.item_at(self.position + index, &self.items[index]):
                self.error = self.column.misfit(self.position + index)
                count = index
                break
        self.position += count
        return count

    cdef list draw(self, Py_ssize_t most):
        """The next of an iterator; fewer where it takes its time."""
        cdef list drawn = []
        cdef int64_t until = coarse_ms() + CHUNK_MS
        try:
            for item in self.iterator:
                drawn.append(item)
                if len(drawn) >= most or coarse_ms() > until:
                    break
        except BaseException as error:
            self.error = error
        return drawn

    cdef Py_ssize_t note_addresses(self) except -1:
        cdef Py_ssize_t index
        cdef Item* item
        cdef object value
        for index in range(len(self.chunk)):
            value = <object> PyList_GET_ITEM(self.chunk, index)
            item = &self.items[index]
            if PyBytes_CheckExact(value):
                item.data = <const uint8_t*> PyBytes_AS_STRING(value)
                item.size = PyBytes_GET_SIZE(value)
            elif value is None:
                item.data = NULL
                item.size = -1
            else:
                try:
                    self.note_copy(value, index, item)
                except TypeError as error:
                    self.error = error
                    return index
        return len(self.chunk)

    cdef int note_copy(self, object value, Py_ssize_t index, Item* item) except -1:
        """Other bytes-like objects may change while nobody holds the GIL: they are copied."""
        cdef Piece piece
        cdef bytes copy
        take(&piece, value, self.what)
        try:
            copy = PyBytes_FromStringAndSize(<const char*> piece.item.data, piece.item.size)
        finally:
            drop(&piece)
        item.data = <const uint8_t*> PyBytes_AS_STRING(copy)
        item.size = PyBytes_GET_SIZE(copy)
        Py_INCREF(copy)
        PyList_SetItem(self.chunk, index, copy)
        return 0
