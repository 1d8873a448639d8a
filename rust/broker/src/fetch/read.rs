//! Reading for a fetch: which ranges of which logs, within the limits that the client set.

use super::again::SentAgain;
use super::session::{Found, Look, Told, Wanted};
use super::session_cache::FetchContext;
use crate::broker::Clock;
use crate::disk::{Disk, MayWait};
use crate::partition::{Duty, FollowerFetch, Partition, Role};
use crate::request::response::FileRange;
use crate::tiers::{Limits, PartitionTier};
use crate::waiters::Delayed;
use fastlog_log::{AbortedTxn, LogError, Slice};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{BatchHeader, HEADER_BYTES};
use fastlog_protocol::compression::Compression;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first version whose answers may hold batches compressed with zstd.
pub(super) const ZSTD_VERSION: i16 = 10;

/// The first version whose consumers may read from followers.
const FOLLOWER_FETCH_VERSION: i16 = 11;

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
    /// The first offset that is not shown to one who reads from `offset` on, or why it may not.
    pub(crate) fn bound(self, partition: &Partition, offset: i64) -> Result<i64, ErrorCode> {
        let log = partition.log();
        match self {
            Isolation::ReadUncommitted => partition.shown_end(offset),
            Isolation::ReadCommitted => Ok(log.last_stable_offset().min(partition.shown_end(offset)?)),
            Isolation::LogEnd => Ok(log.durable_end_offset()),
        }
    }
}

/// Everything that is needed to read for a fetch and to answer it, now or later.
pub(crate) struct FetchPlan {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// When it was asked.
    pub(crate) began: Instant,
    pub(crate) isolation: Isolation,
    /// The broker that fetches, if one does.
    pub(crate) replica: Option<Replica>,
    /// The number of its connection.
    pub(crate) connection_id: u64,
    /// What was sent to whom.
    pub(crate) sent: Arc<SentAgain>,
    /// The answer may wait until there is so much.
    pub(crate) min_bytes: usize,
    /// The answer has no more than this, its first batch apart.
    pub(crate) max_bytes: usize,
    pub(crate) context: FetchContext,
    /// Brokers whose replicas are nearer to the client than this broker's.
    pub(crate) nearer: Vec<i32>,
    /// What to read, in this order.
    pub(crate) wanted: Vec<Wanted>,
    /// The partitions of `wanted`, or why there is nothing to read.
    pub(crate) partitions: Vec<Result<Served, ErrorCode>>,
}

/// What a fetch that waits could be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// Less than it waits for.
    Nothing,
    /// No more than a high watermark that the client does not know, which may wait a moment for records that come one after the other.
    News,
    Enough,
}

/// A broker that fetches as a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) id: i32,
    /// Its broker epoch, -1 before version 15.
    pub(crate) epoch: i64,
}

/// A partition, and the role in which it is served; when that is another, the fetch ends.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) partition: Arc<Partition>,
    pub(crate) role: Role,
}

/// What was read of one partition.
pub(crate) struct PartitionRead {
    pub(crate) error: ErrorCode,
    pub(crate) told: Told,
    /// The epoch and end offset up to which our log and the client's agree, if they diverge.
    pub(crate) diverging: Option<(i32, i64)>,
    /// The replica that the client is to read from instead (KIP-392).
    pub(crate) preferred: Option<i32>,
    pub(crate) records: Option<FileRange>,
    /// Aborted transactions that a read-committed client has to leave out of `records`.
    pub(crate) aborted: Vec<AbortedTxn>,
    /// There is something at the offset that was asked for, shown now or later.
    pub(crate) is_unread: bool,
}

impl PartitionRead {
    fn failed(error: ErrorCode) -> Self {
        Self { error, ..Self::nothing(Told::NOTHING) }
    }

    pub(super) fn nothing(told: Told) -> Self {
        let error = ErrorCode::NONE;
        Self {
            error,
            told,
            diverging: None,
            preferred: None,
            records: None,
            aborted: Vec::new(),
            is_unread: false,
        }
    }

    /// Number of bytes of records.
    pub(crate) fn size_bytes(&self) -> usize {
        self.records.as_ref().map_or(0, |range| range.length)
    }

    /// Whether the client must hear of it at once.
    pub(crate) fn is_special(&self) -> bool {
        self.error != ErrorCode::NONE || self.diverging.is_some() || self.preferred.is_some()
    }

    pub(crate) fn found(&self) -> Found {
        let (has_records, is_special) = (self.size_bytes() > 0, self.is_special());
        Found { told: self.told, has_records, is_special, has_more: self.is_unread }
    }
}

impl FetchPlan {
    /// Reads all partitions. The first that has records gives at least one whole batch, however large. An error is a disk
    /// that has to be waited for first.
    pub(crate) fn read(&self, may_wait: &MayWait) -> Result<Vec<PartitionRead>, Disk> {
        let reads = self.look(may_wait)?;
        if self.replica.is_some() {
            for (served, read) in self.partitions.iter().zip(&reads) {
                if let Ok(served) = served {
                    served.partition.note_sent(read.size_bytes());
                }
            }
        }
        Ok(reads)
    }

    /// The same at first, when a follower also tells where it is; who waited for that is told.
    pub(crate) fn read_first(
        &self,
        may_wait: &MayWait,
        clock: &dyn Clock,
    ) -> Result<Vec<PartitionRead>, Disk> {
        if self.replica.is_none() {
            return self.read(may_wait);
        }
        let leader_ends = self.leader_ends();
        let reads = self.read(may_wait)?;
        for partition in self.note_positions(&reads, &leader_ends, clock.monotonic_ns()) {
            partition.notify();
        }
        Ok(reads)
    }

    fn look(&self, may_wait: &MayWait) -> Result<Vec<PartitionRead>, Disk> {
        let mut left = self.max_bytes;
        let mut at_least_one = true;
        let each = self.wanted.iter().zip(&self.partitions).map(|(wanted, partition)| {
            let read = match partition {
                Ok(served) => may_wait.look(served.partition.log(), || {
                    self.read_partition(served, wanted, left, at_least_one)
                })?,
                Err(error) => Err(*error),
            };
            let read = read.unwrap_or_else(PartitionRead::failed);
            if read.size_bytes() > 0 {
                at_least_one = false;
                left = left.saturating_sub(read.size_bytes());
            }
            Ok(read)
        });
        each.collect()
    }

    /// Notes what is sent to a consumer: one that comes back for it may have found it bad.
    pub(super) fn note_sent(&self, reads: &[PartitionRead]) {
        if self.replica.is_some() {
            return;
        }
        for ((wanted, served), read) in self.wanted.iter().zip(&self.partitions).zip(reads) {
            if read.size_bytes() > 0
                && let Ok(Served { partition, .. }) = served
            {
                self.sent.note(self.connection_id, partition, wanted.fetch_offset);
            }
        }
    }

    /// Whether what was read may be the answer already.
    pub(crate) fn is_enough(&self, reads: &[PartitionRead]) -> bool {
        let bytes: usize = reads.iter().map(PartitionRead::size_bytes).sum();
        (self.wanted.is_empty() && !matches!(self.context, FetchContext::Incremental { .. }))
            || bytes >= self.min_bytes
            || reads.iter().any(PartitionRead::is_special)
    }

    /// Has `waiter` told of changes: those of its session by that, without one by each partition.
    pub(crate) fn tell_changes<W: Delayed + 'static>(&self, waiter: &Arc<W>) {
        if let FetchContext::Incremental { session, .. } = &self.context {
            session.lock().signal().wait(waiter.clone());
        } else {
            for served in self.partitions.iter().flatten() {
                served.partition.waiters().add(waiter.clone());
            }
        }
    }

    /// Adds the partitions of its session that changed since it was asked.
    pub(crate) fn look_again(&mut self) {
        if let FetchContext::Incremental { epoch, session, .. } = &self.context {
            let Look { wanted, partitions } = session.lock().look_again(*epoch);
            self.wanted.extend(wanted);
            self.partitions.extend(partitions);
        }
    }

    /// Whether records are likely within that time, of which a high watermark could be told then.
    pub(crate) fn expects_records(&self, within: Duration) -> bool {
        match &self.context {
            FetchContext::Incremental { session, .. } => session.lock().expects_records(within),
            FetchContext::Sessionless | FetchContext::New => false,
        }
    }

    /// What a read would find, without reading, as far as that is in memory.
    pub(crate) fn prospect(&self, may_wait: &MayWait) -> Prospect {
        let (mut bytes, mut has_news) = (0, false);
        for (wanted, partition) in self.wanted.iter().zip(&self.partitions) {
            let Ok(Served { partition, role }) = partition else { return Prospect::Enough };
            let log = partition.log();
            let Ok(bound) = self.isolation.bound(partition, wanted.fetch_offset) else {
                return Prospect::Enough;
            };
            let is_outside =
                wanted.fetch_offset < log.log_start_offset() || wanted.fetch_offset > log.log_end_offset();
            if partition.role().duty != role.duty
                || is_outside
                || partition.check_leader_epoch(wanted.current_leader_epoch).is_err()
            {
                return Prospect::Enough;
            }
            has_news |= is_news(log.high_watermark(), wanted);
            if wanted.fetch_offset < bound && !self.is_kept_back(partition) {
                if log.is_tiered(wanted.fetch_offset) {
                    // a follower hears that it is there
                    let is_ready = |tier: Arc<PartitionTier>| tier.is_ready(wanted.fetch_offset);
                    if self.replica.is_some() || partition.tier().is_none_or(is_ready) {
                        return Prospect::Enough;
                    }
                    continue;
                }
                let available = may_wait.look(log, || log.available_bytes(wanted.fetch_offset, bound));
                // a disk's thread is to read it
                let Ok(available) = available else { return Prospect::Enough };
                // one batch is sent even above the client's limit, so anything at all counts for something
                let limit = u64::try_from(wanted.max_bytes).unwrap_or(0).max(1);
                bytes += usize::try_from(available.min(limit)).unwrap_or(usize::MAX);
                if bytes >= self.min_bytes {
                    return Prospect::Enough;
                }
            }
        }
        if has_news { Prospect::News } else { Prospect::Nothing }
    }

    fn read_partition(
        &self,
        Served { partition, role }: &Served,
        wanted: &Wanted,
        left: usize,
        at_least_one: bool,
    ) -> Result<PartitionRead, ErrorCode> {
        self.check(partition, *role, wanted)?;
        let log = partition.log();
        // the bound first: what is told afterwards is then never older than the records
        let bound = self.isolation.bound(partition, wanted.fetch_offset)?;
        let told = Told {
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
        };
        let preferred = self.preferred_replica(partition, wanted);
        if preferred.is_some() {
            return Ok(PartitionRead { preferred, ..PartitionRead::nothing(told) });
        }
        let diverging = diverging_epoch(partition, wanted)?;
        if diverging.is_some() {
            return Ok(PartitionRead { diverging, ..PartitionRead::nothing(told) });
        }
        if self.is_kept_back(partition) {
            // no change of the partition tells when that is over, so the next fetch of a session looks again
            return Ok(PartitionRead { is_unread: true, ..PartitionRead::nothing(told) });
        }
        let max_bytes = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
        let slice = match log.read(wanted.fetch_offset, max_bytes, bound, at_least_one) {
            Err(LogError::Tiered { .. }) => {
                return self.read_tiered(partition, wanted, told, &Limits { bound, max_bytes, at_least_one });
            }
            read => read.map_err(|error| error.code())?,
        };
        let aborted = match &slice {
            Some(slice) if self.isolation == Isolation::ReadCommitted => {
                log.aborted_in(slice, wanted.fetch_offset, bound).map_err(|error: LogError| error.code())?
            }
            _ => Vec::new(),
        };
        let mut records = slice.map(range_of);
        if self.version < ZSTD_VERSION
            && let Some(range) = &mut records
        {
            cut_before_zstd(range)?;
        }
        // a lease that is over keeps some of it back, and comes back without a word of the partition
        let end = if self.replica.is_some() { bound } else { bound.max(told.high_watermark) };
        let is_unread = wanted.fetch_offset < end;
        Ok(PartitionRead { records, aborted, is_unread, ..PartitionRead::nothing(told) })
    }

    /// Whether a follower that is behind has to wait for what there is: replication is throttled.
    fn is_kept_back(&self, partition: &Partition) -> bool {
        self.replica.is_some_and(|replica| partition.is_kept_from(replica.id))
    }

    /// The replica that is better to read from than this one, if it can give what is asked for.
    fn preferred_replica(&self, partition: &Partition, wanted: &Wanted) -> Option<i32> {
        if self.nearer.is_empty() {
            return None;
        }
        partition.most_caught_up(&self.nearer, wanted.fetch_offset)
    }

    /// Whether the client may be served from the partition at all, in the role in which this began.
    fn check(&self, partition: &Partition, role: Role, wanted: &Wanted) -> Result<(), ErrorCode> {
        let now = partition.role();
        if now.duty == Duty::Deleted {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        partition.check_leader_epoch(wanted.current_leader_epoch)?;
        // consumers may read from followers (KIP-392)
        let may_follow = self.replica.is_none() && self.version >= FOLLOWER_FETCH_VERSION;
        if now.duty != role.duty || (now.duty == Duty::Follower && !may_follow) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let Some(replica) = self.replica else { return Ok(()) };
        if wanted.current_leader_epoch < 0 {
            // what it has counts as a copy in this epoch only if it knows of it
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        partition.check_replica(now.leader_epoch, replica.id, replica.epoch)
    }

    /// Notes where the follower that fetches is, in those partitions where its log is in line with ours; answers those
    /// whose high watermark moved.
    fn note_positions(
        &self,
        reads: &[PartitionRead],
        leader_ends: &[i64],
        now_ns: i64,
    ) -> Vec<Arc<Partition>> {
        let Some(replica) = self.replica else { return Vec::new() };
        let each = self.wanted.iter().zip(&self.partitions).zip(reads.iter().zip(leader_ends));
        let moved = each.filter_map(|((wanted, served), (read, leader_end))| {
            let Served { partition, role } = served.as_ref().ok().filter(|_| !read.is_special())?;
            let fetch = FollowerFetch {
                replica_id: replica.id,
                broker_epoch: replica.epoch,
                fetch_offset: wanted.fetch_offset,
                log_start_offset: wanted.log_start_offset,
                leader_end_offset: *leader_end,
                now_ns,
            };
            partition.note_fetch(role.leader_epoch, fetch).then(|| partition.clone())
        });
        moved.collect()
    }

    /// Where the partitions end for followers.
    fn leader_ends(&self) -> Vec<i64> {
        let end = |served: &Served| served.partition.log().durable_end_offset();
        self.partitions.iter().map(|it| it.as_ref().map_or(-1, end)).collect()
    }
}

/// Whether a client that tells the high watermark that it knows could know a later one with what it has.
fn is_news(high_watermark: i64, wanted: &Wanted) -> bool {
    high_watermark.min(wanted.fetch_offset) > wanted.high_watermark
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
    let found = partition.log().end_offset_for_epoch(wanted.last_fetched_epoch);
    let (epoch, end_offset) = found.map_err(|error| error.code())?;
    if epoch < 0 || end_offset < 0 {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let parts = epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset;
    Ok(parts.then_some((epoch, end_offset)))
}

/// Ends the range before its first batch that is compressed with zstd, which the client cannot read; an error
/// when that is the first.
pub(super) fn cut_before_zstd(range: &mut FileRange) -> Result<(), ErrorCode> {
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
