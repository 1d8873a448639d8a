//! Answers that are to leave as bytes in memory (ZeroMQ's): what of them is on the disk only is brought by its threads, so that
//! the thread which everybody's requests come through does not wait for it.

use super::DiskThreads;
use crate::request::response::{FileRange, Response, Segment};
use fastlog_sys::page_cache::is_in_memory;
use std::sync::Arc;

/// Read at once.
const PIECE_BYTES: usize = 256 << 10;

impl DiskThreads {
    /// Hands the response to `then`, by this thread if all of it is in memory, else by a disk's, when it is; whoever reads it then
    /// does not wait for a disk, as a rule. What a disk cannot read is for that reader to find out. `then` is dropped where
    /// there is no such thread.
    pub fn bring(self: &Arc<Self>, response: Response, then: impl FnOnce(Response) + Send + 'static) {
        self.bring_from(0, response, then);
    }

    /// The same; what lies before that segment was brought.
    fn bring_from(
        self: &Arc<Self>,
        first: usize,
        response: Response,
        then: impl FnOnce(Response) + Send + 'static,
    ) {
        let mut each = response.segments().iter().enumerate().skip(first);
        let missing = each.find_map(|(place, segment)| Some((place, device_if_missing(segment)?)));
        let Some((place, device)) = missing else { return then(response) };
        let disks = self.clone();
        let job = move || {
            if let Some(Segment::File(range)) = response.segments().get(place) {
                read(range);
            }
            disks.bring_from(place + 1, response, then);
        };
        // dropped with the answer where the broker is stopped
        let _refused = self.ask(device, Box::new(job));
    }
}

impl Response {
    /// Whether all of it can be read without waiting for a disk.
    pub fn is_in_memory(&self) -> bool {
        self.segments().iter().all(|segment| device_if_missing(segment).is_none())
    }
}

/// The device that has to be read from; None where all of it is in memory.
fn device_if_missing(segment: &Segment) -> Option<u64> {
    let Segment::File(range) = segment else { return None };
    let descriptor = range.file.descriptor()?;
    let is_there = is_in_memory(descriptor, range.position, range.length as u64);
    if is_there { None } else { fastlog_sys::file::device(descriptor).ok() }
}

fn read(range: &FileRange) {
    let mut piece = vec![0; PIECE_BYTES.min(range.length)];
    let mut done = 0;
    while done < range.length {
        let count = piece.len().min(range.length - done);
        let bytes = piece.get_mut(..count).unwrap_or_default();
        match range.file.read_at(bytes, range.position + done as u64) {
            Ok(count) if count > 0 => done += count,
            _ => return,
        }
    }
}
