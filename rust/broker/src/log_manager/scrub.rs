//! The scrub of all logs, and the mending of what it or anybody else found.

use super::LogManager;
use crate::events::Level;
use crate::partition::Partition;
use crate::scrubber::ScrubSettings;
use fastlog_log::{DamagedRange, LogError};
use std::sync::Arc;
use uuid::Uuid;

impl LogManager {
    /// Looks at what is doubted, and checks the segment of what was found bad; where there is none, the next one of the
    /// pass that is under way or due. False when there is nothing more to check. Errors are of the pass alone: those of a
    /// doubt are told, and it is tried again. One thread calls it, as often as a doubt is to be looked at.
    pub fn scrub_next(&self, settings: &ScrubSettings, now_ms: i64) -> Result<bool, LogError> {
        if self.scrubber.judge_doubts(&self.broker, settings) {
            return Ok(true);
        }
        self.scrubber.scrub_next(&self.broker, self.directories()?.first()?, settings, now_ms)
    }

    /// Stops the scrub for good; returns without waiting for it.
    pub fn stop_scrub(&self) {
        self.scrubber.stop();
    }

    /// How often damage was found since the start; when it grew, [`LogManager::damaged`] has more to say. Cheap.
    pub fn damages_found(&self) -> Result<u64, LogError> {
        Ok(self.directories()?.all().iter().map(|it| it.storage().damages_found()).sum())
    }

    /// The damaged ranges of all logs that another replica could mend. A log that cannot be looked at is told of.
    pub fn damaged(&self) -> Vec<(Arc<Partition>, DamagedRange)> {
        let mut found = Vec::new();
        for partition in self.broker.partitions().all() {
            match partition.log().damaged_ranges() {
                Ok(ranges) => found.extend(ranges.into_iter().map(|range| (partition.clone(), range))),
                Err(error) => self.tell_of(&partition, Level::Error, "damage could not be looked at", &error),
            }
        }
        found
    }

    /// Puts records that another replica sent in the place of damaged ones; see [`fastlog_log::Log::mend`].
    pub fn mend(
        &self,
        topic: &str,
        topic_id: Uuid,
        index: i32,
        offset: i64,
        records: &[u8],
        now_ms: i64,
    ) -> Result<(), LogError> {
        let partition = self.replica_of(topic, topic_id, index)?;
        partition.log().mend(offset, records, now_ms)?;
        // who waits there may have been told of nothing
        partition.notify();
        Ok(())
    }

    /// Has the segment that has the offset checked soon, by the thread of the scrub, since somebody who read there says that
    /// it is bad. False where too many others wait for that. Damage is told.
    pub fn verify(&self, topic: &str, topic_id: Uuid, index: i32, offset: i64) -> Result<bool, LogError> {
        let partition = self.replica_of(topic, topic_id, index)?;
        Ok(self.broker.doubts.note(&partition, offset, true))
    }

    fn replica_of(&self, topic: &str, topic_id: Uuid, index: i32) -> Result<Arc<Partition>, LogError> {
        let partition = self.open_replica(topic, index)?;
        if partition.topic_id() == topic_id {
            return Ok(partition);
        }
        let (path, found) = (partition.log().directory(), partition.topic_id());
        Err(LogError::InconsistentTopicId { path, found, expected: topic_id })
    }

    fn tell_of(&self, partition: &Partition, level: Level, message: &'static str, error: &LogError) {
        let fields = vec![
            ("topic", partition.topic().to_string()),
            ("partition", partition.index().to_string()),
            ("reason", error.to_string()),
        ];
        self.broker.events().push(level, message, fields);
    }
}
