# cython: auto_pickle=False, autotestdict=False
"""Record batches -> Python objects: lazy records over one buffer. Names of `_builder` are here too."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t, uint8_t

from wire cimport (
    HEADER_BYTES, LOG_OVERHEAD, RECORD_BYTES_MIN, RawRecord,
    get_bytes, get_varint, read_i16, read_i32, read_i64, read_record,
)

from fastlog.native._builder import BatchBuilder, murmur2, partition_for_key

__all__ = [
    "BatchBuilder", "Record", "RecordBatch", "RecordIterator", "murmur2", "partition_for_key", "read_batches",
]


cdef object corrupt(str message):
    """The exception for bytes that are not what they should be."""
    from fastlog.errors import CorruptMessageError
    return CorruptMessageError(message)


cdef inline object bytes_or_none(const uint8_t* data, int32_t size):
    if size < 0:
        return None
    return PyBytes_FromStringAndSize(<const char*> data, size)


cdef tuple decode_headers(const uint8_t* at, const uint8_t* end):
    """The headers between `at` (their count) and `end`. As in Java, what is not UTF-8 in a key is
    replaced."""
    cdef int32_t count
    cdef int32_t size
    cdef list out = []
    at = get_varint(at, end, &count)
    if at == NULL or count < 0:
        raise corrupt("a record's header count is malformed")
    while count > 0:
        at = get_bytes(at, end, &size)
        if at == NULL or size < 0:
            raise corrupt("a record header's key is malformed, or reaches beyond the record")
        key = PyUnicode_DecodeUTF8(<const char*> at, size, "replace")
        at = get_bytes(at + size, end, &size)
        if at == NULL:
            raise corrupt("a record header's value is malformed, or reaches beyond the record")
        out.append((key, bytes_or_none(at, size)))
        if size > 0:
            at += size
        count -= 1
    if at != end:
        raise corrupt("bytes are left over after a record's headers")
    return tuple(out)


cdef str shorten(object data):
    """How bytes look in a record's repr."""
    if data is None or len(data) <= 100:
        return repr(data)
    return f"{data[:80]!r}... ({len(data)} bytes)"


# Either a view into a batch (`owner` is the RecordBatch, which keeps the addresses valid) or on its own
# (`owner` is the tuple topic, partition, key, value, headers). No cycle can run through it, so the garbage
# collector need not know it.
@cython.final
@cython.no_gc
@cython.freelist(512)
cdef class Record:
    """One record. Immutable; compares equal to one with the same seven fields.

    Records that come out of a batch read `key`, `value` and `headers` from the batch's buffer when asked, a
    new object each time, and keep that buffer alive. `key` and `value` are None for null, which differs from
    empty.
    """

    cdef object owner
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp_ms
    cdef const uint8_t* key_data
    cdef const uint8_t* value_data
    cdef const uint8_t* headers_data
    cdef const uint8_t* end
    cdef int32_t key_size
    cdef int32_t value_size

    def __init__(
        self, str topic not None, int32_t partition, int64_t offset, int64_t timestamp_ms, key, value,
        headers=(),
    ):
        if self.owner is not None:
            raise TypeError("a record is immutable")
        self.offset = offset
        self.timestamp_ms = timestamp_ms
        self.owner = (
            topic,
            partition,
            None if key is None else bytes(key),
            None if value is None else bytes(value),
            tuple([(name, data) for name, data in headers]),
        )

    @property
    def topic(self):
        """Name of the topic."""
        if type(self.owner) is RecordBatch:
            return (<RecordBatch> self.owner).topic
        return self.owner[0]

    @property
    def partition(self):
        """Number of the partition."""
        if type(self.owner) is RecordBatch:
            return (<RecordBatch> self.owner).partition
        return self.owner[1]

    @property
    def key(self):
        """The key as bytes, None for null."""
        if type(self.owner) is RecordBatch:
            return bytes_or_none(self.key_data, self.key_size)
        return self.owner[2]

    @property
    def value(self):
        """The value as bytes, None for null."""
        if type(self.owner) is RecordBatch:
            return bytes_or_none(self.value_data, self.value_size)
        return self.owner[3]

    @property
    def headers(self):
        """The headers as (str, bytes or None), in order, duplicates kept."""
        if type(self.owner) is RecordBatch:
            if self.headers_data[0] == 0:
                return ()
            return decode_headers(self.headers_data, self.end)
        return self.owner[4]

    cdef tuple fields(self):
        return (
            self.topic, self.partition, self.offset, self.timestamp_ms, self.key, self.value, self.headers
        )

    def __eq__(self, other):
        if type(other) is not Record:
            return NotImplemented
        return self.fields() == (<Record> other).fields()

    def __hash__(self):
        return hash(self.fields())

    def __repr__(self):
        return (
            f"Record(topic={self.topic!r}, partition={self.partition}, offset={self.offset}, "
            f"timestamp_ms={self.timestamp_ms}, key={shorten(self.key)}, value={shorten(self.value)}, "
            f"headers={self.headers!r})"
        )

    def __reduce__(self):
        return Record, self.fields()


@cython.final
cdef class RecordBatch:
    """The records of one uncompressed batch in a buffer, which it keeps; compressed ones go through
    `fastlog.native._engine.open_batch` first. Bytes after the batch are not looked at.

    Only records from `from_offset` on are given: a fetch answers with whole batches. What the header claims
    is checked against the bytes there are; the CRC is not checked here. A malformed record raises
    CorruptMessageError when it is reached.
    """

    cdef Py_buffer view
    cdef bint held
    cdef const uint8_t* data
    cdef const uint8_t* first
    cdef const uint8_t* end
    cdef int32_t remaining
    cdef int16_t attributes
    cdef int64_t base_timestamp
    cdef int64_t from_offset
    cdef readonly str topic
    cdef readonly int32_t partition
    cdef readonly int64_t base_offset
    cdef readonly int64_t max_timestamp_ms

    def __cinit__(self, buffer, str topic not None="", int32_t partition=0, *, Py_ssize_t position=0,
                  int64_t from_offset=0):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_SIMPLE)
        self.held = True
        self.topic = topic
        self.partition = partition
        if position < 0 or position > self.view.len:
            raise ValueError(f"position {position} is outside the buffer of {self.view.len} bytes")
        self.read_header(<const uint8_t*> self.view.buf + position, self.view.len - position)
        self.from_offset = from_offset
        self.skip_to(from_offset)

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef int read_header(self, const uint8_t* at, Py_ssize_t available) except -1:
        cdef int64_t size
        if available < HEADER_BYTES:
            raise corrupt(f"a record batch needs {HEADER_BYTES} bytes for its header, {available} are there")
        size = LOG_OVERHEAD + <int64_t> read_i32(at + 8)
        if at[16] != 2 or size < HEADER_BYTES or size > available:
            raise corrupt(
                f"no record batch here: format {at[16]}, {size} bytes by its header, {available} there"
            )
        self.data = at
        self.first = at + HEADER_BYTES
        self.end = at + size
        self.base_offset = read_i64(at)
        self.attributes = read_i16(at + 21)
        self.base_timestamp = read_i64(at + 27)
        self.max_timestamp_ms = read_i64(at + 35)
        self.remaining = read_i32(at + 57)
        if self.attributes & 0x07:
            raise ValueError("the batch is compressed: open it with fastlog.native._engine.open_batch first")
        # room for every offset of the batch and the one after it
        if not 0 <= self.base_offset <= INT64_MAX - (<int64_t> 1 << 32) or read_i32(at + 23) < -1:
            raise corrupt(f"the batch claims offsets from {self.base_offset} to {self.last_offset}")
        if self.remaining < 0 or <int64_t> self.remaining * RECORD_BYTES_MIN > self.end - self.first:
            raise corrupt(
                f"the batch at offset {self.base_offset} cannot hold the {self.remaining} records it claims"
            )
        return 0

    cdef int skip_to(self, int64_t offset) except -1:
        """Passes over the records before `offset`."""
        cdef RawRecord raw
        cdef const uint8_t* after
        while self.remaining > 0 and self.base_offset < offset:
            after = read_record(self.first, self.end, &raw)
            if after == NULL:
                raise self.malformed(self.first)
            if self.base_offset + raw.offset_delta >= offset:
                break
            self.first = after
            self.remaining -= 1
        return 0

    cdef object malformed(self, const uint8_t* at):
        return corrupt(
            f"a record of {self.topic}-{self.partition} is malformed, {at - self.data} bytes into the batch "
            f"at offset {self.base_offset}"
        )

    cdef inline int64_t timestamp_of(self, RawRecord* raw) noexcept:
        # with LogAppendTime every record has the batch's time
        if self.attributes & 0x08:
            return self.max_timestamp_ms
        return self.base_timestamp + raw.timestamp_delta

    @property
    def size_bytes(self):
        """Bytes of the batch in the buffer; the next one starts after them."""
        return self.end - self.data

    @property
    def last_offset(self):
        """Offset of the last record, inclusive; stays when the cleaner removed records."""
        return self.base_offset + read_i32(self.data + 23)

    @property
    def next_offset(self):
        """Where a reader goes on, even if the batch is empty."""
        return self.last_offset + 1

    @property
    def leader_epoch(self):
        """Epoch of the leader that appended the batch."""
        return read_i32(self.data + 12)

    @property
    def producer_id(self):
        """Id of an idempotent or transactional producer, or -1."""
        return read_i64(self.data + 43)

    @property
    def producer_epoch(self):
        """Epoch of that id, or -1."""
        return read_i16(self.data + 51)

    @property
    def base_sequence(self):
        """Sequence of the first record, or -1."""
        return read_i32(self.data + 53)

    @property
    def is_control(self):
        """Whether this is a transaction marker: consumers pass over it."""
        return self.attributes & 0x20 != 0

    @property
    def is_transactional(self):
        """Whether the batch belongs to a transaction."""
        return self.attributes & 0x10 != 0

    def __len__(self):
        return self.remaining

    def __iter__(self):
        cdef RecordIterator iterator = RecordIterator.__new__(RecordIterator)
        iterator.batch = self
        iterator.at = self.first
        iterator.remaining = self.remaining
        iterator.next_offset = max(self.base_offset, self.from_offset)
        return iterator

    def __repr__(self):
        return (
            f"<RecordBatch {self.topic}-{self.partition} offsets {self.base_offset}-{self.last_offset}, "
            f"{self.remaining} records>"
        )

    def values(self):
        """The values as a list of bytes or None; quicker than iterating."""
        return self.column(0)

    def keys(self):
        """The keys as a list of bytes or None."""
        return self.column(1)

    def offsets(self):
        """The offsets as a list."""
        return self.column(2)

    def timestamps_ms(self):
        """The timestamps as a list."""
        return self.column(3)

    def headers(self):
        """The headers as a list of tuples of (str, bytes or None)."""
        return self.column(4)

    cdef list column(self, int which):
        cdef RawRecord raw
        cdef const uint8_t* at = self.first
        # the claimed count was compared with the bytes there are
        cdef list out = PyList_New(self.remaining)
        cdef Py_ssize_t index
        cdef object item
        for index in range(self.remaining):
            at = read_record(at, self.end, &raw)
            if at == NULL:
                raise self.malformed(self.first)
            if which == 0:
                item = bytes_or_none(raw.value, raw.value_size)
            elif which == 1:
                item = bytes_or_none(raw.key, raw.key_size)
            elif which == 2:
                item = self.base_offset + raw.offset_delta
            elif which == 3:
                item = self.timestamp_of(&raw)
            else:
                item = () if raw.headers[0] == 0 else decode_headers(raw.headers, raw.end)
            Py_INCREF(item)
            PyList_SET_ITEM(out, index, item)
        if at != self.end:
            raise self.malformed(at)
        return out


@cython.final
cdef class RecordIterator:
    """Goes over a batch once; `take` gives many records at a time."""

    cdef RecordBatch batch
    cdef const uint8_t* at
    cdef int32_t remaining
    cdef readonly int64_t next_offset

    def __iter__(self):
        return self

    def stop(self):
        """Gives no more records: its reader has gone elsewhere."""
        self.remaining = 0
        if self.batch is not None:
            self.at = self.batch.end

    def __next__(self):
        if self.remaining == 0:
            if self.batch is not None and self.at != self.batch.end:
                raise self.batch.malformed(self.at)
            raise StopIteration
        return self.step()

    def __length_hint__(self):
        return self.remaining

    cdef Record step(self):
        cdef RawRecord raw
        cdef Record record
        cdef RecordBatch batch = self.batch
        cdef const uint8_t* after = read_record(self.at, batch.end, &raw)
        if after == NULL:
            raise batch.malformed(self.at)
        record = Record.__new__(Record)
        record.owner = batch
        record.offset = batch.base_offset + raw.offset_delta
        record.timestamp_ms = batch.timestamp_of(&raw)
        record.key_data = raw.key
        record.key_size = raw.key_size
        record.value_data = raw.value
        record.value_size = raw.value_size
        record.headers_data = raw.headers
        record.end = raw.end
        self.at = after
        self.remaining -= 1
        self.next_offset = record.offset + 1
        return record

    def take(self, Py_ssize_t max_records, /):
        """The next records as a list, at most `max_records`; empty at the end."""
        cdef Py_ssize_t count = max(0, min(max_records, self.remaining))
        cdef list out = PyList_New(count)
        cdef Py_ssize_t index
        cdef object record
        for index in range(count):
            record = self.step()
            Py_INCREF(record)
            PyList_SET_ITEM(out, index, record)
        return out


def read_batches(buffer, str topic not None="", int32_t partition=0, *, int64_t from_offset=0):
    """The uncompressed batches that lie one after the other in `buffer`; those that end before `from_offset`
    are left out. The buffer ends with its last batch: what was cut short is no longer here."""
    cdef list out = []
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t size = len(memoryview(buffer).cast("B"))
    cdef RecordBatch batch
    while position < size:
        batch = RecordBatch(buffer, topic, partition, position=position, from_offset=from_offset)
        position += batch.end - batch.data
        if batch.next_offset > from_offset:
            out.append(batch)
    return out
