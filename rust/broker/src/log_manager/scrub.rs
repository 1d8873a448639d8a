//! The scrub of all logs, and the mending of what it or anybody else found.

use super::LogManager;
use crate::events::Level;
use crate::partition::Partition;
use crate::scrubber::{ScrubSettings, tell_damage};
use fastlog_log::{DamagedRange, LogError, Unpaced};
use std::sync::Arc;
use uuid::Uuid;

impl LogManager {
    /// Checks the next segment of the pass that is under way, or of one that is due; false when there is none. One thread
    /// calls it.
    pub fn scrub_next(&self, settings: &ScrubSettings, now_ms: i64) -> Result<bool, LogError> {
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

    /// Checks the segment that has the offset, since somebody who read there says that it is bad. Damage is told.
    pub fn verify(&self, topic: &str, topic_id: Uuid, index: i32, offset: i64) -> Result<(), LogError> {
        let partition = self.replica_of(topic, topic_id, index)?;
        let scrubbed = partition.log().scrub_segment_of(offset, &Unpaced)?;
        for damage in scrubbed.iter().flat_map(|it| &it.damages) {
            tell_damage(&self.broker, &partition, damage);
        }
        Ok(())
    }

    /// Looks at records that were sent to a consumer again and again, as one asks for them that finds their checksum wrong;
    /// where it is wrong the segment is checked. Damage is told. One thread calls it now and then; cheap without.
    pub fn verify_sent_again(&self) -> Result<(), LogError> {
        for (partition, offset) in self.broker.sent.take() {
            if partition.is_deleted() || partition.log().has_good_crc(offset)? {
                continue;
            }
            let fields = vec![
                ("topic", partition.topic().to_string()),
                ("partition", partition.index().to_string()),
                ("offset", offset.to_string()),
            ];
            let message = "a client fetched records again and again, and their checksum is wrong";
            self.broker.events().push(Level::Warning, message, fields);
            let scrubbed = partition.log().scrub_segment_of(offset, &Unpaced)?;
            for damage in scrubbed.iter().flat_map(|it| &it.damages) {
                tell_damage(&self.broker, &partition, damage);
            }
        }
        Ok(())
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
