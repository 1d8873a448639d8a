//! `leader-epoch-checkpoint`: where each leader epoch starts in the log; followers find out by it where they diverge.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};

/// Its name in the partition's directory.
pub(crate) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// An epoch and the offset of its first record (which may not be written yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The leader epoch.
    pub epoch: i32,
    /// The first offset that its leader may write.
    pub start_offset: i64,
}

/// The epochs of one log, ascending both in epoch and in start.
#[derive(Debug)]
pub(crate) struct EpochCache {
    file_system: Arc<dyn FileSystem>,
    path: PathBuf,
    entries: Vec<EpochStart>,
    /// The file says something else than the entries.
    unsaved: bool,
    /// The file on disk may be older than the entries.
    unsynced: bool,
    /// There was no file, or one that does not read.
    incomplete: bool,
    /// Where the epochs start that the file told and no batch has confirmed yet.
    unchecked: Vec<i64>,
}

impl EpochCache {
    /// Reads the file. A missing one is empty; one that does not read is too, with a warning: what the batches tell
    /// is added by recovery.
    pub(crate) fn load(file_system: Arc<dyn FileSystem>, path: PathBuf) -> Result<Self, LogError> {
        let bytes = atomic_file::read(&*file_system, &path).during("read", &path)?;
        let entries = bytes.map_or(Some(Vec::new()), |bytes| parse(&String::from_utf8_lossy(&bytes)));
        if entries.is_none() {
            tracing::warn!(file = %path.display(), "the leader epochs do not read and are built anew");
        }
        let incomplete = entries.as_ref().is_none_or(Vec::is_empty);
        let entries = entries.unwrap_or_default();
        let unchecked = entries.iter().map(|entry| entry.start_offset).collect();
        Ok(Self { entries, incomplete, unchecked, ..Self::new(file_system, path) })
    }

    /// Of a log that has no such file.
    pub(crate) fn new(file_system: Arc<dyn FileSystem>, path: PathBuf) -> Self {
        Self {
            file_system,
            path,
            entries: Vec::new(),
            unsaved: false,
            unsynced: false,
            incomplete: true,
            unchecked: Vec::new(),
        }
    }

    /// Whether entries began that the file does not have yet.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Whether the file told nothing, so that all batches have to be asked.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Whether only the file says that an epoch starts at `offset`.
    pub(crate) fn is_unchecked(&self, offset: i64) -> bool {
        self.unchecked.contains(&offset)
    }

    /// Notes that the batches say so too.
    pub(crate) fn set_checked(&mut self, offset: i64) {
        self.unchecked.retain(|unchecked| *unchecked != offset);
    }

    /// Puts what the batches up to `end_offset` tell in the place of what the file did; true when that is something else.
    /// Epochs that begin at the end, and wrote nothing yet, stay. Not written to the file yet.
    pub(crate) fn rebuild(&mut self, mut found: Vec<EpochStart>, end_offset: i64) -> bool {
        self.unchecked = Vec::new();
        let last = found.last().map_or(-1, |last| last.epoch);
        let beyond = self.entries.iter().filter(|it| it.start_offset >= end_offset && it.epoch > last);
        found.extend(beyond.copied());
        let is_changed = self.entries != found;
        self.entries = found;
        is_changed
    }

    /// The file lies elsewhere from now on, perhaps on another disk.
    pub(crate) fn relocate(&mut self, file_system: Arc<dyn FileSystem>, directory: &std::path::Path) {
        self.file_system = file_system;
        self.set_directory(directory);
    }

    pub(crate) fn set_directory(&mut self, directory: &std::path::Path) {
        self.path = directory.join(FILE_NAME);
    }

    pub(crate) fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    pub(crate) fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// Notes that the log's end, `end_offset`, is where records of `epoch` begin; true when entries changed. An epoch that
    /// wrote nothing gives way, also to an older one: a leader that wrote nothing may come to follow a log in which there
    /// is no record of its epoch. Not written to the file yet.
    pub(crate) fn begin(&mut self, epoch: i32, end_offset: i64) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| latest.epoch == epoch) {
            return false;
        }
        let is_cut = self.truncate_from_end(end_offset);
        let is_changed = self.note(epoch, end_offset) || is_cut;
        self.unsaved |= is_changed;
        is_changed
    }

    /// Notes that `epoch` starts at `start_offset`, as a batch tells; true when that is news, which an epoch that is not
    /// later than all others never is. Entries that start later go. Not written to the file yet.
    pub(crate) fn note(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| latest.epoch >= epoch) {
            return false;
        }
        self.entries.retain(|entry| entry.start_offset < start_offset);
        // most logs know one epoch
        self.entries.reserve_exact(1);
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// The same by one who did not see all batches before: the epoch may have started earlier.
    pub(crate) fn note_unsure(&mut self, epoch: i32, start_offset: i64) -> bool {
        let is_news = self.note(epoch, start_offset);
        if is_news {
            self.unchecked.push(start_offset);
        }
        is_news
    }

    /// Takes in epochs of batches below the first entry, ascending; true when that is news. Not written to the file yet.
    pub(crate) fn note_before(&mut self, mut found: Vec<EpochStart>) -> bool {
        let Some(first) = self.entries.first().copied() else { return false };
        found.retain(|it| (0..=first.epoch).contains(&it.epoch) && it.start_offset < first.start_offset);
        let Some(last) = found.last() else { return false };
        // its records were cut in two
        let rest = usize::from(last.epoch == first.epoch);
        found.extend(self.entries.drain(..).skip(rest));
        self.entries = found;
        true
    }

    /// Puts epochs in the place of all: those of a log that begins anew. Not written to the file yet.
    pub(crate) fn replace(&mut self, entries: Vec<EpochStart>) {
        self.unchecked = Vec::new();
        self.unsaved |= self.entries != entries;
        self.entries = entries;
    }

    /// Forgets epochs that start at `offset` or later; true when there were any.
    pub(crate) fn truncate_from_end(&mut self, offset: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.start_offset < offset);
        self.unsaved |= self.entries.len() != before;
        self.entries.len() != before
    }

    /// Forgets epochs that ended before the log's start; the one that holds it starts there. True when any changed.
    pub(crate) fn truncate_from_start(&mut self, log_start_offset: i64) -> bool {
        let holds = self.entries.iter().rposition(|entry| entry.start_offset <= log_start_offset);
        let Some(holds) = holds else { return false };
        let first = self.entries.get_mut(holds).filter(|entry| entry.start_offset < log_start_offset);
        let mut changed = holds > 0;
        if let Some(first) = first {
            first.start_offset = log_start_offset;
            changed = true;
        }
        self.entries.drain(..holds);
        self.unsaved |= changed;
        changed
    }

    /// The largest epoch that is no later than `epoch`, and where it ends: the start of the next one, or
    /// `log_end_offset`. `(−1, −1)` for an epoch that nobody here has seen yet; the asked one and the first start for
    /// one before all that are known. Kafka's `LeaderEpochFileCache.endOffsetFor`.
    pub(crate) fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        let Some(latest) = self.latest().filter(|latest| epoch >= 0 && epoch <= latest.epoch) else {
            return (-1, -1);
        };
        if epoch == latest.epoch {
            return (epoch, log_end_offset);
        }
        let next = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries.get(next).map_or(log_end_offset, |entry| entry.start_offset);
        let floor = next.checked_sub(1).and_then(|floor| self.entries.get(floor));
        (floor.map_or(epoch, |entry| entry.epoch), end)
    }

    /// The epoch that `offset` belongs to.
    pub(crate) fn epoch_for(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        Some(self.entries.get(after.checked_sub(1)?)?.epoch)
    }

    /// Writes the file. It is whole after the death of the process, and after that of the machine once it
    /// and its directory are synced.
    pub(crate) fn save(&mut self) -> Result<(), LogError> {
        self.unsynced = true;
        let text = self.text();
        atomic_file::replace_unsynced(&*self.file_system, &self.path, text.as_bytes())
            .during("write", &self.path)?;
        self.unsaved = false;
        Ok(())
    }

    /// The file, if it has to be synced yet; it counts as synced from now on.
    pub(crate) fn take_unsynced(&mut self) -> Option<PathBuf> {
        std::mem::take(&mut self.unsynced).then(|| self.path.clone())
    }

    /// It could not be synced after all.
    pub(crate) fn set_unsynced(&mut self) {
        self.unsynced = true;
    }

    fn text(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for entry in &self.entries {
            text.push_str(&format!("{} {}\n", entry.epoch, entry.start_offset));
        }
        text
    }
}

fn parse(text: &str) -> Option<Vec<EpochStart>> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "0" {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut entries: Vec<EpochStart> = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let (epoch, start_offset) = line.trim().split_once(' ')?;
        let entry =
            EpochStart { epoch: epoch.parse().ok()?, start_offset: start_offset.trim().parse().ok()? };
        let ascends = |last: &EpochStart| last.epoch < entry.epoch && last.start_offset <= entry.start_offset;
        if !entries.last().is_none_or(ascends) {
            return None;
        }
        entries.push(entry);
    }
    (entries.len() == count).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::RealFileSystem;

    fn cache(directory: &std::path::Path) -> EpochCache {
        EpochCache::load(Arc::new(RealFileSystem), directory.join(FILE_NAME)).unwrap()
    }

    #[test]
    fn end_offsets_are_kafkas() {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = cache(directory.path());
        assert_eq!(cache.end_offset_for(0, 0), (-1, -1), "nothing is known");
        for (epoch, start) in [(2, 10), (3, 20), (7, 30)] {
            assert!(cache.note(epoch, start));
        }
        assert_eq!(cache.end_offset_for(7, 42), (7, 42), "the current epoch ends at the log's end");
        assert_eq!(cache.end_offset_for(3, 42), (3, 30), "an older one where the next starts");
        assert_eq!(cache.end_offset_for(5, 42), (3, 30), "one that never was: the one before it");
        assert_eq!(cache.end_offset_for(1, 42), (1, 10), "one before all: the first start");
        assert_eq!(cache.end_offset_for(8, 42), (-1, -1), "one from the future");
        assert_eq!(cache.end_offset_for(-1, 42), (-1, -1));
        assert_eq!(cache.epoch_for(25), Some(3));
        assert_eq!(cache.epoch_for(9), None);
    }

    #[test]
    fn the_file_is_kafkas_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = cache(directory.path());
        first.note(0, 0);
        first.note(4, 100);
        first.save().unwrap();
        let text = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        assert_eq!(text, "0\n2\n0 0\n4 100\n");
        assert_eq!(cache(directory.path()).entries(), first.entries());
    }

    #[test]
    fn a_file_that_does_not_read_counts_as_empty() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "1\n0\n", "0\n2\n0 0\n", "0\n2\n4 0\n1 9\n", "0\nx\n", "0\n1\n0\n"] {
            std::fs::write(directory.path().join(FILE_NAME), text).unwrap();
            assert_eq!(cache(directory.path()).entries(), [], "{text:?}");
        }
    }

    #[test]
    fn an_epoch_replaces_one_that_never_wrote() {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = cache(directory.path());
        cache.note(1, 0);
        cache.note(2, 5);
        assert!(cache.note(3, 5), "epoch 2 led without writing");
        assert!(!cache.note(3, 9), "an epoch starts once");
        assert!(!cache.note(2, 9), "epochs do not go back");
        assert_eq!(cache.end_offset_for(1, 8), (1, 5));
        assert_eq!(cache.entries().len(), 2);
    }

    #[test]
    fn an_epoch_that_wrote_nothing_gives_way_to_an_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = cache(directory.path());
        cache.begin(1, 0);
        cache.begin(3, 5);
        assert!(cache.begin(2, 5), "3 led without writing, and now follows a log that goes on with 2");
        assert_eq!(cache.end_offset_for(2, 8), (2, 8));
        cache.begin(4, 8);
        assert!(cache.begin(2, 8), "4 wrote nothing, and 2 goes on");
        assert!(!cache.begin(2, 9));
        assert_eq!(
            cache.entries(),
            [EpochStart { epoch: 1, start_offset: 0 }, EpochStart { epoch: 2, start_offset: 5 }]
        );
    }

    #[test]
    fn both_ends_are_cut() {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = cache(directory.path());
        for (epoch, start) in [(1, 0), (2, 10), (3, 20)] {
            cache.note(epoch, start);
        }
        assert!(cache.truncate_from_start(15));
        assert!(!cache.truncate_from_start(15));
        assert_eq!(cache.entries().first(), Some(&EpochStart { epoch: 2, start_offset: 15 }));
        assert!(cache.truncate_from_end(20));
        assert_eq!(cache.latest(), Some(EpochStart { epoch: 2, start_offset: 15 }));
    }
}
