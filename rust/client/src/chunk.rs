//! What one fetch brought for one partition.

use std::collections::VecDeque;

/// Where a partition's log stands, as a broker last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// the first offset that is not committed
    pub high_watermark: i64,
    /// the first offset of the oldest open transaction, at most the high watermark; −1 if unknown
    pub last_stable_offset: i64,
    /// the first readable offset; −1 if unknown
    pub log_start_offset: i64,
}

/// One record batch, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// the batch from its base offset on; its records section is decompressed if `open` says so
    pub bytes: Vec<u8>,
    /// whether the CRC was checked and the records are decompressed
    pub open: bool,
    /// the batch's first offset
    pub base_offset: i64,
    /// the position after it, also past whatever follows that an application never sees
    pub next_offset: i64,
}

/// A batch that cannot be given to an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupt {
    /// the first offset of the batch
    pub offset: i64,
    /// what is wrong with it
    pub reason: String,
}

/// The batches of one partition from one response, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    /// the caller's number for the partition
    pub slot: u64,
    /// the slot's generation when the fetch was sent
    pub generation: u64,
    /// the offset asked for; the first batch may begin before it
    pub fetch_offset: i64,
    /// the batches with records to deliver
    pub batches: VecDeque<Batch>,
    /// the position after all of them
    pub next_offset: i64,
    /// the leader epoch of the last one, or of what followed it that an application never sees; −1 if there was none
    pub leader_epoch: i32,
    /// the batch at `next_offset` is not readable; nothing after it was taken
    pub corrupt: Option<Corrupt>,
    /// the log as of this response
    pub watermarks: Watermarks,
    /// the memory that the batches hold
    pub size_bytes: usize,
}

impl Chunk {
    /// Ends the chunk before a batch that turned out to be unreadable.
    pub fn fail(&mut self, offset: i64, reason: &dyn std::fmt::Display) {
        self.batches.clear();
        self.next_offset = offset;
        self.corrupt = Some(Corrupt { offset, reason: reason.to_string() });
    }
}
