//! Dropping records, by every codec and with another base timestamp.

use std::ops::ControlFlow;

use super::*;

type Seen = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

fn all(batch: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    records(batch, |record| {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        seen.push((
            record.offset,
            record.timestamp,
            owned(record.key),
            owned(record.value),
            record.headers.len(),
        ));
        ControlFlow::Continue(())
    })
    .unwrap();
    seen
}

#[test]
fn what_is_kept_keeps_offset_time_and_contents() {
    for compression in ALL {
        let batch = three_records().base_offset(40).seal(compression).unwrap();
        let before = all(&batch);
        for base_timestamp in [NOW, 0, NOW + 86_400_000, i64::MAX - 1] {
            for mask in 0..8u8 {
                let mut plain = Vec::new();
                let (header, section) = section(&batch, &mut plain).unwrap();
                let (mut kept_bytes, mut index) = (Vec::new(), 0);
                let kept = filter(&header, section, base_timestamp, &mut kept_bytes, |_| {
                    index += 1;
                    mask & 1 << (index - 1) != 0
                })
                .unwrap();
                let wanted: Vec<_> =
                    (0..3).filter(|it| mask & 1 << it != 0).map(|it| before[it].clone()).collect();
                assert_eq!(kept.count as usize, wanted.len());
                assert_eq!(kept.has_tombstone, wanted.iter().any(|record| record.3.is_none()));
                assert_eq!(kept.max_timestamp, wanted.iter().map(|record| record.1).max().unwrap_or(-1));
                let header = BatchHeader { base_timestamp, record_count: kept.count, ..header };
                let mut sealed = Vec::new();
                seal(header, &kept_bytes, compression, None, &mut sealed).unwrap();
                check_crc(&sealed).unwrap();
                assert_eq!(all(&sealed), wanted);
            }
        }
    }
}

#[test]
fn a_malformed_record_is_an_error() {
    let batch = three_records().seal(Compression::None).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    let cut = &batch[HEADER_BYTES..batch.len() - 1];
    assert!(filter(&header, cut, NOW, &mut Vec::new(), |_| true).is_err());
}
