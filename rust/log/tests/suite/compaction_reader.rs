//! What readers get of a compacted log.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::common::*;
use fastlog_log::Log;
use fastlog_protocol::batch::{BatchHeader, batches, check_crc, records};

/// One record: key, and value or `None` for a tombstone.
pub(crate) type Entry = (u8, Option<String>);

/// Header and bytes of each batch from `from` on.
pub(crate) fn batches_from(log: &Log, from: i64) -> Vec<(BatchHeader, Vec<u8>)> {
    let mut found = Vec::new();
    let mut offset = from;
    while let Some(slice) = log.read(offset, 500, log.log_end_offset(), true).unwrap() {
        let before = offset;
        for batch in batches(&bytes_of(&slice)) {
            let Ok(batch) = batch else { break };
            check_crc(batch).unwrap();
            let header = BatchHeader::parse(batch).unwrap();
            offset = header.next_offset();
            if offset > from && offset > before {
                found.push((header, batch.to_vec()));
            }
        }
        assert!(offset > before, "no progress at {before}");
    }
    found
}

/// What a read-committed consumer sees from `from` on: it passes over control batches, and over those of a producer
/// between the start of an aborted transaction and its marker.
pub(crate) fn read_committed(log: &Log, from: i64) -> Vec<(i64, Entry)> {
    let mut aborted = log.aborted_transactions(from, log.log_end_offset()).unwrap();
    aborted.sort_by_key(|txn| txn.first_offset);
    let mut waiting = aborted.into_iter().peekable();
    let mut aborting = HashSet::new();
    let mut found = Vec::new();
    for (header, batch) in batches_from(log, from) {
        while let Some(txn) = waiting.next_if(|txn| txn.first_offset <= header.last_offset()) {
            aborting.insert(txn.producer_id);
        }
        if header.attributes.is_control() {
            records(&batch, |record| {
                if record.key == Some(&[0, 0, 0, 0]) {
                    aborting.remove(&header.producer_id);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
            continue;
        }
        if header.attributes.is_transactional() && aborting.contains(&header.producer_id) {
            continue;
        }
        records(&batch, |record| {
            let value = record.value.map(|value| String::from_utf8(value.to_vec()).unwrap());
            if record.offset >= from {
                found.push((record.offset, (record.key.unwrap()[0], value)));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
}
