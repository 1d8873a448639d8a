//! The replicas of a data directory in a cluster: their roles, and what followers do to their logs.

use super::{LogManager, OpenPartition, PutAway, at_once};
use crate::events::Level;
use crate::partition::{Assignment, ChangeError, Fetched, Partition, PartitionSettings, Replication};
use fastlog_log::{Checkpoint, Log, LogError};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::read_response_header;
use fastlog_protocol::messages::fetch::{FetchResponse, PartitionData};
use fastlog_protocol::primitives::{ProtocolError, Reader};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// What a replica here is to become.
#[derive(Clone, Debug)]
pub struct ReplicaChange {
    /// The partition, opened or made where it is not open; its leader epoch is that of `to`.
    pub partition: OpenPartition,
    /// Who has it.
    pub to: Assignment,
}

/// The partitions of a fetch: by topic id and number, the leader epoch and the offset that it named.
pub type FetchedFrom = HashMap<(Uuid, i32), (i32, i64)>;

/// What became of a partition of a fetch's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchResult {
    /// Appended, whatever there was: the log's end now.
    Appended(i64),
    /// Nothing was appended: the leader's log parts from this one by that epoch and its end there.
    Diverging(i32, i64),
    /// The leader's error, or one of the append; for a person.
    Failed(ErrorCode, String),
}

/// The answer of a fetch, as it came from a leader.
pub struct FetchAnswer<'a> {
    response: FetchResponse<'a>,
}

impl<'a> FetchAnswer<'a> {
    /// Reads one, header and body. An error when it does not parse, or is one for the whole fetch.
    pub fn parse(answer: &'a [u8], version: i16) -> Result<Self, ChangeError> {
        let response = parse(answer, version).map_err(|error| {
            refuse(ErrorCode::CORRUPT_MESSAGE, format!("a Fetch answer does not parse: {error}"))
        })?;
        if response.error_code != ErrorCode::NONE.0 {
            let code = ErrorCode(response.error_code);
            return Err(refuse(code, format!("the leader refused the fetch with {code:?}")));
        }
        Ok(Self { response })
    }

    /// The partitions that it names, by topic id and number.
    pub fn keys(&self) -> impl Iterator<Item = (Uuid, i32)> {
        self.partitions().map(|(key, _)| key)
    }

    fn partitions(&self) -> impl Iterator<Item = ((Uuid, i32), &PartitionData<'a>)> {
        let topics = self.response.responses.iter();
        topics.flat_map(|topic| topic.partitions.iter().map(|it| ((topic.topic_id, it.partition_index), it)))
    }
}

impl LogManager {
    /// Makes partitions here leaders or followers, opening or making their logs. All are tried; a result each. Blocks.
    pub fn change_replicas(&self, changes: &[ReplicaChange], now_ms: i64) -> Vec<Result<(), ChangeError>> {
        let results = Mutex::new(vec![Ok(()); changes.len()]);
        let numbered: Vec<_> = changes.iter().enumerate().collect();
        let _all_tried = at_once(&numbered, self.threads(), |(number, change)| {
            if let Err(error) = self.change_replica(change, now_ms)
                && let Some(place) = results.lock().get_mut(*number)
            {
                *place = Err(error);
            }
            Ok(())
        });
        results.into_inner()
    }

    fn change_replica(&self, change: &ReplicaChange, now_ms: i64) -> Result<(), ChangeError> {
        let wanted = &change.partition;
        if let Some(open) = self.broker.partitions().get(&wanted.topic, wanted.index) {
            if open.topic_id() == wanted.topic_id {
                return open.change(&change.to);
            }
            let message = format!(
                "{}-{} is open with topic id {}, not {}: that topic was deleted, which is to be told first",
                wanted.topic,
                wanted.index,
                open.topic_id(),
                wanted.topic_id
            );
            return Err(ChangeError { code: ErrorCode::INCONSISTENT_TOPIC_ID, message });
        }
        let (log, tier) = self.open_log(wanted, now_ms)?;
        let settings = PartitionSettings {
            topic: wanted.topic.clone(),
            topic_id: wanted.topic_id,
            index: wanted.index,
            leader_epoch: change.to.leader_epoch,
            replication: Replication::single(self.broker.config.node_id, wanted.min_insync_replicas),
        };
        self.broker.add_replica(settings, log, tier, &change.to)?;
        self.found.lock().remove(&(wanted.topic.to_string(), wanted.index));
        Ok(())
    }

    /// Puts replicas of a topic id away: (partition, leader epoch), each unless it is of a later epoch here (KIP-570). Their
    /// directories are renamed, open or not; one that was not opened in this run has no epoch to compare. Answers how
    /// many there were. `is_deleted`: with the topic, so that an object store is to forget it too. Blocks.
    pub fn delete_replicas(
        &self,
        topic: &str,
        topic_id: Uuid,
        wanted: &[(i32, i32)],
        is_deleted: bool,
        now_ms: i64,
    ) -> Result<usize, LogError> {
        if is_deleted {
            self.note_if_left(&*self.directories()?, &[topic_id])?;
        }
        let mut put_away = PutAway::default();
        let tried = self.put_away(topic, topic_id, wanted, is_deleted, now_ms, &mut put_away);
        let count = put_away.take_count();
        // also what there is when one of them failed: who asks again does not find it
        let settled = self.settle(put_away);
        tried.and(settled).map(|()| count)
    }

    fn put_away(
        &self,
        topic: &str,
        topic_id: Uuid,
        wanted: &[(i32, i32)],
        is_deleted: bool,
        now_ms: i64,
        put_away: &mut PutAway,
    ) -> Result<(), LogError> {
        for &(index, leader_epoch) in wanted {
            let open = self.broker.partitions().get(topic, index).filter(|it| it.topic_id() == topic_id);
            if is_deleted && open.is_some_and(|it| self.is_left(&it) && it.put_away(leader_epoch)) {
                self.broker.leave_partition(topic, index);
                continue;
            }
            if is_deleted {
                self.mark_open(topic, topic_id, index)?;
            }
            if let Some(gone) = self.broker.delete_replica(topic, topic_id, index, leader_epoch)? {
                self.doom(&gone, now_ms);
                self.cleaner.forget_partition(topic, index);
                put_away.add(topic, index, &gone.log().directory());
            }
        }
        let is_meant = |index| wanted.iter().any(|it| it.0 == index);
        self.delete_unopened(topic, topic_id, is_meant, is_deleted, put_away)?;
        if is_deleted {
            self.forget_wanted_of(&[topic_id]);
        } else {
            self.forget_wanted_replicas(topic_id, |replica| put_away.has(replica));
        }
        Ok(())
    }

    /// Takes in a leader's answer: what `asked` names of it. Batches are stored as they are, their CRCs checked.
    pub fn append_fetched(
        &self,
        answer: &FetchAnswer<'_>,
        asked: &FetchedFrom,
        now_ms: i64,
    ) -> Vec<(Uuid, i32, FetchResult)> {
        let each = answer.partitions().filter_map(|(key, data)| {
            let &(leader_epoch, fetch_offset) = asked.get(&key)?;
            Some((key.0, key.1, self.take(key, leader_epoch, fetch_offset, data, now_ms)))
        });
        each.collect()
    }

    fn take(
        &self,
        key: (Uuid, i32),
        leader_epoch: i32,
        fetch_offset: i64,
        data: &PartitionData<'_>,
        now_ms: i64,
    ) -> FetchResult {
        let code = ErrorCode(data.error_code);
        if code != ErrorCode::NONE {
            return FetchResult::Failed(code, format!("the leader answered {code:?}"));
        }
        if data.diverging_epoch.end_offset >= 0 {
            return FetchResult::Diverging(data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
        }
        let mut fetched = Fetched {
            leader_epoch,
            fetch_offset,
            high_watermark: data.high_watermark,
            log_start_offset: data.log_start_offset,
            records: data.records.unwrap_or_default(),
        };
        let appended = self.replica(key).and_then(|it| {
            if let Some(base) = it.begins_within(&fetched) {
                let restarted = self.restart_at(it.topic(), it.index(), leader_epoch, base, now_ms);
                restarted.map_err(|error| refuse(error.code(), error.to_string()))?;
                fetched.fetch_offset = base;
            }
            it.append_fetched(fetched, now_ms).map_err(|error| refuse(error.code, error.message))
        });
        match appended {
            Ok(end) => FetchResult::Appended(end),
            Err(error) => FetchResult::Failed(error.code, error.message),
        }
    }

    fn replica(&self, (topic_id, index): (Uuid, i32)) -> Result<Arc<Partition>, ChangeError> {
        let partitions = self.broker.partitions();
        let open = partitions.name(topic_id).and_then(|topic| partitions.get(&topic, index));
        open.filter(|it| it.topic_id() == topic_id).ok_or_else(|| {
            refuse(
                ErrorCode::UNKNOWN_TOPIC_ID,
                format!("partition {index} of topic {topic_id} is not open here"),
            )
        })
    }

    /// Drops what a follower has from `offset` on, durably; true when there was any. Refused when it does not follow a
    /// leader of that epoch. What it took for committed goes only with an error in the log lines.
    pub fn truncate(
        &self,
        topic: &str,
        index: i32,
        leader_epoch: i32,
        offset: i64,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let partition = self.open_replica(topic, index)?;
        let high_watermark = partition.log().high_watermark();
        let log = partition.log();
        // an append may come to finish the cut, and does not see to it
        self.lower_cleaner_checkpoint(log, log.end_of_cut(offset)?.min(offset))?;
        let is_cut = partition.truncate(leader_epoch, offset, now_ms, || self.checkpoint_ends(log))?;
        if offset < high_watermark {
            let fields = vec![
                ("topic", topic.to_owned()),
                ("partition", index.to_string()),
                ("offset", offset.to_string()),
                ("high_watermark", high_watermark.to_string()),
            ];
            let message = "a follower dropped records that were committed: its leader does not have them";
            self.broker.events().push(Level::Error, message, fields);
        }
        Ok(is_cut)
    }

    /// Has a follower start anew, empty, at its leader's log start.
    pub fn restart_at(
        &self,
        topic: &str,
        index: i32,
        leader_epoch: i32,
        offset: i64,
        now_ms: i64,
    ) -> Result<(), LogError> {
        let partition = self.open_replica(topic, index)?;
        self.lower_cleaner_checkpoint(partition.log(), offset)?;
        partition.restart_at(leader_epoch, offset, now_ms, || self.checkpoint_ends(partition.log()))
    }

    /// Before the cut, so that a crash between the two only has the cleaner look at more (Kafka: maybeTruncateCheckpoint).
    pub(super) fn lower_cleaner_checkpoint(&self, log: &Log, offset: i64) -> Result<(), LogError> {
        if self.cleaner.is_cut(log.topic(), log.partition(), offset) {
            self.write_checkpoint_of_log(log, Checkpoint::Cleaner)?;
        }
        Ok(())
    }

    pub(super) fn checkpoint_ends(&self, log: &Log) -> Result<(), LogError> {
        self.write_checkpoint_of_log(log, Checkpoint::RecoveryPoint)?;
        self.write_checkpoint_of_log(log, Checkpoint::LogStart)
    }

    pub(super) fn open_replica(&self, topic: &str, index: i32) -> Result<Arc<Partition>, LogError> {
        let path = || self.path.join(fastlog_log::file_name::of_partition(topic, index));
        let open = self.broker.partitions().get(topic, index);
        open.ok_or_else(|| LogError::Gone { path: path(), state: "deleted" })
    }
}

fn parse(answer: &[u8], version: i16) -> Result<FetchResponse<'_>, ProtocolError> {
    let mut reader = Reader::new(answer);
    read_response_header(&mut reader, api_key::FETCH, version)?;
    FetchResponse::decode(&mut reader, version)
}

fn refuse(code: ErrorCode, message: String) -> ChangeError {
    ChangeError { code, message }
}
