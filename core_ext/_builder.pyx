# cython: auto_pickle=False, autotestdict=False
"""Python objects -> record batches: the producer's work per record, and Java's hash of keys."""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.limits cimport INT_MAX
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from wire cimport HEADER_BYTES, put_varint, varint_size

cdef Py_ssize_t CAPACITY_AT_FIRST = 4096


cdef int take(Piece* piece, object source, str what) except -1:
    """Fills `piece` from None or a bytes-like object."""
    piece.held = False
    if PyBytes_CheckExact(source):
        piece.data = <const uint8_t*> PyBytes_AS_STRING(source)
        piece.size = PyBytes_GET_SIZE(source)
        return 0
    if source is None:
        piece.data = NULL
        piece.size = -1
        return 0
    if not PyObject_CheckBuffer(source):
        hint = "encode it" if isinstance(source, str) else "or None"
        found = type(source).__name__
        raise TypeError(f"a record's {what} is bytes, bytearray or memoryview, not {found}: {hint}")
    PyObject_GetBuffer(source, &piece.view, PyBUF_SIMPLE)
    piece.held = True
    piece.data = <const uint8_t*> piece.view.buf
    piece.size = piece.view.len
    return 0


cdef void drop(Piece* piece) noexcept:
    if piece.held:
        PyBuffer_Release(&piece.view)
        piece.held = False


cdef inline Py_ssize_t coded_size(Py_ssize_t size) noexcept nogil:
    """Bytes of a length and what it counts."""
    return varint_size(size) + (size if size > 0 else 0)


cdef inline uint8_t* put_bytes(uint8_t* at, const uint8_t* data, Py_ssize_t size) noexcept nogil:
    at = put_varint(at, size)
    if size > 0:
        memcpy(at, data, <size_t> size)
        at += size
    return at


cdef bytes encode_headers(object headers):
    """The count and the headers, coded. Not the quick path: few records have headers."""
    cdef uint8_t number[10]
    cdef bytearray out = bytearray()
    cdef Py_ssize_t count = 0
    cdef Piece piece
    cdef bytes name
    for entry in headers:
        if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], str):
            raise TypeError(f"a header is a tuple (str, bytes or None), not {entry!r}")
        name = (<str> entry[0]).encode()
        out += number[:put_varint(number, len(name)) - number]
        out += name
        take(&piece, entry[1], "header value")
        try:
            out += number[:put_varint(number, piece.size) - number]
            if piece.size > 0:
                out += piece.data[:piece.size]
        finally:
            drop(&piece)
        count += 1
    return bytes(number[:put_varint(number, count) - number]) + bytes(out)


@cython.final
cdef class BatchBuilder:
    """Collects records into the bytes that will lie on the broker's disk.

    The buffer starts with 61 bytes for the header, so that sealing an uncompressed batch moves nothing. A
    builder is used once: append until full, then `fastlog.native._engine.seal_batch`. Its bytes can be read
    through the buffer protocol (read-only); while they are, and once it is sealed, nothing can be appended.
    """

    def __cinit__(self, Py_ssize_t limit_bytes, /):
        if not HEADER_BYTES < limit_bytes <= INT_MAX:
            raise ValueError(
                f"limit_bytes is {limit_bytes}; it must be between {HEADER_BYTES + 1} and {INT_MAX}"
            )
        self.limit = limit_bytes
        self.capacity = min(limit_bytes, CAPACITY_AT_FIRST)
        self.data = <uint8_t*> malloc(<size_t> self.capacity)
        if self.data == NULL:
            raise MemoryError
        memset(self.data, 0, HEADER_BYTES)
        self.size = HEADER_BYTES
        self.base_timestamp = -1
        self.max_timestamp = -1

    def __dealloc__(self):
        free(self.data)

    def append(self, value, key=None, headers=None, int64_t timestamp_ms=-1):
        """Adds a record; False, and nothing done, if the batch would then exceed `limit_bytes`.

        The first record is always taken, whatever its size: the caller compares `size_bytes` with what the
        broker takes. `value` and `key` are bytes-like or None, which is null and differs from empty;
        `headers` is an iterable of (str, bytes-like or None), order and duplicates kept; `timestamp_ms`
        counts from the epoch, -1 is none.
        """
        return self.add(value, key, headers, timestamp_ms)

    @cython.critical_section
    cdef bint add(self, object value, object key, object headers, int64_t timestamp_ms) except -1:
        cdef Piece key_piece
        cdef Piece value_piece
        cdef bytes coded = None
        if timestamp_ms < -1:
            raise ValueError(f"timestamp_ms is {timestamp_ms}; it counts from the epoch, or is -1 for none")
        if headers is not None:
            coded = encode_headers(headers)
        take(&value_piece, value, "value")
        try:
            take(&key_piece, key, "key")
        except BaseException:
            drop(&value_piece)
            raise
        try:
            return self.put(&value_piece, &key_piece, coded, timestamp_ms)
        finally:
            drop(&value_piece)
            drop(&key_piece)

    cdef bint put(self, Piece* value, Piece* key, bytes headers, int64_t timestamp_ms) except -1:
        # asked here, after all foreign code has run: the value may be this very builder
        if self.sealed or self.exports:
            raise BufferError("the batch is sealed, or its bytes are being read: nothing can be appended")
        cdef int64_t delta = 0 if self.records == 0 else timestamp_ms - self.base_timestamp
        cdef Py_ssize_t headers_size = 1 if headers is None else PyBytes_GET_SIZE(headers)
        cdef Py_ssize_t body = (
            1 + varint_size(delta) + varint_size(self.records)
            + coded_size(key.size) + coded_size(value.size) + headers_size
        )
        cdef Py_ssize_t needed = self.size + varint_size(body) + body
        if needed > self.limit:
            if self.records != 0:
                return False
            if needed > INT_MAX:
                raise ValueError(f"a record of {body} bytes is larger than a batch can be (2 GiB)")
        if needed > self.capacity:
            self.grow(needed)
        cdef uint8_t* at = put_varint(self.data + self.size, body)
        at[0] = 0
        at = put_varint(at + 1, delta)
        at = put_varint(at, self.records)
        at = put_bytes(at, key.data, key.size)
        at = put_bytes(at, value.data, value.size)
        if headers is None:
            at[0] = 0
        else:
            memcpy(at, PyBytes_AS_STRING(headers), <size_t> headers_size)
        if self.records == 0:
            self.base_timestamp = timestamp_ms
        if timestamp_ms > self.max_timestamp:
            self.max_timestamp = timestamp_ms
        self.size = needed
        self.records += 1
        return True

    cdef int grow(self, Py_ssize_t needed) except -1:
        """Makes room for `needed` bytes: double, up to the limit, so that a full batch wastes none."""
        cdef Py_ssize_t capacity = max(min(2 * self.capacity, self.limit), needed)
        cdef uint8_t* data = <uint8_t*> realloc(self.data, <size_t> capacity)
        if data == NULL:
            raise MemoryError
        self.data = data
        self.capacity = capacity
        return 0

    @cython.critical_section
    def seal_with(self, header, /):
        """Writes the 61 bytes of a header and ends the batch; for `seal_batch`, which computed them."""
        cdef Piece piece
        if self.exports:
            raise BufferError("the batch's bytes are being read: it cannot be sealed")
        take(&piece, header, "batch header")
        try:
            if piece.size != HEADER_BYTES:
                raise ValueError(f"a batch header has {HEADER_BYTES} bytes, not {piece.size}")
            memcpy(self.data, piece.data, HEADER_BYTES)
        finally:
            drop(&piece)
        self.sealed = True

    @property
    def count(self):
        """Records so far."""
        return self.records

    @property
    def size_bytes(self):
        """Size of the batch if it is sealed uncompressed, header included."""
        return self.size

    @property
    def limit_bytes(self):
        """The size that only a first record may exceed."""
        return self.limit

    @property
    def base_timestamp_ms(self):
        """Timestamp of the first record, -1 without one."""
        return self.base_timestamp

    @property
    def max_timestamp_ms(self):
        """Largest timestamp so far, -1 without one."""
        return self.max_timestamp

    @property
    def is_sealed(self):
        """Whether a header was written: the bytes are a batch and change no more."""
        return self.sealed

    def __len__(self):
        return self.records

    @cython.critical_section
    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a batch's bytes are read-only")
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)
        self.exports += 1

    @cython.critical_section
    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1


cdef uint32_t hash_murmur2(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    """MurmurHash2 as org.apache.kafka.common.utils.Utils has it: seed 0x9747b28c, little-endian words."""
    cdef uint32_t multiplier = 0x5bd1e995
    cdef uint32_t state = <uint32_t> 0x9747b28c ^ <uint32_t> size
    cdef uint32_t word
    while size >= 4:
        word = data[0] | <uint32_t> data[1] << 8 | <uint32_t> data[2] << 16 | <uint32_t> data[3] << 24
        word *= multiplier
        word ^= word >> 24
        word *= multiplier
        state = (state * multiplier) ^ word
        data += 4
        size -= 4
    if size >= 3:
        state ^= <uint32_t> data[2] << 16
    if size >= 2:
        state ^= <uint32_t> data[1] << 8
    if size >= 1:
        state = (state ^ data[0]) * multiplier
    state ^= state >> 13
    state *= multiplier
    return state ^ (state >> 15)


cdef uint32_t hash_of(object key) except? 0:
    cdef Piece piece
    take(&piece, key, "key")
    if piece.size < 0:
        raise TypeError("a null key has no hash: the partitioner chooses freely")
    try:
        return hash_murmur2(piece.data, piece.size)
    finally:
        drop(&piece)


def murmur2(key, /):
    """The hash of `key` that Java's clients partition by, as a signed 32-bit integer."""
    return <int32_t> hash_of(key)


def partition_for_key(key, int32_t partitions, /):
    """The partition of `key` among `partitions`, as Java's default partitioner chooses: murmur2, its sign bit
    cleared, modulo. (librdkafka's default is CRC-32 instead.)"""
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return (hash_of(key) & 0x7fffffff) % <uint32_t> partitions
