//! What the store has of one partition: the manifest in force, and its changes.
//!
//! Manifests are numbered objects that are only ever made, never replaced: of two writers of one number the store lets one
//! through, in a directory as in S3, and the other hears of it. A copy of the manifest in force lies in the partition's
//! directory, so that a start asks no store.
//!
//! Crash points of a change: objects of a segment; the manifest that names it; the copy. Only when the copy is written is
//! the change in force here, and only then may the local log delete what was uploaded. After a crash between the last two
//! the store has a later manifest than the copy: it is taken if the log here still has all that it adds. Of an upload that
//! came less far there are strays, which the first look at the store in a run removes.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use fastlog_log::{ClosedSegment, TieredRange};
use parking_lot::{Mutex, RwLock};

use crate::error::{StoreError, TierError};
use crate::manifest::{Entry, Manifest, Place};
use crate::store::{Listed, Store};
use crate::upload;

/// A larger manifest is none of ours: a million segments need less.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// What the copy is called in messages.
const COPY: &str = "the local copy of the manifest";
const MANIFEST: &str = "manifest-";
/// Manifests that are kept: that in force, and the one before for who looks for what went wrong.
const KEPT: u64 = 2;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// The broker.
    pub node_id: i32,
    /// The epoch of its leadership.
    pub leader_epoch: i32,
}

/// The local log, as far as a tier needs it.
pub struct Local<'a> {
    /// Replaces the copy of the manifest, durably.
    pub save: &'a dyn Fn(&[u8]) -> io::Result<()>,
    /// Whether the log has a segment of just those offsets and bytes.
    pub has: &'a dyn Fn(&Entry) -> bool,
}

/// What the store has of a partition.
#[derive(Debug)]
pub struct Tier {
    place: Place,
    prefix: String,
    manifest: RwLock<Arc<Manifest>>,
    /// Whether the store was looked at, and agreed, since the last failure. One change at a time.
    is_attached: Mutex<bool>,
}

impl Tier {
    /// The tier of a partition whose directory has that copy of a manifest. Asks no store.
    pub fn new(place: Place, copy: Option<&[u8]>) -> Result<Self, TierError> {
        let manifest = match copy {
            Some(bytes) => Manifest::decode(COPY, bytes)?,
            None => Manifest::empty(place.clone()),
        };
        let tier = Self::of(place, manifest);
        tier.check_place(&tier.manifest())?;
        Ok(tier)
    }

    /// The tier of a partition that is no longer there, of which only that copy is left.
    pub fn of_copy(copy: &[u8]) -> Result<Self, TierError> {
        let manifest = Manifest::decode(COPY, copy)?;
        Ok(Self::of(manifest.place.clone(), manifest))
    }

    fn of(place: Place, manifest: Manifest) -> Self {
        Self {
            prefix: format!("{}-{}/{}", place.topic, place.topic_id.simple(), place.partition),
            place,
            manifest: RwLock::new(Arc::new(manifest)),
            is_attached: Mutex::new(false),
        }
    }

    /// The manifest in force.
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest.read())
    }

    /// The offsets that the store has.
    pub fn range(&self) -> Option<TieredRange> {
        let manifest = self.manifest();
        let (start_offset, end_offset) = manifest.start_offset().zip(manifest.end_offset())?;
        Some(TieredRange { start_offset, end_offset })
    }

    /// What its keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn check_place(&self, manifest: &Manifest) -> Result<(), TierError> {
        if manifest.place == self.place {
            return Ok(());
        }
        let Place { topic, topic_id, partition } = &manifest.place;
        Err(self.conflict(format!("a manifest of {topic}-{partition}, topic id {topic_id}, was found there")))
    }

    fn conflict(&self, reason: String) -> TierError {
        TierError::Conflict { name: self.prefix.clone(), reason }
    }

    fn manifest_key(&self, version: u64) -> String {
        format!("{}/{MANIFEST}{version:020}", self.prefix)
    }

    /// Looks into the store, once in a run and after each failure: takes over a manifest that the last run did not come to
    /// note, and removes strays. Blocks.
    pub fn attach(&self, store: &dyn Store, writer: Writer, local: &Local<'_>) -> Result<(), TierError> {
        self.attach_with(&mut self.is_attached.lock(), store, writer, local)
    }

    fn attach_with(
        &self,
        is_attached: &mut bool,
        store: &dyn Store,
        writer: Writer,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        if *is_attached {
            return Ok(());
        }
        store.remove_unfinished(&self.prefix)?;
        let listed = store.list(&self.prefix)?;
        let versions = listed.iter().filter_map(|it| Some((self.version_of(&it.key)?, it)));
        let latest = versions.max_by_key(|(version, _)| *version);
        let known = self.manifest();
        match latest {
            Some((version, object)) => {
                let found = self.read_manifest(store, version, object)?;
                self.check_known(&known, &found)?;
                if found.version > known.version {
                    self.check_news(&known, &found, writer, local)?;
                    self.take(found, local)?;
                }
            }
            None if known.version > 0 => {
                return Err(self.conflict(format!(
                    "manifest {} was written to it, and there is none now: see whether fastlog.remote.store.url is still \
                     the same store, and put back what was deleted there",
                    known.version
                )));
            }
            None => {}
        }
        self.sweep(store, &listed);
        *is_attached = true;
        Ok(())
    }

    fn version_of(&self, key: &str) -> Option<u64> {
        key.strip_prefix(&self.prefix)?.strip_prefix('/')?.strip_prefix(MANIFEST)?.parse().ok()
    }

    fn read_manifest(&self, store: &dyn Store, version: u64, object: &Listed) -> Result<Manifest, TierError> {
        if object.size_bytes > MANIFEST_BYTES_MAX {
            let reason = format!("{} bytes are too many for a manifest", object.size_bytes);
            return Err(TierError::Corrupt { object: object.key.clone(), reason });
        }
        let manifest = Manifest::decode(&object.key, &store.get(&object.key, 0..object.size_bytes)?)?;
        self.check_place(&manifest)?;
        if manifest.version == version {
            return Ok(manifest);
        }
        let reason = format!("it holds manifest {}", manifest.version);
        Err(TierError::Corrupt { object: object.key.clone(), reason })
    }

    fn check_known(&self, known: &Manifest, found: &Manifest) -> Result<(), TierError> {
        if found.version < known.version || (found.version == known.version && *found != *known) {
            return Err(self.conflict(format!(
                "it has manifest {}, another than manifest {} that was written to it: it is another store, or an older \
                 copy of it",
                found.version, known.version
            )));
        }
        Ok(())
    }

    fn check_news(
        &self,
        known: &Manifest,
        found: &Manifest,
        writer: Writer,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        if found.node_id != writer.node_id {
            return Err(self.conflict(format!("broker {} wrote manifest {}", found.node_id, found.version)));
        }
        let is_known = |entry: &Entry| known.segments.contains(entry);
        match found.segments.iter().find(|entry| !is_known(entry) && !(local.has)(entry)) {
            Some(entry) => Err(self.conflict(format!(
                "manifest {} names a segment of offsets {} to {} which the log here never had: its directory was made \
                 anew, or is another's; bring the old one back, or delete the topic",
                found.version,
                entry.base_offset,
                entry.next_offset - 1
            ))),
            None => Ok(()),
        }
    }

    /// Removes what the manifest in force does not name. What cannot be removed is left to the next run.
    fn sweep(&self, store: &dyn Store, listed: &[Listed]) {
        let manifest = self.manifest();
        let named = manifest.segments.iter().flat_map(|it| upload::keys(&self.prefix, it.base_offset, it.id));
        let named: HashSet<String> = named.collect();
        let is_old = |version: u64| version + KEPT <= manifest.version;
        for object in listed {
            let is_stray = match self.version_of(&object.key) {
                Some(version) => is_old(version),
                None => !named.contains(&object.key),
            };
            if is_stray {
                self.remove(store, &object.key);
            }
        }
    }

    fn remove(&self, store: &dyn Store, key: &str) -> bool {
        let removed = store.delete(key);
        if let Err(error) = &removed {
            tracing::warn!(%error, "an object that nobody needs is left in the store, the next start tries again");
        }
        removed.is_ok()
    }

    /// Uploads a closed segment and names it in the manifest. It must begin where the last one ends. Blocks.
    pub fn add(
        &self,
        store: &dyn Store,
        writer: Writer,
        source: &ClosedSegment,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        let mut is_attached = self.is_attached.lock();
        self.attach_with(&mut is_attached, store, writer, local)?;
        let known = self.manifest();
        let is_source =
            |it: &Entry| it.base_offset == source.base_offset && it.next_offset == source.next_offset;
        if known.segments.iter().any(is_source) {
            // by a call whose answer was lost
            return Ok(());
        }
        if known.end_offset().is_some_and(|end| end != source.base_offset) {
            let end = known.end_offset().unwrap_or_default();
            return Err(self.conflict(format!(
                "a segment that begins at offset {} was to follow the one that ends at {end}",
                source.base_offset
            )));
        }
        *is_attached = false;
        let mut next = Manifest::clone(&known);
        next.segments.push(upload::upload(store, &self.prefix, source)?);
        self.commit(store, writer, next, local)?;
        *is_attached = true;
        Ok(())
    }

    /// Takes segments that end at or below the log's start out of the manifest, and removes them then. Answers how many
    /// went. Blocks.
    pub fn trim(
        &self,
        store: &dyn Store,
        writer: Writer,
        log_start_offset: i64,
        local: &Local<'_>,
    ) -> Result<usize, TierError> {
        let known = self.manifest();
        let count = known.segments.iter().take_while(|it| it.next_offset <= log_start_offset).count();
        if count == 0 {
            return Ok(0);
        }
        let mut is_attached = self.is_attached.lock();
        self.attach_with(&mut is_attached, store, writer, local)?;
        let mut next = Manifest::clone(&self.manifest());
        let count = next.segments.iter().take_while(|it| it.next_offset <= log_start_offset).count();
        let gone: Vec<_> = next.segments.drain(..count).collect();
        next.log_start_offset = log_start_offset;
        *is_attached = false;
        self.commit(store, writer, next, local)?;
        let keys = gone.iter().flat_map(|it| upload::keys(&self.prefix, it.base_offset, it.id));
        // what is left is a stray, for which the store is looked through again
        let left = keys.filter(|key| !self.remove(store, key)).count();
        *is_attached = left == 0;
        Ok(count)
    }

    /// Removes all that the store has of the partition: its topic was deleted, or is no longer tiered. Blocks; to be
    /// repeated until it succeeds.
    pub fn remove_all(&self, store: &dyn Store) -> Result<(), TierError> {
        let mut is_attached = self.is_attached.lock();
        *is_attached = false;
        store.remove_unfinished(&self.prefix)?;
        let (manifests, others): (Vec<_>, Vec<_>) =
            store.list(&self.prefix)?.into_iter().partition(|it| self.version_of(&it.key).is_some());
        for object in others.iter().chain(&manifests) {
            store.delete(&object.key)?;
        }
        *self.manifest.write() = Arc::new(Manifest::empty(self.place.clone()));
        Ok(())
    }

    fn commit(
        &self,
        store: &dyn Store,
        writer: Writer,
        next: Manifest,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        let version = next.version + 1;
        let next = Manifest { version, node_id: writer.node_id, leader_epoch: writer.leader_epoch, ..next };
        let (key, bytes) = (self.manifest_key(version), next.encode());
        match store.create(&key, bytes.clone().into()) {
            Ok(()) => {}
            // perhaps by this very call: an answer was lost, and the request sent again
            Err(StoreError::Exists { .. }) if is_same(store, &key, &bytes)? => {}
            Err(StoreError::Exists { .. }) => {
                return Err(TierError::Fenced { name: self.prefix.clone(), version });
            }
            Err(error) => return Err(error.into()),
        }
        self.take(next, local)?;
        if let Some(old) = version.checked_sub(KEPT).filter(|old| *old > 0) {
            self.remove(store, &self.manifest_key(old));
        }
        Ok(())
    }

    fn take(&self, manifest: Manifest, local: &Local<'_>) -> Result<(), TierError> {
        (local.save)(&manifest.encode())
            .map_err(|error| TierError::local("write the copy of a manifest", &error))?;
        *self.manifest.write() = Arc::new(manifest);
        Ok(())
    }
}

fn is_same(store: &dyn Store, key: &str, bytes: &[u8]) -> Result<bool, TierError> {
    let listed = store.list(key.rsplit_once('/').map_or("", |(prefix, _)| prefix))?;
    let size = listed.iter().find(|it| it.key == key).map(|it| it.size_bytes);
    Ok(size == Some(bytes.len() as u64) && *store.get(key, 0..bytes.len() as u64)? == *bytes)
}
