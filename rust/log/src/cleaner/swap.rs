//! Putting the copy of a group in the place of the originals, and what a crash in between leaves.
//!
//! Names are Kafka's: a copy's files end in `.cleaned` while it is made, in `.swap` while it takes its place.
//!
//! | step | a crash after it leaves | so the next open |
//! |---|---|---|
//! | the copy is written and synced | `.cleaned` files | removes them |
//! | indexes, then the batches, get `.swap` names; directory synced: from here on the copy counts | `.log.swap` beside all originals | completes the swap |
//! | originals get `.deleted` names | some of them | the same |
//! | the copy gets its own names, the batches last; directory synced | maybe `.log.swap` | the same |
//!
//! Completing removes every original between the copy's first and last offset, then renames the copy over the first.
//! The copy always ends with the last batch of the group, be it empty, so its last offset tells which originals it
//! replaces. A transaction index is no hint (a stale entry would hide committed records), hence a copy has one, be it
//! empty, wherever the first original has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Pass;
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{OpenMode, Storage};
use crate::partition_log::Log;
use crate::segment::Segment;
use crate::segment::scan::Step;

impl Log {
    pub(super) fn create_copy(&self, base_offset: i64, created_ms: i64) -> Result<Segment, LogError> {
        let directory = self.directory();
        remove_copy(&self.storage(), &directory, base_offset, file_name::CLEANED)?;
        Segment::create_copy(&self.storage(), &directory, base_offset, created_ms)
            .map_err(|error| self.write_failed(error))
    }

    pub(super) fn discard_copy(&self, copy: &Segment) -> Result<(), LogError> {
        copy.remove_files(&*self.storage().file_system)
    }

    /// Puts `copy` in the place of `originals`, which end where the segment at `next_base` starts.
    pub(super) fn swap_in(
        &self,
        originals: &[Arc<Segment>],
        next_base: i64,
        copy: Segment,
        pass: &Pass<'_>,
    ) -> Result<(), LogError> {
        // no flush and no retention may look for files that are renamed under it
        let _flush = self.lock_flushing();
        let is_as_it_was = !pass.is_interrupted() && self.check_cleanable().is_ok();
        if !is_as_it_was || !self.segments().has_run(originals, next_base) {
            let _ = self.discard_copy(&copy);
            return Err(pass.interrupted());
        }
        // from the first new name on nothing may be missing to go on
        let directory = match self.open_directory() {
            Ok(directory) => directory,
            Err(error) => {
                let _ = self.discard_copy(&copy);
                return Err(self.write_failed(error));
            }
        };
        let sync = || directory.sync().during("sync", self.directory());
        let copy = Arc::new(copy);
        let failed = |error| {
            self.poison(&error);
            error
        };
        rename_all(&copy, file_name::SWAP).map_err(failed)?;
        sync().map_err(failed)?;
        self.replace_in_list(originals, &copy);
        self.retire_replaced(originals, pass.now_ms)?;
        rename_all(&copy, "").map_err(failed)?;
        sync().map_err(failed)?;
        Ok(())
    }
}

/// Gives a copy's files their names with another suffix, the batches last: as long as these have the old name, that is
/// what counts.
fn rename_all(copy: &Segment, suffix: &str) -> Result<(), LogError> {
    let [log, offsets, times, transactions] = copy.files();
    let kinds = [file_name::TXN_INDEX, file_name::OFFSET_INDEX, file_name::TIME_INDEX, file_name::LOG];
    for (file, kind) in [transactions, offsets, times, log].into_iter().zip(kinds) {
        match file.rename(format!("{}{suffix}", file_name::of_offset(copy.base_offset, kind))) {
            Err(error) if kind == file_name::TXN_INDEX && error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.during("rename", file.path())?,
        }
    }
    Ok(())
}

/// The files of a copy under a suffix, by their kinds; the batches last.
fn files_of_copy(directory: &Path, base_offset: i64, suffix: &str) -> [(PathBuf, PathBuf); 4] {
    [file_name::TXN_INDEX, file_name::OFFSET_INDEX, file_name::TIME_INDEX, file_name::LOG].map(|kind| {
        let name = file_name::of_offset(base_offset, kind);
        (directory.join(format!("{name}{suffix}")), directory.join(name))
    })
}

fn remove_copy(storage: &Storage, directory: &Path, base_offset: i64, suffix: &str) -> Result<(), LogError> {
    for (path, _) in files_of_copy(directory, base_offset, suffix) {
        remove_if_there(storage, &path)?;
    }
    Ok(())
}

fn remove_if_there(storage: &Storage, path: &Path) -> Result<(), LogError> {
    match storage.file_system.remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.during("remove", path),
    }
}

/// Completes swaps that a crash interrupted, and removes copies that never came to count. `names` are those of the
/// directory's files; true = some of them changed.
pub(crate) fn complete(storage: &Storage, directory: &Path, names: &[String]) -> Result<bool, LogError> {
    let mut committed = Vec::new();
    let mut others = Vec::new();
    for name in names {
        let kind = |suffix| name.strip_suffix(suffix).and_then(file_name::parse);
        match (kind(file_name::SWAP), kind(file_name::CLEANED)) {
            (Some((base_offset, file_name::LOG)), _) => committed.push(base_offset),
            (Some((base_offset, _)), _) => others.push((base_offset, name)),
            (None, Some(_)) => others.push((-1, name)),
            (None, None) => {}
        }
    }
    for (base_offset, name) in &others {
        if !committed.contains(base_offset) {
            remove_if_there(storage, &directory.join(name))?;
        }
    }
    for base_offset in &committed {
        complete_one(storage, directory, names, *base_offset)?;
    }
    let changed = !committed.is_empty() || !others.is_empty();
    if changed {
        storage.file_system.sync_directory(directory).during("sync", directory)?;
    }
    Ok(changed)
}

fn complete_one(
    storage: &Storage,
    directory: &Path,
    names: &[String],
    base_offset: i64,
) -> Result<(), LogError> {
    let files = files_of_copy(directory, base_offset, file_name::SWAP);
    let Some((copy, _)) = files.last() else { return Ok(()) };
    let next_offset = end_of_copy(storage, copy, base_offset)?;
    let replaced: BTreeMap<_, _> = names
        .iter()
        .filter_map(|name| file_name::parse(name).map(|(offset, kind)| ((offset, kind), name)))
        .filter(|((offset, _), _)| (base_offset + 1..next_offset).contains(offset))
        .filter(|((_, kind), _)| {
            [file_name::LOG, file_name::OFFSET_INDEX, file_name::TIME_INDEX, file_name::TXN_INDEX]
                .contains(kind)
        })
        .collect();
    for name in replaced.into_values() {
        remove_if_there(storage, &directory.join(name))?;
    }
    for (from, to) in &files {
        match storage.file_system.rename(from, to) {
            // it had its name before the crash, or there was none
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.during("rename", from)?,
        }
    }
    tracing::info!(segment = %copy.display(), "completed the swap of a cleaned segment");
    Ok(())
}

/// The offset after the last batch of a copy.
fn end_of_copy(storage: &Storage, path: &Path, base_offset: i64) -> Result<i64, LogError> {
    let bad = |reason: String| {
        let reason = format!(
            "{reason}: a copy that the cleaner made is damaged; move it away, the originals are there"
        );
        LogError::BadFile { path: path.to_owned(), reason }
    };
    let handle = storage.file_system.open(path, OpenMode::Read).during("open", path)?;
    let end = handle.length().during("open", path)?;
    let mut scan = crate::segment::scan::BatchScan::new(handle, base_offset, 0, end);
    loop {
        match scan.step(i64::MAX).during("read", path)? {
            Step::Batch(_) => {}
            Step::End => return Ok(scan.offset_min()),
            Step::Bad(found) => return Err(bad(found.reason)),
        }
    }
}
