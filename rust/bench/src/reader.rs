//! The readers at the other end: one throws away what comes, one checks each batch's CRC. Both block.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fastlog_protocol::batch::{CRC_COVERS_FROM, LOG_OVERHEAD};
use fastlog_protocol::crc::crc32c;
use rustix::net::RecvFlags;

use crate::nanoseconds;

/// A peer that says nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(30);
/// What one recv takes at most.
const RECEIVE_BYTES: usize = 1 << 20;
/// Where a batch's header has the length of what follows its first [`LOG_OVERHEAD`] bytes, and its CRC.
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// How fast a reader asks, and how long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// No request before its turn, one each so often; as fast as answers come without.
    pub every: Option<Duration>,
    /// What comes later does not count, and ends it.
    pub within: Option<Duration>,
}

/// Takes `count` frames (four bytes of length, then so many bytes) from a server and throws them away in the kernel
/// (`MSG_TRUNC`). With `requests`, request number i is sent once frame i − `ahead` is there: at most `ahead` are
/// unanswered. Without any, the server is one that sends by itself.
///
/// The bytes that came, and the time from frame to frame.
pub fn discard_frames(
    address: SocketAddr,
    count: usize,
    requests: &[Vec<u8>],
    ahead: usize,
    pace: Pace,
) -> io::Result<(u64, Vec<u64>)> {
    let mut socket = connect(address)?;
    let mut scratch = vec![0; RECEIVE_BYTES];
    let mut times = Vec::with_capacity(count);
    let (mut total, mut open) = (0, requests.iter());
    let began = Instant::now();
    let mut start = began;
    for request in open.by_ref().take(ahead) {
        socket.write_all(request)?;
    }
    for number in 0..count {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        discard(&socket, &mut scratch, length)?;
        let now = Instant::now();
        if pace.within.is_some_and(|within| now - began > within) {
            break;
        }
        if let Some(request) = open.next() {
            let due = pace.every.map(|every| began + every * u32::try_from(number + 1).unwrap_or(u32::MAX));
            std::thread::sleep(due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now)));
            socket.write_all(request)?;
        }
        total += length as u64;
        times.push(u64::try_from((now - start).as_nanos()).unwrap_or(u64::MAX));
        start = now;
    }
    Ok((total, times))
}

fn discard(socket: &TcpStream, scratch: &mut [u8], mut count: usize) -> io::Result<()> {
    while count > 0 {
        let room = scratch.get_mut(..count.min(RECEIVE_BYTES)).unwrap_or_default();
        match rustix::net::recv(socket, room, RecvFlags::TRUNC)?.1 {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            taken => count -= taken,
        }
    }
    Ok(())
}

/// Reads record batches until the server ends the connection, into memory that is used again, and checks the CRC of each.
///
/// The bytes that came, the batches, and the time of it all.
///
/// # Errors
/// `InvalidData` where a CRC is wrong or what came is no batch.
pub fn check_batches(address: SocketAddr) -> io::Result<(u64, u64, u64)> {
    let mut socket = connect(address)?;
    let mut buffer = vec![0; 2 * RECEIVE_BYTES];
    let (mut filled, mut total, mut batches) = (0, 0, 0);
    let start = Instant::now();
    loop {
        let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) else {
            return Err(invalid("a batch is larger than the buffer"));
        };
        let read = socket.read(room)?;
        if read == 0 {
            break;
        }
        filled += read;
        total += read as u64;
        let used = check_whole(buffer.get(..filled).unwrap_or_default(), &mut batches)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
    if filled > 0 {
        return Err(invalid("the last batch is cut off"));
    }
    Ok((total, batches, nanoseconds(start)))
}

/// Checks the whole batches at the start of `bytes`; how many bytes they have.
fn check_whole(bytes: &[u8], batches: &mut u64) -> io::Result<usize> {
    let mut position = 0;
    while let Some(length) = number_at(bytes, position + LENGTH_AT) {
        let Some(batch) = bytes.get(position..position + LOG_OVERHEAD + length as usize) else {
            break;
        };
        let summed =
            batch.get(CRC_COVERS_FROM..).ok_or_else(|| invalid("a batch is shorter than its header"))?;
        if number_at(batch, CRC_AT) != Some(crc32c(summed)) {
            return Err(invalid("a batch has a wrong CRC"));
        }
        position += batch.len();
        *batches += 1;
    }
    Ok(position)
}

fn number_at(bytes: &[u8], position: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(position..)?.first_chunk()?))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use fastlog_protocol::batch::Builder;
    use fastlog_protocol::compression::Compression;

    use super::*;
    use crate::file_server::FileServer;

    fn batch() -> Vec<u8> {
        let mut builder = Builder::new();
        for number in 0..100 {
            builder.append(1_700_000_000_000 + number, None, Some(&[7; 1000]));
        }
        builder.seal(Compression::None).unwrap()
    }

    fn serve(contents: &[u8], chunk_bytes: usize) -> (tempfile::TempDir, FileServer) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, contents).unwrap();
        let server = FileServer::start(&path, chunk_bytes).unwrap();
        (directory, server)
    }

    #[test]
    fn whole_batches_are_counted_again_and_again() {
        let (_directory, server) = serve(&batch().repeat(50), 65_536);
        for _ in 0..2 {
            let (bytes, batches, _) = check_batches(server.address()).unwrap();
            assert_eq!((bytes, batches), (50 * batch().len() as u64, 50));
        }
    }

    #[test]
    fn a_wrong_crc_and_a_cut_batch_are_errors() {
        let mut broken = batch();
        broken[100] ^= 1;
        let (_directory, server) = serve(&broken, 65_536);
        assert_eq!(check_batches(server.address()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (_directory, server) = serve(&batch()[..500], 65_536);
        assert_eq!(check_batches(server.address()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn frames_are_thrown_away_and_counted() {
        let frame = [&1_000_000_u32.to_be_bytes()[..], &[1; 1_000_000]].concat();
        let (_directory, server) = serve(&frame.repeat(5), 1 << 20);
        let (bytes, times) = discard_frames(server.address(), 5, &[], 0, Pace::default()).unwrap();
        assert_eq!((bytes, times.len()), (5_000_000, 5));
        // one frame more than there is
        let error = discard_frames(server.address(), 6, &[], 0, Pace::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn no_more_requests_than_allowed_are_unanswered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut requests = [0; 6];
            socket.read_exact(&mut requests[..2]).unwrap();
            // the third comes only after an answer
            assert!(socket.read(&mut requests[2..3]).is_err());
            for at in 2..6 {
                socket.write_all(&[0, 0, 0, 1, 9]).unwrap();
                if at < 4 {
                    socket.read_exact(&mut requests[at..=at]).unwrap();
                }
            }
            requests
        });
        let requests: Vec<Vec<u8>> = (1..5).map(|number| vec![number]).collect();
        assert_eq!(discard_frames(address, 4, &requests, 2, Pace::default()).unwrap().0, 4);
        assert_eq!(server.join().unwrap(), [1, 2, 3, 4, 0, 0]);
    }

    #[test]
    fn a_reader_with_a_pace_asks_in_its_time_and_counts_what_came_within_it() {
        const EVERY: Duration = Duration::from_millis(30);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0];
            let mut answered = 0;
            while socket.read(&mut request).is_ok_and(|count| count > 0) {
                if socket.write_all(&[0, 0, 0, 1, 9]).is_ok() {
                    answered += 1;
                }
            }
            answered
        });
        let requests: Vec<Vec<u8>> = (0..100).map(|number| vec![number]).collect();
        let pace = Pace { every: Some(EVERY), within: Some(10 * EVERY) };
        let (bytes, times) = discard_frames(address, 100, &requests, 1, pace).unwrap();
        assert!((1..=11).contains(&bytes), "{bytes} frames in the time of ten");
        assert_eq!(times.len() as u64, bytes);
        assert!(server.join().unwrap() <= 12);
    }
}
