//! The first look of a leader at the store: takes over the manifest that is in force there, makes it its own, and removes
//! what no manifest names.
//!
//! Why nothing is removed that somebody uploads just now. A leader in a cluster writes a manifest before it uploads
//! anything (the *claim*). The one who sweeps (1) lists, (2) claims, (3) lists once more, and removes what it saw in (1) and
//! no manifest names, only if its own claim is still the newest in (3). An upload of an earlier leader that is in (1) can
//! never be named: its manifest would need a number that is taken. One of a later leader that is in (1) comes after that
//! leader's claim, which is then in (3). Whoever is stopped between (3) and the removal removes only what was in (1).
//! Ages of objects, and so clocks, do not come into it. The same holds for a process and those that ran before it, whose
//! last requests may still be on their way: where there is something to remove, a manifest is written first.

use std::collections::HashSet;

use crate::error::TierError;
use crate::manifest::{Entry, Manifest};
use crate::store::{Listed, Store};
use crate::tier::{Local, Tier, Writer};
use crate::upload;

/// Manifests that are kept: that in force, and the one before for who looks for what went wrong.
pub(crate) const KEPT: u64 = 2;

/// Objects at most whose removal is tried again; those beyond are left to the next look.
const UNNEEDED_MAX: usize = 1_000;

impl Tier {
    /// Looks into the store, once in a leadership and after each failure, and takes over the manifest in force there, as
    /// far as it is of the log's history. Nothing may be changed in the store before. Blocks.
    ///
    /// # Errors
    /// `Deposed` where a later leader was there; `Conflict` where the store is another one, or the log.
    pub fn attach(&self, store: &dyn Store, writer: Writer, local: &Local<'_>) -> Result<(), TierError> {
        let mut attached = self.attached.lock();
        self.attach_with(&mut attached, store, writer, local)
    }

    pub(crate) fn attach_with(
        &self,
        attached: &mut Option<i32>,
        store: &dyn Store,
        writer: Writer,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        if !(local.leads)() {
            return Err(self.deposed(writer.leader_epoch.saturating_add(1), writer));
        }
        if *attached == Some(writer.leader_epoch) {
            return Ok(());
        }
        *attached = None;
        let listed = store.list(self.prefix())?;
        let known = self.whole();
        let mut next = match self.newest(&listed) {
            Some(newest) => self.read_newest(store, newest)?,
            None if known.version > 0 => return Err(self.nothing_there(known.version)),
            None => Manifest::clone(&known),
        };
        self.check_found(&known, &next, writer, local)?;
        let is_cut = writer.is_clustered && self.cut_found(&mut next, local);
        self.note_listed(&next, &listed);
        let strays = self.strays(&next, &listed);
        let is_claimed = next.leader_epoch == writer.leader_epoch && next.node_id == writer.node_id;
        let is_others = writer.is_clustered && next.version > 0 && !is_claimed;
        if is_cut || is_others || !strays.is_empty() {
            // it lists once more, and fails where there is a later one
            self.commit(store, writer, next, local)?;
            // the list has what was to be tried again
            self.unneeded.lock().clear();
            strays.iter().for_each(|key| self.remove(store, key));
        } else if next.version > known.version {
            self.take(next, local)?;
        }
        store.remove_unfinished(self.prefix())?;
        *attached = Some(writer.leader_epoch);
        Ok(())
    }

    /// Whether the manifest that was found may be gone on from.
    fn check_found(
        &self,
        known: &Manifest,
        found: &Manifest,
        writer: Writer,
        local: &Local<'_>,
    ) -> Result<(), TierError> {
        if found.version < known.version || (found.version == known.version && *found != *known) {
            return Err(self.conflict(format!(
                "it has manifest {}, another than manifest {} that was written to it: it is another store, or an older \
                 copy of it",
                found.version, known.version
            )));
        }
        if found.leader_epoch > writer.leader_epoch {
            return Err(self.deposed(found.leader_epoch, writer));
        }
        if found.version > 0 && found.leader_epoch == writer.leader_epoch && found.node_id != writer.node_id
            || !writer.is_clustered && found.version > known.version && found.node_id != writer.node_id
        {
            return Err(self.conflict(format!("broker {} wrote manifest {}", found.node_id, found.version)));
        }
        // a broker that is alone has all that its store names, or is another one. In a cluster the one who leads says what
        // the history is, and the store follows, as the other replicas do.
        let is_known = |entry: &Entry| known.segments.contains(entry);
        let is_foreign = |entry: &&Entry| !writer.is_clustered && !is_known(entry) && !(local.has)(entry);
        match found.segments.iter().find(is_foreign) {
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

    fn nothing_there(&self, version: u64) -> TierError {
        self.conflict(format!(
            "manifest {version} was written to it, and there is none now: see whether fastlog.remote.store.url is still the \
             same store, and put back what was deleted there"
        ))
    }

    pub(crate) fn deposed(&self, leader_epoch: i32, writer: Writer) -> TierError {
        TierError::Deposed { name: self.prefix().to_owned(), leader_epoch, own_epoch: writer.leader_epoch }
    }

    /// Leaves out what another history has: only an unclean election makes that.
    fn cut_found(&self, found: &mut Manifest, local: &Local<'_>) -> bool {
        let (end, had) = ((local.agreed)(found), found.end_offset());
        let is_cut = found.cut(end);
        if is_cut {
            tracing::error!(
                prefix = self.prefix(),
                from_offset = end,
                until_offset = had,
                "the object store has records that the leader's log does not have, as after an unclean election: they are \
                 not served any more, and removed"
            );
        }
        is_cut
    }

    /// What is listed, and needed by nobody once `manifest` is in force.
    fn strays(&self, manifest: &Manifest, listed: &[Listed]) -> Vec<String> {
        let keys = |it: &Entry| upload::keys(self.prefix(), it.base_offset, it.id);
        let named: HashSet<String> = manifest.segments.iter().flat_map(keys).collect();
        let is_stray = |key: &String| match self.version_of(key) {
            Some(version) => version + KEPT <= manifest.version,
            None => !named.contains(key),
        };
        listed.iter().map(|it| it.key.clone()).filter(is_stray).collect()
    }

    /// Removes an object that no manifest names any more, nor ever will again; what cannot be removed is tried again by
    /// [`Self::remove_unneeded`], and by the next look of a leader.
    pub(crate) fn remove(&self, store: &dyn Store, key: &str) {
        if let Err(error) = store.delete(key) {
            tracing::warn!(%error, "an object that nobody needs is left in the store, its removal is tried again");
            let mut unneeded = self.unneeded.lock();
            if unneeded.len() < UNNEEDED_MAX {
                unneeded.push_back(key.to_owned());
            }
        }
    }

    /// Removes what could not be removed before, until the store refuses one: that is the last to be tried the next time.
    /// Blocks.
    pub fn remove_unneeded(&self, store: &dyn Store) {
        loop {
            let Some(key) = self.unneeded.lock().pop_front() else { return };
            if store.delete(&key).is_err() {
                self.unneeded.lock().push_back(key);
                return;
            }
        }
    }
}
