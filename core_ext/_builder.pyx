# cython: auto_pickle=False, autotestdict=False
"""Python objects -> record batches: the producer's work per record, and Java's hash of keys."""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.limits cimport INT_MAX
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from wire cimport (
    HEADER_BYTES, LOG_OVERHEAD, PUT_DONE, PUT_FULL, PUT_TOO_LARGE, Item, Put, put_record, put_u16, put_u32, put_u64,
    put_varint
)

cdef Py_ssize_t CAPACITY_AT_FIRST = 4096
# larger memory is not given back in part: that costs page faults, and there are few such batches at a time
cdef Py_ssize_t SHRINK_BYTES_MAX = 64 * 1024
# a count of zero
cdef bytes NO_HEADERS = b"\0"


cdef int take(Piece* piece, object source, str what) except -1:
    """Fills `piece` from None or a bytes-like object."""
    piece.held = False
    if PyBytes_CheckExact(source):
        piece.item.data = <const uint8_t*> PyBytes_AS_STRING(source)
        piece.item.size = PyBytes_GET_SIZE(source)
        return 0
    if source is None:
        piece.item.data = NULL
        piece.item.size = -1
        return 0
    if not PyObject_CheckBuffer(source):
        hint = "encode it" if isinstance(source, str) else "or None"
        found = type(source).__name__
        raise TypeError(f"a record's {what} is bytes, bytearray or memoryview, not {found}: {hint}")
    PyObject_GetBuffer(source, &piece.view, PyBUF_SIMPLE)
    piece.held = True
    piece.item.data = <const uint8_t*> piece.view.buf
    piece.item.size = piece.view.len
    return 0


cdef void drop(Piece* piece) noexcept:
    if piece.held:
        PyBuffer_Release(&piece.view)
        piece.held = False


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
            out += number[:put_varint(number, piece.item.size) - number]
            if piece.item.size > 0:
                out += piece.item.data[:piece.item.size]
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
        self.space.limit = limit_bytes
        self.space.capacity = min(limit_bytes, CAPACITY_AT_FIRST)
        self.space.data = <uint8_t*> malloc(<size_t> self.space.capacity)
        if self.space.data == NULL:
            raise MemoryError
        memset(self.space.data, 0, HEADER_BYTES)
        self.space.size = HEADER_BYTES
        self.space.base_timestamp = -1
        self.space.max_timestamp = -1

    def __dealloc__(self):
        free(self.space.data)

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
        cdef bytes coded = NO_HEADERS
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
            return self.put(value_piece.item, key_piece.item, coded, timestamp_ms)
        finally:
            drop(&value_piece)
            drop(&key_piece)

    cdef bint put(self, Item value, Item key, bytes headers, int64_t timestamp_ms) except -1:
        # asked here, after all foreign code has run: the value may be this very builder
        self.require_open()
        cdef Item coded
        coded.data = <const uint8_t*> PyBytes_AS_STRING(headers)
        coded.size = PyBytes_GET_SIZE(headers)
        cdef Put outcome = put_record(&self.space, value, key, coded, timestamp_ms)
        if outcome == PUT_DONE:
            return True
        if outcome == PUT_FULL:
            return False
        if outcome == PUT_TOO_LARGE:
            raise ValueError("the record is larger than a batch can be (2 GiB)")
        raise MemoryError

    cdef int require_open(self) except -1:
        if self.sealed or self.exports or self.filling:
            raise BufferError("the batch is sealed, or its bytes are being read: nothing can be appended")
        return 0

    @cython.critical_section
    def grow(self, Py_ssize_t limit_bytes, /):
        """Takes records up to `limit_bytes` from now on; a limit that is lower than the present one is refused."""
        self.require_open()
        if not self.space.limit <= limit_bytes <= INT_MAX:
            raise ValueError(
                f"limit_bytes is {limit_bytes}; it must be between the present {self.space.limit} and {INT_MAX}"
            )
        self.space.limit = limit_bytes

    cdef void shrink(self) noexcept:
        """Gives back memory that was taken for records which did not come, where that is half or more."""
        cdef uint8_t* data
        if self.space.capacity > SHRINK_BYTES_MAX or self.space.capacity < 2 * self.space.size:
            return
        data = <uint8_t*> realloc(self.space.data, <size_t> self.space.size)
        if data != NULL:
            self.space.data = data
            self.space.capacity = self.space.size

    @cython.critical_section
    cdef bint begin_filling(self) except -1:
        """Lets the caller add to `space` without the GIL, until `end_filling`."""
        self.require_open()
        self.filling = True
        return True

    cdef void end_filling(self) noexcept:
        self.filling = False

    @cython.critical_section
    cdef bint begin_seal(self, int64_t producer_id, int32_t producer_epoch, int32_t base_sequence) noexcept:
        """Writes the header of an uncompressed batch, all but its CRC; False, and nothing done, where `seal_batch` is
        to say what is wrong."""
        cdef uint8_t* at = self.space.data
        if self.sealed or self.exports or self.filling or not self.space.records or self.space.size > INT_MAX:
            return False
        self.sealed = True
        at = put_u64(at, 0)
        at = put_u32(at, <uint32_t> (self.space.size - LOG_OVERHEAD))
        # of the leader's epoch the broker knows
        at = put_u32(at, <uint32_t> -1)
        at[0] = 2
        at = put_u32(at + 1, 0)
        # no compression, the record's own time
        at = put_u16(at, 0)
        at = put_u32(at, <uint32_t> (self.space.records - 1))
        at = put_u64(at, <uint64_t> self.space.base_timestamp)
        at = put_u64(at, <uint64_t> self.space.max_timestamp)
        at = put_u64(at, <uint64_t> producer_id)
        at = put_u16(at, <uint32_t> producer_epoch)
        at = put_u32(at, <uint32_t> base_sequence)
        put_u32(at, <uint32_t> self.space.records)
        return True

    @cython.critical_section
    cdef void end_seal(self, uint32_t crc) noexcept:
        """Writes the CRC of a batch whose header is there."""
        put_u32(self.space.data + 17, crc)
        self.shrink()

    @cython.critical_section
    def seal_with(self, header, /):
        """Writes the 61 bytes of a header and ends the batch; for `seal_batch`, which computed them."""
        cdef Piece piece
        if self.exports or self.filling:
            raise BufferError("the batch's bytes are in use: it cannot be sealed")
        take(&piece, header, "batch header")
        try:
            if piece.item.size != HEADER_BYTES:
                raise ValueError(f"a batch header has {HEADER_BYTES} bytes, not {piece.item.size}")
            memcpy(self.space.data, piece.item.data, HEADER_BYTES)
        finally:
            drop(&piece)
        self.sealed = True
        self.shrink()

    @property
    def count(self):
        """Records so far."""
        return self.space.records

    @property
    def size_bytes(self):
        """Size of the batch if it is sealed uncompressed, header included."""
        return self.space.size

    @property
    def limit_bytes(self):
        """The size that only a first record may exceed."""
        return self.space.limit

    @property
    def base_timestamp_ms(self):
        """Timestamp of the first record, -1 without one."""
        return self.space.base_timestamp

    @property
    def max_timestamp_ms(self):
        """Largest timestamp so far, -1 without one."""
        return self.space.max_timestamp

    @property
    def is_sealed(self):
        """Whether a header was written: the bytes are a batch and change no more."""
        return self.sealed

    def __len__(self):
        return self.space.records

    @cython.critical_section
    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a batch's bytes are read-only")
        if self.filling:
            raise BufferError("records are being added to the batch: its bytes cannot be read yet")
        PyBuffer_FillInfo(view, self, self.space.data, self.space.size, 1, flags)
        self.exports += 1

    @cython.critical_section
    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1


cdef uint32_t hash_murmur2(Item item) noexcept nogil:
    """MurmurHash2 as org.apache.kafka.common.utils.Utils has it: seed 0x9747b28c, little-endian words."""
    cdef const uint8_t* data = item.data
    cdef Py_ssize_t size = item.size
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
    if piece.item.size < 0:
        raise TypeError("a null key has no hash: the partitioner chooses freely")
    try:
        return hash_murmur2(piece.item)
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
