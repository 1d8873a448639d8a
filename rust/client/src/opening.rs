//! From the record bytes of a response to batches that are ready for records to be read from them.
//!
//! A partial last batch is dropped without a word: a broker may cut a response anywhere (semantics row 9). Batches
//! that an application never sees (control batches, empty ones, aborted transactions) only move the position.

use std::collections::VecDeque;

use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{self, BatchError, BatchHeader, Order};
use fastlog_protocol::compression::Compression;
use fastlog_protocol::messages::fetch::{
    EpochEndOffset, FetchResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};

use crate::aborted::Aborted;
use crate::chunk::{Batch, Chunk, Corrupt, Watermarks};
use crate::options::FetchOptions;
use crate::session::{Asked, Session};
use crate::table::{Landed, LeaderHint, PartitionFailure};

/// Opens what a response brought, partition by partition. At most `open_bytes_max` of memory go to opened batches;
/// what is beyond stays compressed until it is taken.
pub(crate) fn land(
    response: &FetchResponse<'_>,
    session: &Session,
    options: &FetchOptions,
    open_bytes_max: usize,
) -> Vec<Landed> {
    let mut landed = Vec::new();
    let mut open_bytes = open_bytes_max;
    for topic in &response.responses {
        for partition in &topic.partitions {
            // what was not asked for is not looked at
            if let Some(asked) = session.find(topic.topic, topic.topic_id, partition.partition_index) {
                landed.push(land_partition(
                    partition,
                    asked,
                    options,
                    &response.node_endpoints,
                    &mut open_bytes,
                ));
            }
        }
    }
    landed
}

fn land_partition(
    partition: &PartitionData<'_>,
    asked: &Asked,
    options: &FetchOptions,
    nodes: &[NodeEndpoint<'_>],
    open_bytes: &mut usize,
) -> Landed {
    let Asked { slot, generation, ticket, .. } = *asked;
    if let Some(failure) = failure(partition, nodes) {
        return Landed::Failed { slot, ticket, failure };
    }
    let watermarks = Watermarks {
        high_watermark: partition.high_watermark,
        last_stable_offset: partition.last_stable_offset,
        log_start_offset: partition.log_start_offset,
    };
    let mut chunk = Chunk {
        slot,
        generation,
        fetch_offset: asked.offset,
        batches: VecDeque::new(),
        next_offset: asked.offset,
        leader_epoch: -1,
        corrupt: None,
        watermarks,
        size_bytes: 0,
    };
    let aborted = partition.aborted_transactions.as_deref().filter(|_| options.read_committed);
    let mut opening =
        Opening { chunk: &mut chunk, aborted: Aborted::new(aborted.unwrap_or_default()), options };
    opening.all(partition.records.unwrap_or_default(), open_bytes);
    if chunk.batches.is_empty() && chunk.corrupt.is_none() && chunk.next_offset == asked.offset {
        return Landed::Nothing { slot, ticket, watermarks };
    }
    Landed::Data { ticket, chunk }
}

fn failure(partition: &PartitionData<'_>, nodes: &[NodeEndpoint<'_>]) -> Option<PartitionFailure> {
    let diverging = (partition.diverging_epoch != EpochEndOffset::default())
        .then_some((partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset));
    let preferred_replica = Some(partition.preferred_read_replica).filter(|replica| *replica >= 0);
    let code = ErrorCode(partition.error_code);
    let empty = partition.records.is_none_or(<[u8]>::is_empty);
    (code.0 != 0 || diverging.is_some() || (preferred_replica.is_some() && empty)).then(|| PartitionFailure {
        code,
        preferred_replica,
        diverging,
        leader: leader(partition, nodes),
    })
}

/// The leader that an answer names beside an error.
fn leader(partition: &PartitionData<'_>, nodes: &[NodeEndpoint<'_>]) -> Option<LeaderHint> {
    let LeaderIdAndEpoch { leader_id, leader_epoch } = partition.current_leader;
    if leader_id < 0 || leader_epoch < 0 {
        return None;
    }
    let node = nodes.iter().find(|it| it.node_id == leader_id);
    let endpoint = node.map(|it| (it.host.to_owned(), it.port, it.rack.map(str::to_owned)));
    Some(LeaderHint { broker_id: leader_id, leader_epoch, endpoint })
}

struct Opening<'a> {
    chunk: &'a mut Chunk,
    aborted: Aborted,
    options: &'a FetchOptions,
}

impl Opening<'_> {
    fn all(&mut self, records: &[u8], open_bytes: &mut usize) {
        let mut sent = batch::batches(records).peekable();
        let mut is_first = true;
        while let Some(batch) = sent.next() {
            let behind = sent.peek().and_then(|behind| BatchHeader::parse(behind.as_ref().ok()?).ok());
            let taken = batch
                .map_err(|error| error.to_string())
                .and_then(|batch| self.next(batch, behind.as_ref(), &mut is_first, open_bytes));
            match taken {
                Ok(Order::Follows) => {}
                Ok(_) => break,
                Err(reason) => {
                    self.chunk.corrupt = Some(Corrupt { offset: self.chunk.next_offset, reason });
                    break;
                }
            }
        }
    }

    /// Takes the next batch; `Unsure` = it is to be asked for again, as the first of an answer.
    fn next(
        &mut self,
        bytes: &[u8],
        behind: Option<&BatchHeader>,
        is_first: &mut bool,
        open_bytes: &mut usize,
    ) -> Result<Order, String> {
        let header = BatchHeader::parse(bytes).map_err(|error| error.to_string())?;
        let expected = self.chunk.next_offset;
        if *is_first && header.next_offset() <= expected && header.last_offset_delta >= 0 {
            // a broker may begin with a batch that ends before the offset asked for; what is behind then holds it
            let holds = behind.is_none_or(|behind| behind.base_offset <= expected);
            return if holds { Ok(Order::Follows) } else { Err(wrong_place(&header, expected)) };
        }
        let order = batch::offset_order(&header, expected, behind, *is_first);
        *is_first = false;
        match order {
            Order::Follows => {
                self.one(&header, bytes, open_bytes).map_err(|error| error.to_string())?;
            }
            Order::Unsure => {}
            Order::Contradicted => return Err(wrong_place(&header, expected)),
        }
        Ok(order)
    }

    fn one(&mut self, header: &BatchHeader, bytes: &[u8], open_bytes: &mut usize) -> Result<(), BatchError> {
        if self.options.check_crcs {
            batch::check_crc(bytes)?;
        }
        if header.last_offset_delta < 0 || header.record_count < 0 {
            return Err(BatchError::Count(header.record_count.min(header.last_offset_delta)));
        }
        let hidden = self.aborted.hides(header, bytes);
        let leader_epoch = header.partition_leader_epoch;
        if hidden || header.record_count == 0 || header.attributes.is_control() {
            self.chunk.next_offset = header.next_offset();
            self.chunk.leader_epoch = leader_epoch;
            if let Some(last) = self.chunk.batches.back_mut() {
                last.next_offset = header.next_offset();
            }
            return Ok(());
        }
        let open = *open_bytes > 0;
        let bytes = if open { open_batch(bytes)? } else { bytes.to_vec() };
        *open_bytes = open_bytes.saturating_sub(bytes.len());
        self.chunk.size_bytes += bytes.len();
        self.chunk.next_offset = header.next_offset();
        self.chunk.leader_epoch = leader_epoch;
        let (base_offset, next_offset) = (header.base_offset, header.next_offset());
        self.chunk.batches.push_back(Batch { bytes, open, base_offset, next_offset });
        Ok(())
    }
}

fn wrong_place(header: &BatchHeader, expected: i64) -> String {
    let offset = header.base_offset;
    format!(
        "it says that it begins at {offset}, which the batches beside it contradict; {expected} comes next"
    )
}

/// A copy of a whole batch with its records decompressed, under the cap of the protocol crate. The CRC is not checked.
///
/// # Errors
/// The records section is corrupt, its codec unknown, or it expands beyond the cap.
pub fn open_batch(bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    if header.attributes.compression() == Ok(Compression::None) {
        return Ok(bytes.to_vec());
    }
    let mut out = Vec::new();
    batch::open(bytes, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests;
