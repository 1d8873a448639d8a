//! Changes of what the store has of a partition.
//!
//! Crash points of a change: objects of a segment; the manifest that names it; the copy. Only when the copy is written is
//! the change in force here, and only then may the local log delete what was uploaded. After a crash between the last two
//! the store has a later manifest than the copy: it is taken if the log here still has all that it adds. Of an upload that
//! came less far there are strays, which the next look of a leader removes.

use fastlog_log::ClosedSegment;

use crate::attach::KEPT;
use crate::error::{StoreError, TierError};
use crate::manifest::{Entry, Manifest};
use crate::store::Store;
use crate::tier::{Local, Tier, Writer};
use crate::upload;

impl Tier {
    /// Uploads a closed segment and names it in the manifest. It must begin where the last one ends. Blocks.
    pub fn add(
        &self,
        store: &dyn Store,
        writer: Writer,
        source: &ClosedSegment,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        let mut attached = self.attached.lock();
        self.attach_with(&mut attached, store, writer, local)?;
        let known = self.whole();
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
        *attached = None;
        if writer.is_clustered && known.version == 0 {
            // before anything of it is there that another leader could take for a stray
            self.commit(store, writer, Manifest::clone(&known), local)?;
        }
        let mut next = Manifest::clone(&self.whole());
        next.segments.push(upload::upload(store, self.prefix(), source)?);
        self.commit(store, writer, next, local)?;
        *attached = Some(writer.leader_epoch);
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
        let known = self.whole();
        let count = known.segments.iter().take_while(|it| it.next_offset <= log_start_offset).count();
        if count == 0 {
            return Ok(0);
        }
        let mut attached = self.attached.lock();
        self.attach_with(&mut attached, store, writer, local)?;
        let mut next = Manifest::clone(&self.whole());
        let count = next.segments.iter().take_while(|it| it.next_offset <= log_start_offset).count();
        let gone: Vec<_> = next.segments.drain(..count).collect();
        next.log_start_offset = log_start_offset;
        *attached = None;
        self.commit(store, writer, next, local)?;
        let keys = gone.iter().flat_map(|it| upload::keys(self.prefix(), it.base_offset, it.id));
        keys.for_each(|key| self.remove(store, &key));
        *attached = Some(writer.leader_epoch);
        Ok(count)
    }

    /// Removes all that the store has of the partition: its topic was deleted, or is no longer tiered. Blocks; to be
    /// repeated until it succeeds.
    pub fn remove_all(&self, store: &dyn Store) -> Result<(), TierError> {
        let mut attached = self.attached.lock();
        *attached = None;
        store.remove_unfinished(self.prefix())?;
        let (manifests, others): (Vec<_>, Vec<_>) =
            store.list(self.prefix())?.into_iter().partition(|it| self.version_of(&it.key).is_some());
        for object in others.iter().chain(&manifests) {
            store.delete(&object.key)?;
        }
        self.forget();
        Ok(())
    }

    /// Makes the next manifest. In force here once it is known that nobody wrote a later one: the number may have been
    /// written and removed again, while this broker was stopped.
    pub(crate) fn commit(
        &self,
        store: &dyn Store,
        writer: Writer,
        next: Manifest,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        if !(local.leads)() {
            return Err(self.deposed(writer.leader_epoch.saturating_add(1), writer));
        }
        let version = next.version + 1;
        let next = Manifest { version, node_id: writer.node_id, leader_epoch: writer.leader_epoch, ..next };
        let (key, bytes) = (self.manifest_key(version), next.encode());
        match store.create(&key, bytes.clone().into()) {
            Ok(()) => {}
            // perhaps by this very call: an answer was lost, and the request sent again
            Err(StoreError::Exists { .. }) if is_same(store, &key, &bytes)? => {}
            Err(StoreError::Exists { .. }) => {
                return Err(TierError::Fenced { name: self.prefix().to_owned(), version });
            }
            Err(error) => return Err(error.into()),
        }
        if let Err(error) = upload::check_kept(store, &key, bytes.len() as u64) {
            match error {
                // nobody can read it, so nobody went on from it; left there it would stop every later leader
                TierError::Corrupt { .. } => _ = store.delete(&key),
                // later leaders removed it, while this broker was stopped
                TierError::Store(StoreError::NotFound { .. }) => self.check_newest(store, version)?,
                _ => {}
            }
            return Err(error);
        }
        if writer.is_clustered {
            self.check_newest(store, version)?;
        }
        self.take(next, local)?;
        if let Some(old) = version.checked_sub(KEPT).filter(|old| *old > 0) {
            self.remove(store, &self.manifest_key(old));
        }
        Ok(())
    }
}

fn is_same(store: &dyn Store, key: &str, bytes: &[u8]) -> Result<bool, TierError> {
    let listed = store.list(key.rsplit_once('/').map_or("", |(prefix, _)| prefix))?;
    let size = listed.iter().find(|it| it.key == key).map(|it| it.size_bytes);
    Ok(size == Some(bytes.len() as u64) && *store.get(key, 0..bytes.len() as u64)? == *bytes)
}
