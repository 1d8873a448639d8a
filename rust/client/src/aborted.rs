//! Which batches belong to aborted transactions, told by the broker's list of them (semantics row 76).

use std::collections::{HashSet, VecDeque};

use fastlog_protocol::batch::{BatchHeader, HEADER_BYTES};
use fastlog_protocol::messages::fetch::AbortedTransaction;
use fastlog_protocol::primitives::{ProtocolError, Reader};

/// The type in a control record's key that ends a transaction without keeping it.
const ABORT: i16 = 0;

/// Walks along a partition's batches, in order.
#[derive(Debug)]
pub(crate) struct Aborted {
    /// (first offset, producer id) of those that begin further on
    ahead: VecDeque<(i64, i64)>,
    /// producers inside one
    open: HashSet<i64>,
}

impl Aborted {
    pub(crate) fn new(list: &[AbortedTransaction]) -> Self {
        let mut ahead: Vec<(i64, i64)> = list.iter().map(|one| (one.first_offset, one.producer_id)).collect();
        ahead.sort_unstable();
        Self { ahead: ahead.into(), open: HashSet::new() }
    }

    /// Whether the next batch is part of an aborted transaction.
    pub(crate) fn hides(&mut self, header: &BatchHeader, bytes: &[u8]) -> bool {
        if !header.attributes.is_transactional() {
            return false;
        }
        while self.ahead.front().is_some_and(|(first_offset, _)| *first_offset <= header.last_offset()) {
            self.open.extend(self.ahead.pop_front().map(|(_, producer_id)| producer_id));
        }
        if self.open.is_empty() {
            return false;
        }
        if header.attributes.is_control() {
            if control_type(bytes) == Ok(ABORT) {
                self.open.remove(&header.producer_id);
            }
            return false;
        }
        self.open.contains(&header.producer_id)
    }
}

/// The type in the key of a control batch's only record; such batches are never compressed.
fn control_type(batch: &[u8]) -> Result<i16, ProtocolError> {
    let mut r = Reader::new(batch.get(HEADER_BYTES..).unwrap_or_default());
    r.varint()?; // length
    r.i8()?; // attributes
    r.varlong()?; // timestamp delta
    r.varint()?; // offset delta
    r.varint()?; // key length
    r.i16()?; // key version
    r.i16()
}
