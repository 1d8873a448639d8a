//! Snapshots as Kafka writes them, and open transactions.

use std::path::Path;

use fastlog_protocol::batch::{Attributes, BatchHeader, Builder};
use fastlog_protocol::compression::Compression;

use super::*;
use crate::file_system::RealFileSystem;

#[test]
fn a_snapshot_of_kafka_reads_and_is_written_the_same() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/kafka-4.3.1/formats-0");
    let kafkas = fixture.join("00000000000000000612.snapshot");
    let state = snapshot::read(&RealFileSystem, &kafkas).unwrap();
    assert_eq!(state.count(), 7);
    let directory = tempfile::tempdir().unwrap();
    let ours = directory.path().join("s");
    snapshot::write(&RealFileSystem, &ours, &state).unwrap();
    let (ours, kafkas) = (std::fs::read(ours).unwrap(), std::fs::read(kafkas).unwrap());
    assert_eq!(ours.len(), kafkas.len());
    // Kafka writes producers in the order of its hash map: compare them sorted, CRC aside
    let entries = |bytes: &[u8]| {
        let mut entries: Vec<_> = bytes[10..].chunks(46).map(<[u8]>::to_vec).collect();
        entries.sort();
        entries
    };
    assert_eq!(entries(&ours), entries(&kafkas));
}

#[test]
fn a_spoilt_snapshot_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut state = ProducerState::default();
    state.append(&header(7, 0, 0, 0, false), 1);
    snapshot::write(&RealFileSystem, &path, &state).unwrap();
    let good = std::fs::read(&path).unwrap();
    assert_eq!(snapshot::read(&RealFileSystem, &path).unwrap().count(), 1);
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        assert!(snapshot::read(&RealFileSystem, &path).is_err(), "byte {place}");
        std::fs::write(&path, &good[..place]).unwrap();
        assert!(snapshot::read(&RealFileSystem, &path).is_err(), "cut to {place}");
    }
}

#[test]
fn the_batches_of_a_producer_are_remembered_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut state = ProducerState::default();
    for sequence in 0..7 {
        state.append(&header(7, 1, sequence, i64::from(sequence), false), 1);
        state.append(&header(8, 0, 40 + sequence, 100 + i64::from(sequence), false), 1);
    }
    // a new epoch forgets those of the one before
    state.append(&header(8, 1, 0, 200, false), 1);
    snapshot::write(&RealFileSystem, &path, &state).unwrap();
    let read = snapshot::read(&RealFileSystem, &path).unwrap();
    assert_eq!(read.count(), 2);
    for sequence in 2..7 {
        let again = read.check(&header(7, 1, sequence, 0, false)).unwrap();
        assert!(matches!(again, Verdict::Duplicate(batch) if batch.base_offset() == i64::from(sequence)));
    }
    read.check(&header(7, 1, 1, 0, false)).unwrap_err();
    assert!(matches!(read.check(&header(8, 1, 0, 0, false)).unwrap(), Verdict::Duplicate(_)));
    assert_eq!(read.check(&header(8, 1, 1, 0, false)).unwrap(), Verdict::Append);
    assert_eq!(std::fs::metadata(path).unwrap().len(), 10 + 6 * 46);
}

fn header(producer_id: i64, epoch: i16, sequence: i32, offset: i64, transactional: bool) -> BatchHeader {
    let attributes = Attributes::default().with_transactional(transactional);
    let mut builder =
        Builder::new().producer(producer_id, epoch, sequence).base_offset(offset).attributes(attributes);
    builder.append(5, None, Some(b"v"));
    BatchHeader::parse(&builder.seal(Compression::None).unwrap()).unwrap()
}

#[test]
fn an_open_transaction_holds_back_until_its_marker_is_replicated() {
    let mut state = ProducerState::default();
    state.append(&header(7, 0, 0, 10, true), 1);
    state.append(&header(8, 0, 0, 11, true), 1);
    assert_eq!(state.first_unstable_offset(), Some(10));
    let plain = state.check(&header(7, 0, 1, 0, false)).unwrap_err();
    assert_eq!(plain.code, ErrorCode::INVALID_TXN_STATE);
    let marker = |is_abort| Marker { is_abort, coordinator_epoch: 3 };
    let aborted = state.end_transaction(&header(7, 0, -1, 12, true), marker(true), 2).unwrap();
    assert_eq!((aborted.first_offset, aborted.last_offset, aborted.last_stable_offset), (10, 12, 11));
    assert_eq!(state.end_transaction(&header(8, 0, -1, 13, true), marker(false), 2), None);
    assert_eq!(state.first_unstable_offset(), Some(10), "the markers are not replicated");
    state.high_watermark_moved(13);
    assert_eq!(state.first_unstable_offset(), Some(11));
    state.high_watermark_moved(14);
    assert_eq!(state.first_unstable_offset(), None);
    state.check(&header(7, 0, 1, 0, false)).unwrap();
}
