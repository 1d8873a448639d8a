//! The disk thread: reads what is to be sent into the page cache, so that a consumer far behind does not stall the
//! I/O thread that serves everybody else.

use crate::mailbox::{Mail, Mailbox};
use fastlog_broker::FileRange;
use fastlog_sys::panics::vital;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

const COPY_BYTES: usize = 256 << 10;

/// A part of a file that is not in memory, and who waits for it. A connection has one at most, which bounds the
/// queue.
pub(crate) struct Cold {
    pub(crate) range: FileRange,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) key: usize,
    pub(crate) connection_id: u64,
}

/// A running disk thread; it ends when all senders of its queue are gone.
pub(crate) struct DiskThread {
    pub(crate) queue: Sender<Cold>,
    pub(crate) thread: JoinHandle<()>,
}

impl DiskThread {
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, cold) = channel();
        let thread =
            std::thread::Builder::new().name("fastlog-disk".to_owned()).spawn(vital(move || run(&cold)))?;
        Ok(Self { queue, thread })
    }
}

fn run(cold: &Receiver<Cold>) {
    let mut copy = vec![0; COPY_BYTES];
    while let Ok(Cold { range, mailbox, key, connection_id }) = cold.recv() {
        warm(&range, &mut copy);
        mailbox.post(Mail::Warm { key, connection_id });
    }
}

/// Reads the range and throws it away. What goes wrong here goes wrong again when it is sent, and is told there.
fn warm(range: &FileRange, copy: &mut [u8]) {
    let end = range.position + range.length as u64;
    // the disk may already work on what follows while this part is sent
    let _advice = range.file.read_ahead(range.position, 2 * range.length as u64);
    let mut position = range.position;
    while position < end {
        let count = copy.len().min(usize::try_from(end - position).unwrap_or(usize::MAX));
        match range.file.read_at(copy.get_mut(..count).unwrap_or_default(), position) {
            Ok(got) if got > 0 => position += got as u64,
            _ => return,
        }
    }
}
