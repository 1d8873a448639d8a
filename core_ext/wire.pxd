# How records lie in a batch: variable-length integers and the fields of one record. Inline C, no objects;
# every read is checked against the end that the caller gives, so no claim in the bytes leads outside them.

from libc.limits cimport INT_MAX
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

cdef enum:
    HEADER_BYTES = 61
    LOG_OVERHEAD = 12
    # length, attributes, time delta, offset delta, key length, value length, header count: a byte each
    RECORD_BYTES_MIN = 7


cdef inline int varint_size(int64_t value) noexcept nogil:
    """Bytes of `value`, zigzag-coded; the same for 32 and 64 bits."""
    cdef uint64_t rest = (<uint64_t> value << 1) ^ <uint64_t> (value >> 63)
    cdef int size = 1
    while rest >= 0x80:
        rest >>= 7
        size += 1
    return size


cdef inline uint8_t* put_varint(uint8_t* at, int64_t value) noexcept nogil:
    """Writes `value`, zigzag-coded; the address after it. The caller has made room (ten bytes at most)."""
    cdef uint64_t rest = (<uint64_t> value << 1) ^ <uint64_t> (value >> 63)
    while rest >= 0x80:
        at[0] = <uint8_t> (rest | 0x80)
        rest >>= 7
        at += 1
    at[0] = <uint8_t> rest
    return at + 1


cdef inline const uint8_t* get_varlong(const uint8_t* at, const uint8_t* end, int64_t* out) noexcept nogil:
    """Reads a zigzag-coded 64-bit integer; the address after it, NULL where it is cut short or too long."""
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while at < end and shift < 64:
        byte = at[0]
        at += 1
        value |= <uint64_t> (byte & 0x7f) << shift
        if byte < 0x80:
            if shift == 63 and byte > 1:
                return NULL
            out[0] = <int64_t> (value >> 1) ^ -<int64_t> (value & 1)
            return at
        shift += 7
    return NULL


cdef inline const uint8_t* get_varint(const uint8_t* at, const uint8_t* end, int32_t* out) noexcept nogil:
    """Reads a zigzag-coded 32-bit integer; the address after it, NULL where it is cut short or too long."""
    cdef uint32_t value
    cdef int shift = 0
    cdef uint8_t byte
    if at < end and at[0] < 0x80:
        value = at[0]
        out[0] = <int32_t> (value >> 1) ^ -<int32_t> (value & 1)
        return at + 1
    value = 0
    while at < end and shift < 35:
        byte = at[0]
        at += 1
        value |= <uint32_t> (byte & 0x7f) << shift
        if byte < 0x80:
            if shift == 28 and byte > 0x0f:
                return NULL
            out[0] = <int32_t> (value >> 1) ^ -<int32_t> (value & 1)
            return at
        shift += 7
    return NULL


cdef inline const uint8_t* get_bytes(const uint8_t* at, const uint8_t* end, int32_t* size) noexcept nogil:
    """Reads a length (-1 is null) and checks that its bytes are there; the address of the bytes, or NULL."""
    at = get_varint(at, end, size)
    if at == NULL or size[0] < -1 or <int64_t> size[0] > end - at:
        return NULL
    return at


# The fields of a record; all addresses lie in the batch. A size of -1 is null.
cdef struct RawRecord:
    int64_t timestamp_delta
    int32_t offset_delta
    int32_t key_size
    int32_t value_size
    const uint8_t* key
    const uint8_t* value
    # the header count, the headers, and where the record ends
    const uint8_t* headers
    const uint8_t* end


cdef inline const uint8_t* read_record(const uint8_t* at, const uint8_t* end, RawRecord* out) noexcept nogil:
    """Reads a record up to its headers, which are left for whoever asks for them; the address after the
    record, NULL where it is malformed."""
    cdef int32_t length
    at = get_varint(at, end, &length)
    # the attributes' byte is passed over: Kafka has no use for it yet
    if at == NULL or length < 1 or <int64_t> length > end - at:
        return NULL
    end = at + length
    at = get_varlong(at + 1, end, &out.timestamp_delta)
    if at == NULL:
        return NULL
    at = get_varint(at, end, &out.offset_delta)
    if at == NULL:
        return NULL
    at = get_bytes(at, end, &out.key_size)
    if at == NULL:
        return NULL
    out.key = at
    if out.key_size > 0:
        at += out.key_size
    at = get_bytes(at, end, &out.value_size)
    if at == NULL:
        return NULL
    out.value = at
    if out.value_size > 0:
        at += out.value_size
    # a count of 0 must be the last byte; other counts are checked when the headers are read
    if at >= end or (at[0] == 0 and at + 1 != end):
        return NULL
    out.headers = at
    out.end = end
    return end


# Where a batch grows: malloc'ed bytes, and what its next record depends on.
cdef struct Space:
    uint8_t* data
    Py_ssize_t size
    Py_ssize_t capacity
    # only a first record may go beyond it
    Py_ssize_t limit
    int32_t records
    int64_t base_timestamp
    int64_t max_timestamp


# Bytes of a key, a value or coded headers. A size of -1 is null.
cdef struct Item:
    const uint8_t* data
    Py_ssize_t size


cdef enum Put:
    PUT_DONE
    PUT_FULL
    PUT_TOO_LARGE
    PUT_NO_MEMORY


cdef inline uint8_t* put_item(uint8_t* at, Item item) noexcept nogil:
    at = put_varint(at, item.size)
    if item.size > 0:
        memcpy(at, item.data, <size_t> item.size)
        at += item.size
    return at


cdef inline Put put_record(
    Space* space, Item value, Item key, Item headers, int64_t timestamp_ms
) noexcept nogil:
    """Adds a record, or does nothing and says why. `headers` is their count and they, coded; never null."""
    cdef int64_t delta = 0 if space.records == 0 else timestamp_ms - space.base_timestamp
    cdef Py_ssize_t body = (
        1 + varint_size(delta) + varint_size(space.records) + varint_size(key.size) + varint_size(value.size)
        + (key.size if key.size > 0 else 0) + (value.size if value.size > 0 else 0) + headers.size
    )
    cdef Py_ssize_t needed = space.size + varint_size(body) + body
    cdef Py_ssize_t capacity
    cdef uint8_t* at
    if needed > space.limit:
        if space.records != 0:
            return PUT_FULL
        if needed > INT_MAX:
            return PUT_TOO_LARGE
    if needed > space.capacity:
        # double, up to the limit, so that a full batch wastes none
        capacity = max(min(2 * space.capacity, space.limit), needed)
        at = <uint8_t*> realloc(space.data, <size_t> capacity)
        if at == NULL:
            return PUT_NO_MEMORY
        space.data = at
        space.capacity = capacity
    at = put_varint(space.data + space.size, body)
    at[0] = 0
    at = put_varint(at + 1, delta)
    at = put_varint(at, space.records)
    at = put_item(at, key)
    at = put_item(at, value)
    memcpy(at, headers.data, <size_t> headers.size)
    if space.records == 0:
        space.base_timestamp = timestamp_ms
    if timestamp_ms > space.max_timestamp:
        space.max_timestamp = timestamp_ms
    space.size = needed
    space.records += 1
    return PUT_DONE


cdef inline uint32_t read_u32(const uint8_t* at) noexcept nogil:
    """Four bytes, big-endian."""
    return <uint32_t> at[0] << 24 | <uint32_t> at[1] << 16 | <uint32_t> at[2] << 8 | at[3]


cdef inline int16_t read_i16(const uint8_t* at) noexcept nogil:
    """Two bytes, big-endian."""
    return <int16_t> (<uint32_t> at[0] << 8 | at[1])


cdef inline int32_t read_i32(const uint8_t* at) noexcept nogil:
    """Four bytes, big-endian."""
    return <int32_t> read_u32(at)


cdef inline int64_t read_i64(const uint8_t* at) noexcept nogil:
    """Eight bytes, big-endian."""
    return <int64_t> (<uint64_t> read_u32(at) << 32 | read_u32(at + 4))


cdef inline uint8_t* put_u16(uint8_t* at, uint32_t value) noexcept nogil:
    """Two bytes, big-endian; the address after them."""
    at[0] = <uint8_t> (value >> 8)
    at[1] = <uint8_t> value
    return at + 2


cdef inline uint8_t* put_u32(uint8_t* at, uint32_t value) noexcept nogil:
    """Four bytes, big-endian; the address after them."""
    return put_u16(put_u16(at, value >> 16), value & 0xffff)


cdef inline uint8_t* put_u64(uint8_t* at, uint64_t value) noexcept nogil:
    """Eight bytes, big-endian; the address after them."""
    return put_u32(put_u32(at, <uint32_t> (value >> 32)), <uint32_t> value)


cdef inline uint8_t* put_uvarint(uint8_t* at, uint32_t value) noexcept nogil:
    """Writes `value` as Kafka's unsigned integers of variable length; five bytes at most."""
    while value >= 0x80:
        at[0] = <uint8_t> (value | 0x80)
        value >>= 7
        at += 1
    at[0] = <uint8_t> value
    return at + 1


cdef inline const uint8_t* get_uvarint(const uint8_t* at, const uint8_t* end, uint32_t* out) noexcept nogil:
    """Reads an unsigned integer of up to four bytes; the address after it, NULL where it is cut short or longer."""
    cdef uint32_t value = 0
    cdef int shift = 0
    while at < end and shift < 28:
        value |= <uint32_t> (at[0] & 0x7f) << shift
        if at[0] < 0x80:
            out[0] = value
            return at + 1
        at += 1
        shift += 7
    return NULL
