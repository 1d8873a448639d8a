//! A connection's unread bytes and the frames in them.
//!
//! An idle connection holds no memory: bytes are read into a buffer of the I/O thread, and only what is left
//! over (the begin of a frame, or frames that must wait) moves into a buffer of the connection. That one grows
//! as bytes arrive, by at most [`GROWTH_BYTES_MAX`] at a time, never by what a length prefix claims.

use fastlog_broker::{ByteBudget, BytePermit};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::os::fd::AsFd;
use std::sync::Arc;

/// How much is read at once where no frame is half there.
pub(crate) const SCRATCH_BYTES: usize = 256 << 10;
/// A large frame's buffer grows by this much at most (security.md: memory is taken as bytes arrive).
const GROWTH_BYTES_MAX: usize = 1 << 20;
const GROWTH_BYTES_MIN: usize = 64 << 10;
const PREFIX_BYTES: usize = 4;

/// The next thing in a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A whole frame without its prefix.
    Frame(&'a [u8]),
    /// More bytes are needed.
    Partial,
    /// The length prefix is negative or above the limit: nothing after it can be trusted.
    Bad(i32),
}

/// Splits the first frame off `bytes`.
pub(crate) fn next_frame(bytes: &[u8], frame_bytes_max: usize) -> Next<'_> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Next::Partial };
    let claimed = i32::from_be_bytes(*prefix);
    match usize::try_from(claimed) {
        Ok(length) if length <= frame_bytes_max => match rest.get(..length) {
            Some(frame) => Next::Frame(frame),
            None => Next::Partial,
        },
        _ => Next::Bad(claimed),
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes came.
    Some(usize),
    /// The socket has none now.
    Blocked,
    /// The peer sends no more, or the connection is broken.
    End,
}

/// Reads once into the spare room of `buffer`.
pub(crate) fn read_into(socket: impl AsFd, buffer: &mut Vec<u8>) -> Read {
    loop {
        return match rustix::io::read(&socket, spare_capacity(buffer)) {
            Ok(0) => Read::End,
            Ok(count) => Read::Some(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Read::Blocked,
            Err(_) => Read::End,
        };
    }
}

/// Looks at what `buffer` has room for, and leaves it in the socket.
pub(crate) fn peek_into(socket: impl AsFd, buffer: &mut Vec<u8>) -> Read {
    loop {
        return match recv(&socket, spare_capacity(buffer), RecvFlags::PEEK) {
            Ok((0, _)) => Read::End,
            Ok((count, _)) => Read::Some(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Read::Blocked,
            Err(_) => Read::End,
        };
    }
}

/// Reads `bytes` again that were looked at.
pub(crate) fn read_again(socket: impl AsFd, mut bytes: &mut [u8]) -> Read {
    let wanted = bytes.len();
    while !bytes.is_empty() {
        match rustix::io::read(&socket, &mut *bytes) {
            Ok(0) => return Read::End,
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => return Read::End,
        }
    }
    Read::Some(wanted)
}

/// The bytes that a connection has read and not yet handed in.
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    /// Bytes at the front that are handed in already.
    consumed: usize,
    permit: BytePermit,
}

impl ReadBuffer {
    pub(crate) fn new(budget: &Arc<ByteBudget>) -> Self {
        Self { bytes: Vec::new(), consumed: 0, permit: budget.charge(0) }
    }

    /// The unread bytes.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.consumed..).unwrap_or_default()
    }

    /// Whether nothing is unread.
    pub(crate) fn is_empty(&self) -> bool {
        self.unread().is_empty()
    }

    /// Takes the bytes out, so that frames in them can be handed in while the connection changes. Where the
    /// unread ones begin is told; give them back with what was used.
    pub(crate) fn lend(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), self.consumed)
    }

    /// Takes lent bytes back, of which `count` more are handed in.
    pub(crate) fn give_back(&mut self, bytes: Vec<u8>, count: usize) {
        self.bytes = bytes;
        self.consume(count);
    }

    /// Marks `count` bytes as handed in. The memory stays for the next frame until [`ReadBuffer::release`].
    fn consume(&mut self, count: usize) {
        self.consumed += count;
        if self.consumed >= self.bytes.len() {
            self.bytes.clear();
            self.consumed = 0;
        }
    }

    /// Gives the memory back when nothing is unread.
    pub(crate) fn release(&mut self) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            self.bytes = Vec::new();
            self.consumed = 0;
            self.permit.set(0);
        }
    }

    /// Whether a read should go straight into this buffer rather than through the I/O thread's.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.is_empty() || self.bytes.capacity() >= SCRATCH_BYTES
    }

    /// Keeps bytes that were read elsewhere. The buffer is empty before.
    pub(crate) fn keep(&mut self, bytes: &[u8], frame_bytes_max: usize) {
        self.bytes.extend_from_slice(bytes);
        self.make_room(frame_bytes_max);
    }

    /// Reads once, after making room for more of the frame that is half there.
    pub(crate) fn read(&mut self, socket: impl AsFd, frame_bytes_max: usize) -> Read {
        self.make_room(frame_bytes_max);
        read_into(socket, &mut self.bytes)
    }

    fn make_room(&mut self, frame_bytes_max: usize) {
        if self.consumed > 0 {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
        }
        let missing = missing_bytes(&self.bytes, frame_bytes_max);
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < missing.min(GROWTH_BYTES_MIN) {
            // at most as much again as has arrived: what is claimed costs nothing
            let growth = self.bytes.len().clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX);
            self.bytes.reserve_exact(missing.min(growth));
        }
        self.permit.set(self.bytes.capacity());
    }
}

/// How many bytes the first frame lacks; a guess of one page while its length is unknown.
fn missing_bytes(bytes: &[u8], frame_bytes_max: usize) -> usize {
    match bytes.first_chunk::<PREFIX_BYTES>().map(|prefix| usize::try_from(i32::from_be_bytes(*prefix))) {
        Some(Ok(length)) if length <= frame_bytes_max => {
            (PREFIX_BYTES + length).saturating_sub(bytes.len()).max(1)
        }
        _ => 4096,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn frames_are_split_at_their_prefix() {
        assert_eq!(next_frame(&[0, 0, 0], 10), Next::Partial);
        assert_eq!(next_frame(&[0, 0, 0, 2, 7], 10), Next::Partial);
        assert_eq!(next_frame(&[0, 0, 0, 2, 7, 8, 9], 10), Next::Frame(&[7, 8]));
        assert_eq!(next_frame(&[0, 0, 0, 0], 10), Next::Frame(&[]));
    }

    #[test]
    fn a_prefix_beyond_the_limit_or_below_zero_is_bad() {
        assert_eq!(next_frame(&11i32.to_be_bytes(), 10), Next::Bad(11));
        assert_eq!(next_frame(&(-1i32).to_be_bytes(), 10), Next::Bad(-1));
    }

    #[test]
    fn memory_follows_what_arrived_not_what_is_claimed() {
        let budget = ByteBudget::new(usize::MAX);
        let mut buffer = ReadBuffer::new(&budget);
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(&100_000_000i32.to_be_bytes()).unwrap();
        let chunk = vec![1u8; 32 << 10];
        let mut arrived = 0;
        for _ in 0..256 {
            while arrived < buffer.unread().len() + 1 {
                far.write_all(&chunk).unwrap();
                arrived += chunk.len();
            }
            assert!(matches!(buffer.read(&near, 1 << 30), Read::Some(_)));
            let got = buffer.unread().len();
            assert!(budget.used_bytes() <= got + got.clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX));
        }
        assert!(buffer.unread().len() > 4 << 20);
        buffer.consume(buffer.unread().len());
        buffer.release();
        assert_eq!(budget.used_bytes(), 0);
    }
}
