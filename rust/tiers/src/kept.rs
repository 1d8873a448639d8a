//! What the store still has of what was uploaded: asked before a disk gives it up, and uploaded again where it is gone.
//!
//! Stores lose things, are restored from older copies, and are tidied up by people. So each broker asks for the sizes of both
//! objects of a segment when its own disk is to give the segment up, once in a run. Nothing of that is written down: a broker
//! that was started, and one that leads anew, has asked for nothing and keeps what it has.
//!
//! Crash points of putting back: the objects of the new upload; the manifest that names it instead of the lost one; the copy;
//! then what is left of the lost one goes. It is the order of any other change, and what dies between leaves strays.

use std::collections::{HashMap, HashSet};

use fastlog_log::ClosedSegment;
use uuid::Uuid;

use crate::error::{StoreError, TierError};
use crate::manifest::{Entry, Manifest};
use crate::store::{Listed, Store};
use crate::tier::{Local, Tier, Writer};
use crate::upload;

/// What was seen of uploaded segments, in this run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Uploads of which the store had all when a disk was to give them up.
    kept: HashSet<Uuid>,
    /// What was lost, in no particular order.
    lost: Vec<Entry>,
}

/// An object that is gone, or not of the size that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The segment that it is of.
    pub entry: Entry,
    /// The object.
    pub key: String,
    /// How many bytes it should have.
    pub size_bytes: u64,
    /// How many it has; `None` = it is gone.
    pub found: Option<u64>,
}

impl Tier {
    /// From which offset on a disk that begins at `local_start_offset` is to keep what it has: below it the store was asked
    /// for everything, and has it.
    pub fn keep_from(&self, local_start_offset: i64) -> i64 {
        let own = self.manifest();
        let seen = self.seen.lock();
        let mut end = local_start_offset;
        for entry in own.from(local_start_offset) {
            if !seen.kept.contains(&entry.id) {
                break;
            }
            end = entry.next_offset;
        }
        end
    }

    /// Asks the store for what it is said to have of `[from, until)`, in order, as far as that was not asked for. Answers the
    /// first that it lost, behind which nothing is asked for. Blocks, for two requests a segment.
    pub fn ask(&self, store: &dyn Store, from: i64, until: i64) -> Result<Option<Lost>, TierError> {
        let own = self.manifest();
        // what the disk gave up it does not ask for again
        let ids: HashSet<Uuid> = own.from(from).map(|it| it.id).collect();
        self.seen.lock().kept.retain(|it| ids.contains(it));
        for entry in own.from(from).take_while(|it| it.base_offset < until) {
            if self.seen.lock().kept.contains(&entry.id) {
                continue;
            }
            if let Some(lost) = self.ask_for(store, entry)? {
                return Ok(Some(lost));
            }
            let mut seen = self.seen.lock();
            seen.kept.insert(entry.id);
            seen.lost.retain(|it| it.id != entry.id);
        }
        Ok(None)
    }

    fn ask_for(&self, store: &dyn Store, entry: &Entry) -> Result<Option<Lost>, TierError> {
        for (key, size_bytes) in self.wanted(entry) {
            let found = match store.size(&key) {
                Ok(size_bytes) => Some(size_bytes),
                Err(StoreError::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            if found != Some(size_bytes) {
                return Ok(Some(Lost { entry: entry.clone(), key, size_bytes, found }));
            }
        }
        Ok(None)
    }

    /// Notes what was lost, and tells of it the first time, if the manifest in force still names it: a leader may have
    /// deleted it since, or uploaded it again.
    pub fn note_lost(&self, lost: Lost) {
        if !self.whole().segments.iter().any(|it| it.id == lost.entry.id) {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.lost.iter().any(|it| it.id == lost.entry.id) {
            return;
        }
        tell(&lost);
        seen.kept.remove(&lost.entry.id);
        seen.lost.push(lost.entry);
    }

    /// The segments of this log's history that were seen to be lost, in no particular order.
    pub fn lost(&self) -> Vec<Entry> {
        let own = self.manifest();
        let mut lost = self.seen.lock().lost.clone();
        // whole as they were uploaded and as they are served
        lost.retain(|it| own.segments.iter().any(|own| own == it));
        lost
    }

    /// The objects of a segment, with their bytes.
    fn wanted(&self, entry: &Entry) -> [(String, u64); 2] {
        let [log_key, indexes_key] = upload::keys(self.prefix(), entry.base_offset, entry.id);
        [(log_key, entry.log_bytes), (indexes_key, u64::from(entry.indexes_bytes))]
    }

    /// The same for all that `manifest` names, by a listing: what was lost is known anew then.
    pub(crate) fn note_listed(&self, manifest: &Manifest, listed: &[Listed]) {
        let sizes: HashMap<&str, u64> = listed.iter().map(|it| (it.key.as_str(), it.size_bytes)).collect();
        let mut lost = Vec::new();
        for entry in &manifest.segments {
            let found = self
                .wanted(entry)
                .map(|(key, size_bytes)| (sizes.get(key.as_str()).copied(), key, size_bytes));
            let short = found.into_iter().find(|(found, _, size_bytes)| *found != Some(*size_bytes));
            if let Some((found, key, size_bytes)) = short {
                tell(&Lost { entry: entry.clone(), key, size_bytes, found });
                lost.push(entry.clone());
            }
        }
        let mut seen = self.seen.lock();
        lost.iter().for_each(|it| _ = seen.kept.remove(&it.id));
        seen.lost = lost;
    }

    /// Uploads again what the store lost of `entry`: the same offsets, as one segment of the disk or several. Nothing where
    /// the manifest does not name it any more. Blocks.
    pub fn put_back(
        &self,
        store: &dyn Store,
        writer: Writer,
        (entry, sources): (&Entry, &[ClosedSegment]),
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        let mut attached = self.attached.lock();
        self.attach_with(&mut attached, store, writer, local)?;
        let mut next = Manifest::clone(&self.whole());
        let Some(place) = next.segments.iter().position(|it| it == entry) else { return Ok(()) };
        let mut end = entry.base_offset;
        for source in sources {
            if source.base_offset != end {
                return Err(
                    self.conflict(format!("a segment that begins at offset {end} was to be put back"))
                );
            }
            end = source.next_offset;
        }
        if end != entry.next_offset {
            return Err(self.conflict(format!("what is to be put back ends at offset {end}")));
        }
        *attached = None;
        let uploads = sources.iter().map(|source| upload::upload(store, self.prefix(), source));
        let entries = uploads.collect::<Result<Vec<_>, _>>()?;
        next.segments.splice(place..=place, entries);
        self.commit(store, writer, next, local)?;
        self.seen.lock().lost.retain(|it| it.id != entry.id);
        let keys = upload::keys(self.prefix(), entry.base_offset, entry.id);
        keys.iter().for_each(|key| self.remove(store, key));
        *attached = Some(writer.leader_epoch);
        tracing::warn!(
            prefix = self.prefix(),
            from_offset = entry.base_offset,
            until_offset = entry.next_offset,
            "what the store had lost was uploaded again from the disk"
        );
        Ok(())
    }
}

fn tell(lost: &Lost) {
    let Lost { key, size_bytes, found, .. } = lost;
    tracing::error!(
        key,
        size_bytes,
        found,
        "an object of the store is not of the size that was uploaded, or is gone: disks that have its records keep them, and \
         a leader whose disk has them uploads them again; otherwise put it back"
    );
}
