//! What a follower needs to begin where an uploaded segment ends (KIP-405, "auxiliary state").

use fastlog_log::AfterTier;
use fastlog_protocol::crc::crc32c;

use crate::error::TierError;
use crate::indexes;
use crate::store::Store;
use crate::tier::Tier;
use crate::upload;

impl Tier {
    /// Leader epochs and producers as of the end of the segment that holds the offset before `offset`, by the manifest that is
    /// known. Blocks.
    ///
    /// # Errors
    /// `Conflict` where the store does not have that offset; `Corrupt` where bytes are not what was stored.
    pub fn after(&self, store: &dyn Store, offset: i64) -> Result<AfterTier, TierError> {
        let manifest = self.whole();
        let Some(entry) = manifest.holding(offset - 1) else {
            return Err(self.conflict(format!(
                "the leader's disk begins at offset {offset}, and manifest {} does not reach there",
                manifest.version
            )));
        };
        let [_, key] = upload::keys(self.prefix(), entry.base_offset, entry.id);
        let bytes = store.get(&key, 0..u64::from(entry.indexes_bytes))?;
        let corrupt = |reason: &str| TierError::Corrupt { object: key.clone(), reason: reason.to_owned() };
        if bytes.len() != entry.indexes_bytes as usize || crc32c(&bytes) != entry.indexes_crc {
            return Err(corrupt("its checksum is not that of the manifest"));
        }
        let snapshot = indexes::snapshot(&bytes).ok_or_else(|| corrupt("its sections do not make it up"))?;
        let mut epochs = manifest.epochs();
        epochs.retain(|it| it.start_offset < entry.next_offset);
        // where the segment was cut the producers of its end are another history's
        let is_cut = entry.next_offset < entry.object_next_offset;
        Ok(AfterTier {
            offset: entry.next_offset,
            log_start_offset: manifest.log_start_offset,
            epochs,
            snapshot: if is_cut { Vec::new() } else { snapshot.to_vec() },
        })
    }
}
