# cython: auto_pickle=False, autotestdict=False
"""Produce requests of many small batches: sealed, encoded and read the answers of in one call each.

Only what is usual is done here: batches without compression, versions of Produce with compact lengths, and answers that
say of every batch that it is in the log. All else is left to `fastlog.client.producer.requests`.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from wire cimport get_uvarint, put_u16, put_u32, put_uvarint, read_i16, read_i32, read_i64

from fastlog.native._builder cimport BatchBuilder
from fastlog.native._collecting cimport Collecting, Queue
from fastlog.native._sending cimport Fate

from fastlog.native._engine import batch_crcs

cdef enum:
    # the first version with compact lengths, and that with topic ids
    COMPACT_FROM = 9
    IDS_FROM = 13
    ID_BYTES = 16
    # from here on records are not copied
    LEFT_OUT_BYTES = 16 * 1024
    CAPACITY_AT_FIRST = 64 * 1024

FIRST_VERSION = COMPACT_FROM


def seal_plain(list entries not None):
    """Seals the batches that were never sealed, without compression; returns the entries that are left to be."""
    cdef Fate batch
    cdef BatchBuilder builder
    cdef list builders = []
    cdef list batches = []
    cdef list others = []
    for entry in entries:
        batch = entry[1]
        if (
            batch.sealed is None and type(batch.builder) is BatchBuilder
            and (<BatchBuilder> batch.builder).begin_seal(
                batch.producer_id, batch.producer_epoch, batch.base_sequence
            )
        ):
            builders.append(batch.builder)
            batches.append(batch)
        else:
            others.append(entry)
    for batch, builder, crc in zip(batches, builders, batch_crcs(builders)):
        builder.end_seal(crc)
        batch.sealed = PyMemoryView_FromObject(builder)
        batch.builder = None
        batch.sealed_as = batch.producer_id, batch.producer_epoch, batch.base_sequence
    return others


@cython.final
cdef class _Out:
    """Bytes that grow, and the parts before them."""

    cdef uint8_t* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef list parts

    def __cinit__(self):
        self.parts = []

    def __dealloc__(self):
        free(self.data)

    cdef uint8_t* room(self, Py_ssize_t more) except NULL:
        """Where `more` bytes may be written."""
        cdef uint8_t* data
        cdef Py_ssize_t capacity = max(2 * self.capacity, self.size + more, <Py_ssize_t> CAPACITY_AT_FIRST)
        if self.size + more > self.capacity:
            data = <uint8_t*> realloc(self.data, <size_t> capacity)
            if data == NULL:
                raise MemoryError
            self.data = data
            self.capacity = capacity
        return self.data + self.size

    cdef int end(self, uint8_t* at) except -1:
        """What was written ends at `at`."""
        self.size = at - self.data
        return 0

    cdef int text(self, str value) except -1:
        """A string, with its compact length."""
        cdef Py_ssize_t size
        cdef const char* data = PyUnicode_AsUTF8AndSize(value, &size)
        cdef uint8_t* at = put_uvarint(self.room(size + 5), <uint32_t> size + 1)
        memcpy(at, data, <size_t> size)
        return self.end(at + size)

    cdef int records(self, object sealed) except -1:
        """The bytes of a batch, with their compact length; large ones are a part of their own."""
        cdef Py_buffer view
        cdef uint8_t* at
        PyObject_GetBuffer(sealed, &view, PyBUF_SIMPLE)
        try:
            if view.len < LEFT_OUT_BYTES:
                at = put_uvarint(self.room(view.len + 5), <uint32_t> view.len + 1)
                memcpy(at, view.buf, <size_t> view.len)
                return self.end(at + view.len)
            self.end(put_uvarint(self.room(5), <uint32_t> view.len + 1))
        finally:
            PyBuffer_Release(&view)
        self.cut()
        self.parts.append(sealed)
        return 0

    cdef int cut(self) except -1:
        """Makes a part of what was written since the last one."""
        if self.size:
            self.parts.append(PyBytes_FromStringAndSize(<const char*> self.data, self.size))
            self.size = 0
        return 0


def request_parts(
    list entries not None, dict ids not None, int version, int32_t correlation_id, str client_id, int acks,
    int32_t timeout_ms
):
    """A Produce request with its header, in parts: the batches of `entries`, all sealed, by their topics.

    Puts `entries` into the order of the request. `version` has compact lengths (FIRST_VERSION). `ids` has the ids of
    the topics, where the version has those.
    """
    cdef dict topics = {}
    cdef list ordered
    cdef Fate batch
    cdef str topic
    cdef bytes topic_id
    cdef _Out out = _Out.__new__(_Out)
    cdef uint8_t* at
    cdef bytes client = (client_id or "").encode()
    if version < COMPACT_FROM:
        raise ValueError(f"version {version} of Produce has no compact lengths")
    for entry in entries:
        batch = entry[1]
        found = topics.get(batch.topic)
        if found is None:
            topics[batch.topic] = [entry]
        else:
            (<list> found).append(entry)
    if len(topics) != len(entries):
        entries[:] = [entry for ordered in topics.values() for entry in ordered]
    at = out.room(len(client) + 40)
    at = put_u16(at, 0)
    at = put_u16(at, <uint32_t> version)
    at = put_u32(at, <uint32_t> correlation_id)
    at = put_u16(at, <uint32_t> (-1 if client_id is None else len(client)))
    memcpy(at, <const char*> client, <size_t> len(client))
    at += len(client)
    # no tags; no transactional id
    at[0] = at[1] = 0
    at = put_u16(at + 2, <uint32_t> acks)
    at = put_u32(at, <uint32_t> timeout_ms)
    out.end(put_uvarint(at, <uint32_t> len(topics) + 1))
    for topic, ordered in topics.items():
        if version >= IDS_FROM:
            topic_id = ids[topic]
            if len(topic_id) != ID_BYTES:
                raise ValueError(f"a topic's id has {ID_BYTES} bytes, not {len(topic_id)}")
            at = out.room(ID_BYTES)
            memcpy(at, <const char*> topic_id, ID_BYTES)
            out.end(at + ID_BYTES)
        else:
            out.text(topic)
        out.end(put_uvarint(out.room(5), <uint32_t> len(ordered) + 1))
        for entry in ordered:
            batch = entry[1]
            out.end(put_u32(out.room(4), <uint32_t> batch.partition))
            out.records(batch.sealed)
            at = out.room(1)
            at[0] = 0
            out.end(at + 1)
        at = out.room(1)
        at[0] = 0
        out.end(at + 1)
    # the end of the request
    at = out.room(1)
    at[0] = 0
    out.end(at + 1)
    out.cut()
    return out.parts


@cython.final
cdef class Written:
    """What a Produce response says that has all batches of its request in the log, in the request's order."""

    cdef Py_ssize_t count
    cdef int64_t* base_offsets
    cdef int64_t* times_ms

    def __dealloc__(self):
        free(self.base_offsets)
        free(self.times_ms)

    cdef int reserve(self, Py_ssize_t count) except -1:
        self.base_offsets = <int64_t*> malloc(<size_t> max(count, 1) * sizeof(int64_t))
        self.times_ms = <int64_t*> malloc(<size_t> max(count, 1) * sizeof(int64_t))
        if self.base_offsets == NULL or self.times_ms == NULL:
            raise MemoryError
        self.count = count
        return 0

    def __len__(self):
        return self.count

    def place(self, Py_ssize_t index):
        """Base offset and time of the append (-1 where the records keep theirs) of a batch, by its place."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.base_offsets[index], self.times_ms[index]


def read_written(list entries not None, dict ids not None, int version, frame):
    """What `frame`, a response with its header, says of `entries`; None where that is not that all is in the log, or
    not in this order, or not what a response is: to be read by the codec then.

    `ids` has the ids of the topics, where the version has those.
    """
    cdef Py_buffer view
    cdef Written written
    if version < COMPACT_FROM:
        return None
    written = Written.__new__(Written)
    written.reserve(len(entries))
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    try:
        # the correlation id and the header's tags come first
        if view.len < 5 or not read_all(
            written, entries, ids, version, <const uint8_t*> view.buf + 4, <const uint8_t*> view.buf + view.len
        ):
            return None
        return written
    finally:
        PyBuffer_Release(&view)


cdef bint read_all(
    Written written, list entries, dict ids, int version, const uint8_t* at, const uint8_t* end
) except -1:
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t count = len(entries)
    cdef Fate batch
    cdef str topic
    cdef uint32_t number
    cdef uint32_t partitions
    if at[0] != 0:
        return False
    at = get_uvarint(at + 1, end, &number)
    if at == NULL:
        return False
    while number > 1:
        number -= 1
        if index >= count:
            return False
        topic = (<Fate?> (<tuple?> entries[index])[1]).topic
        at = read_topic(topic, ids, version, at, end)
        if at == NULL:
            return False
        at = get_uvarint(at, end, &partitions)
        if at == NULL:
            return False
        while partitions > 1:
            partitions -= 1
            if index >= count:
                return False
            batch = <Fate?> (<tuple?> entries[index])[1]
            # index 4, error code 2, base offset 8, time 8, first offset 8, and empty: errors of records, message, tags
            if batch.topic != topic or end - at < 33 or read_i32(at) != batch.partition:
                return False
            if read_i16(at + 4) != 0 or at[30] != 1 or at[31] != 0 or at[32] != 0:
                return False
            written.base_offsets[index] = read_i64(at + 6)
            written.times_ms[index] = read_i64(at + 14)
            index += 1
            at += 33
        if at >= end or at[0] != 0:
            return False
        at += 1
    # throttle time, no tags
    return index == count and end - at == 5 and at[4] == 0


cdef const uint8_t* read_topic(str topic, dict ids, int version, const uint8_t* at, const uint8_t* end) except? NULL:
    """The address after the name or id of `topic`; NULL where another one stands there."""
    cdef Py_ssize_t size
    cdef const char* name
    cdef uint32_t length
    cdef bytes topic_id
    if version >= IDS_FROM:
        topic_id = ids.get(topic)
        if topic_id is None or end - at < ID_BYTES or memcmp(at, <const char*> topic_id, ID_BYTES) != 0:
            return NULL
        return at + ID_BYTES
    name = PyUnicode_AsUTF8AndSize(topic, &size)
    at = get_uvarint(at, end, &length)
    if at == NULL or length != <uint32_t> size + 1 or end - at < size or memcmp(at, name, <size_t> size) != 0:
        return NULL
    return at + size


def acknowledge(Collecting accumulator not None, list entries not None, Written written not None, double now_ms):
    """Ends the batches about which nobody is to be told, under the lock; returns the numbers of the others."""
    cdef Py_ssize_t index
    cdef Queue queue
    cdef Fate batch
    cdef list others = []
    if len(entries) != written.count:
        raise ValueError(f"the answer is about {written.count} batches, not {len(entries)}")
    for index in range(written.count):
        queue, batch = entries[index]
        if batch.abandoned or not batch.acknowledge(written.base_offsets[index], written.times_ms[index]):
            others.append(index)
            continue
        queue.acknowledged(batch)
        queue.decided_ms = now_ms
        batch.sealed = None
        accumulator._free_bytes += batch.reserved_bytes
        batch.reserved_bytes = 0
    accumulator.tell_of_room()
    return others
