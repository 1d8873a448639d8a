//! Transaction markers: the control records that end a transaction.

use std::ops::ControlFlow;

use fastlog_protocol::batch::records;

/// What a marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) is_abort: bool,
    pub(crate) coordinator_epoch: i32,
}

/// The marker in a control batch; `None` when its record is another kind of control record or does not read. The key
/// is version 2 | type 2 (0 abort, 1 commit), the value version 2 | coordinator epoch 4.
pub(crate) fn read_marker(batch: &[u8]) -> Option<Marker> {
    let mut marker = None;
    let outcome = records(batch, |record| {
        marker = parse(record.key.unwrap_or_default(), record.value.unwrap_or_default());
        ControlFlow::Break(())
    });
    outcome.ok().and(marker)
}

fn parse(key: &[u8], value: &[u8]) -> Option<Marker> {
    let (_version, rest) = key.split_first_chunk::<2>()?;
    let kind = i16::from_be_bytes(*rest.first_chunk()?);
    let (_version, rest) = value.split_first_chunk::<2>()?;
    let coordinator_epoch = i32::from_be_bytes(*rest.first_chunk()?);
    (0..=1).contains(&kind).then_some(Marker { is_abort: kind == 0, coordinator_epoch })
}
