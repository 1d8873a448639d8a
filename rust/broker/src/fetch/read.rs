//! Reading for a fetch: which ranges of which logs, within the limits that the client set.

use super::session::{Found, Told, Wanted};
use super::session_cache::FetchContext;
use crate::partition::Partition;
use crate::request::response::FileRange;
use fastlog_log::{LogError, Slice};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{BatchHeader, HEADER_BYTES};
use fastlog_protocol::compression::Compression;
use std::sync::Arc;

/// The first version whose answers may hold batches compressed with zstd.
const ZSTD_VERSION: i16 = 10;

/// Up to where a client may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Below the high watermark.
    ReadUncommitted,
    /// Below the last stable offset.
    ReadCommitted,
    /// To the end of what is durable here: followers. One that had more could keep what its leader lost.
    LogEnd,
}

impl Isolation {
    /// The first offset that is not shown.
    pub(crate) fn bound(self, partition: &Partition) -> i64 {
        let log = partition.log();
        match self {
            Isolation::ReadUncommitted => log.high_watermark(),
            Isolation::ReadCommitted => log.last_stable_offset(),
            Isolation::LogEnd => log.durable_end_offset(),
        }
    }
}

/// Everything that is needed to read for a fetch and to answer it, now or later.
pub(crate) struct FetchPlan {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) isolation: Isolation,
    pub(crate) is_follower: bool,
    /// The answer may wait until there is so much.
    pub(crate) min_bytes: usize,
    /// The answer has no more than this, its first batch apart.
    pub(crate) max_bytes: usize,
    pub(crate) context: FetchContext,
    /// What to read, in this order.
    pub(crate) wanted: Vec<Wanted>,
    /// The partitions of `wanted`, or why there is nothing to read.
    pub(crate) partitions: Vec<Result<Arc<Partition>, ErrorCode>>,
}

/// What was read of one partition.
pub(crate) struct PartitionRead {
    pub(crate) error: ErrorCode,
    pub(crate) told: Told,
    /// The epoch and end offset up to which our log and the client's agree, if they diverge.
    pub(crate) diverging: Option<(i32, i64)>,
    pub(crate) records: Option<FileRange>,
}

impl PartitionRead {
    fn failed(error: ErrorCode) -> Self {
        Self { error, told: Told::NOTHING, diverging: None, records: None }
    }

    /// Number of bytes of records.
    pub(crate) fn size_bytes(&self) -> usize {
        self.records.as_ref().map_or(0, |range| range.length)
    }

    /// Whether the client must hear of it at once.
    pub(crate) fn is_special(&self) -> bool {
        self.error != ErrorCode::NONE || self.diverging.is_some()
    }

    pub(crate) fn found(&self) -> Found {
        Found { told: self.told, has_records: self.size_bytes() > 0, is_special: self.is_special() }
    }
}

impl FetchPlan {
    /// Reads all partitions. The first that has records gives at least one whole batch, however large.
    pub(crate) fn read(&self) -> Vec<PartitionRead> {
        let mut left = self.max_bytes;
        let mut at_least_one = true;
        let each = self.wanted.iter().zip(&self.partitions).map(|(wanted, partition)| {
            let read = match partition {
                Ok(partition) => self.read_partition(partition, wanted, left, at_least_one),
                Err(error) => Err(*error),
            };
            let read = read.unwrap_or_else(PartitionRead::failed);
            if read.size_bytes() > 0 {
                at_least_one = false;
                left = left.saturating_sub(read.size_bytes());
            }
            read
        });
        each.collect()
    }

    /// Whether what was read may be the answer already.
    pub(crate) fn is_enough(&self, reads: &[PartitionRead]) -> bool {
        let bytes: usize = reads.iter().map(PartitionRead::size_bytes).sum();
        self.wanted.is_empty() || bytes >= self.min_bytes || reads.iter().any(PartitionRead::is_special)
    }

    /// Whether a read would be enough, without reading.
    pub(crate) fn would_be_enough(&self) -> bool {
        let mut bytes = 0;
        for (wanted, partition) in self.wanted.iter().zip(&self.partitions) {
            let Ok(partition) = partition else { return true };
            let log = partition.log();
            let bound = self.isolation.bound(partition);
            let is_outside =
                wanted.fetch_offset < log.log_start_offset() || wanted.fetch_offset > log.log_end_offset();
            if partition.is_deleted()
                || is_outside
                || partition.check_leader_epoch(wanted.current_leader_epoch).is_err()
            {
                return true;
            }
            if wanted.fetch_offset < bound {
                let available = log.available_bytes(wanted.fetch_offset, bound);
                // one batch is sent even above the client's limit, so anything at all counts for something
                let limit = u64::try_from(wanted.max_bytes).unwrap_or(0).max(1);
                bytes += usize::try_from(available.min(limit)).unwrap_or(usize::MAX);
                if bytes >= self.min_bytes {
                    return true;
                }
            }
        }
        false
    }

    fn read_partition(
        &self,
        partition: &Partition,
        wanted: &Wanted,
        left: usize,
        at_least_one: bool,
    ) -> Result<PartitionRead, ErrorCode> {
        if partition.is_deleted() {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        partition.check_leader_epoch(wanted.current_leader_epoch)?;
        let log = partition.log();
        // the bound first: what is told afterwards is then never older than the records
        let bound = self.isolation.bound(partition);
        let told = Told {
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
        };
        let diverging = diverging_epoch(partition, wanted)?;
        if diverging.is_some() {
            return Ok(PartitionRead { error: ErrorCode::NONE, told, diverging, records: None });
        }
        let max_bytes = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
        let slice = log
            .read(wanted.fetch_offset, max_bytes, bound, at_least_one)
            .map_err(|error: LogError| error.code())?;
        let mut records = slice.map(range_of);
        if self.version < ZSTD_VERSION
            && let Some(range) = &mut records
        {
            cut_before_zstd(range)?;
        }
        Ok(PartitionRead { error: ErrorCode::NONE, told, diverging: None, records })
    }
}

fn range_of(slice: Slice) -> FileRange {
    FileRange { file: slice.file, position: slice.position, length: slice.length }
}

/// Where the client's log and ours part, if the last epoch that it has ends earlier here than it thinks (KIP-595).
/// `OFFSET_OUT_OF_RANGE` for an epoch that is newer than all that are known here.
fn diverging_epoch(partition: &Partition, wanted: &Wanted) -> Result<Option<(i32, i64)>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let (epoch, end_offset) = partition.log().end_offset_for_epoch(wanted.last_fetched_epoch);
    if epoch < 0 || end_offset < 0 {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let parts = epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset;
    Ok(parts.then_some((epoch, end_offset)))
}

/// Ends the range before its first batch that is compressed with zstd, which the client cannot read; an error
/// when that is the first.
fn cut_before_zstd(range: &mut FileRange) -> Result<(), ErrorCode> {
    let mut good = 0;
    let mut bytes = [0u8; HEADER_BYTES];
    while good + HEADER_BYTES <= range.length {
        let got = range.file.read_at(&mut bytes, range.position + good as u64);
        if got.ok() != Some(HEADER_BYTES) {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        let header = BatchHeader::parse(&bytes).map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
        if header.attributes.compression() == Ok(Compression::Zstd) {
            range.length = good;
            break;
        }
        good += header.size_bytes();
    }
    if range.length == 0 { Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE) } else { Ok(()) }
}
