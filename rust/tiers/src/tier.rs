//! What the store has of one partition: the manifest in force, as far as it is the history of the log here.
//!
//! Manifests are numbered objects that are only ever made, never replaced: of two writers of one number the store lets one
//! through, in a directory as in S3, and the other hears of it. Each tells the leader epoch of its writer. In a cluster a
//! leader writes one before it does anything else in the store: whoever led before can write none any more, so what the
//! listing shows that no manifest names is nobody's, and is removed (`docs/adr/0019-…` has the interleavings).
//!
//! A copy of the manifest lies in the partition's directory, so that a start asks no store. A log deletes only what that
//! copy names and what is of its own history, told by leader epochs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use fastlog_log::TieredRange;
use parking_lot::{Mutex, RwLock};

use crate::error::TierError;
use crate::kept::Seen;
use crate::manifest::{Entry, Manifest, Place};
use crate::store::{Listed, Store};

/// A larger manifest is none of ours: a million segments need less.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// What the copy is called in messages.
const COPY: &str = "the local copy of the manifest";
const MANIFEST: &str = "manifest-";

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// The broker.
    pub node_id: i32,
    /// The epoch of its leadership.
    pub leader_epoch: i32,
    /// Whether other brokers may have led before, and may think that they do.
    pub is_clustered: bool,
}

/// The local log, as far as a tier needs it.
pub struct Local<'a> {
    /// Replaces the copy of the manifest, durably.
    pub save: &'a dyn Fn(&[u8]) -> io::Result<()>,
    /// Whether the log has a segment of just those offsets and bytes.
    pub has: &'a dyn Fn(&Entry) -> bool,
    /// Up to which offset what a manifest names is the history of the log, as [`fastlog_log::Log::agreed_end`] tells.
    pub agreed: &'a dyn Fn(&Manifest) -> i64,
    /// Whether the broker is still the leader in that epoch, as far as it knows.
    pub leads: &'a dyn Fn() -> bool,
}

/// The manifest, as it is in the store and as far as it is this log's.
#[derive(Debug)]
struct Known {
    whole: Arc<Manifest>,
    own: Arc<Manifest>,
}

/// What the store has of a partition.
#[derive(Debug)]
pub struct Tier {
    place: Place,
    prefix: String,
    known: RwLock<Known>,
    /// The leader epoch in which the store was looked at, and agreed, since the last failure. One change at a time.
    pub(crate) attached: Mutex<Option<i32>>,
    /// What was seen of the objects that the manifest names.
    pub(crate) seen: Mutex<Seen>,
    /// Objects that nobody needs, and that the store did not remove when it was asked to.
    pub(crate) unneeded: Mutex<VecDeque<String>>,
}

impl Tier {
    /// The tier of a partition whose directory has that copy of a manifest. Asks no store.
    pub fn new(place: Place, copy: Option<&[u8]>) -> Result<Self, TierError> {
        let manifest = match copy {
            Some(bytes) => Manifest::decode(COPY, bytes)?,
            None => Manifest::empty(place.clone()),
        };
        let tier = Self::of(place, manifest);
        tier.check_place(&tier.whole())?;
        Ok(tier)
    }

    /// The tier of a partition that is no longer there, of which only that copy is left.
    pub fn of_copy(copy: &[u8]) -> Result<Self, TierError> {
        let manifest = Manifest::decode(COPY, copy)?;
        Ok(Self::of(manifest.place.clone(), manifest))
    }

    fn of(place: Place, manifest: Manifest) -> Self {
        let whole = Arc::new(manifest);
        Self {
            prefix: format!("{}-{}/{}", place.topic, place.topic_id.simple(), place.partition),
            place,
            known: RwLock::new(Known { own: Arc::clone(&whole), whole }),
            attached: Mutex::new(None),
            seen: Mutex::default(),
            unneeded: Mutex::default(),
        }
    }

    /// The manifest in force, as far as it is of this log's history: what may be read, and what may go from the disk.
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.known.read().own)
    }

    /// The manifest in force as the store has it.
    pub fn whole(&self) -> Arc<Manifest> {
        Arc::clone(&self.known.read().whole)
    }

    /// The offsets that the store has of this log.
    pub fn range(&self) -> Option<TieredRange> {
        let manifest = self.manifest();
        let (start_offset, end_offset) = manifest.start_offset().zip(manifest.end_offset())?;
        Some(TieredRange { start_offset, end_offset })
    }

    /// What its keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// From now on only what lies below offset `end` is this log's: it was cut there, or opened.
    pub fn cut(&self, end: i64) {
        let mut known = self.known.write();
        let mut own = Manifest::clone(&known.own);
        if own.cut(end) {
            known.own = Arc::new(own);
        }
    }

    /// Compares the manifest with the log once more, which has more by now, or began anew; `agreed` as in [`Local`].
    pub fn compare(&self, agreed: &dyn Fn(&Manifest) -> i64) {
        self.set(self.whole(), agreed);
    }

    /// Reads the newest manifest, where there is one that is not known yet, and keeps a copy: for followers. Answers
    /// whether there was. Blocks.
    pub fn follow(&self, store: &dyn Store, local: &Local<'_>) -> Result<bool, TierError> {
        let mut attached = self.attached.lock();
        *attached = None;
        let known = self.whole();
        let listed = store.list_after(&self.prefix, &self.manifest_key(known.version))?;
        let Some(newest) = self.newest(&listed) else { return Ok(false) };
        self.take(self.read_newest(store, newest)?, local)?;
        Ok(true)
    }

    /// Reads the manifest that was listed as the newest. It is believed only if it still is: the number may have been
    /// removed since, and taken by a former leader that does not know better.
    pub(crate) fn read_newest(
        &self,
        store: &dyn Store,
        (version, object): (u64, &Listed),
    ) -> Result<Manifest, TierError> {
        let read = self.read_manifest(store, version, object);
        self.check_newest(store, version)?;
        read
    }

    /// `Fenced` where there is a later manifest.
    pub(crate) fn check_newest(&self, store: &dyn Store, version: u64) -> Result<(), TierError> {
        let later = store.list_after(&self.prefix, &self.manifest_key(version))?;
        self.newest(&later)
            .map_or(Ok(()), |(version, _)| Err(TierError::Fenced { name: self.prefix.clone(), version }))
    }

    /// Puts a manifest in force: the copy first, by which the log may delete.
    pub(crate) fn take(&self, manifest: Manifest, local: &Local<'_>) -> Result<(), TierError> {
        (local.save)(&manifest.encode())
            .map_err(|error| TierError::local("write the copy of a manifest", &error))?;
        self.set(Arc::new(manifest), local.agreed);
        Ok(())
    }

    fn set(&self, whole: Arc<Manifest>, agreed: &dyn Fn(&Manifest) -> i64) {
        let end = agreed(&whole);
        let own = if whole.end_offset().is_some_and(|it| it > end) {
            let mut own = Manifest::clone(&whole);
            own.cut(end);
            Arc::new(own)
        } else {
            Arc::clone(&whole)
        };
        *self.known.write() = Known { whole, own };
    }

    /// The store has nothing of it any more.
    pub(crate) fn forget(&self) {
        let empty = Arc::new(Manifest::empty(self.place.clone()));
        *self.known.write() = Known { whole: Arc::clone(&empty), own: empty };
        self.unneeded.lock().clear();
    }

    pub(crate) fn check_place(&self, manifest: &Manifest) -> Result<(), TierError> {
        if manifest.place == self.place {
            return Ok(());
        }
        let Place { topic, topic_id, partition } = &manifest.place;
        Err(self.conflict(format!("a manifest of {topic}-{partition}, topic id {topic_id}, was found there")))
    }

    pub(crate) fn conflict(&self, reason: String) -> TierError {
        TierError::Conflict { name: self.prefix.clone(), reason }
    }

    pub(crate) fn manifest_key(&self, version: u64) -> String {
        format!("{}/{MANIFEST}{version:020}", self.prefix)
    }

    pub(crate) fn version_of(&self, key: &str) -> Option<u64> {
        key.strip_prefix(&self.prefix)?.strip_prefix('/')?.strip_prefix(MANIFEST)?.parse().ok()
    }

    /// The manifest of the highest number among what is listed.
    pub(crate) fn newest<'a>(&self, listed: &'a [Listed]) -> Option<(u64, &'a Listed)> {
        let versions = listed.iter().filter_map(|it| Some((self.version_of(&it.key)?, it)));
        versions.max_by_key(|(version, _)| *version)
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
}
