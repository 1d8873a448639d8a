//! One segment of a copy that grows in another data directory.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{
    FileHandle, FileSystem, OpenMode, ReadablePart, Storage, UnseenFile, read_exact_at, write_all_at,
};
use crate::segment::{Damage, Segment};

/// What the disk could not read, as the system says it.
const EIO: i32 = 5;
/// What a disk reads at least.
const PAGE_BYTES: u64 = 4096;
/// Bytes read and written at once.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// As much of a segment as is here.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) source: Arc<Segment>,
    /// Of the source, when the copying began; `None` where it was being changed, which is no beginning.
    pub(super) edits: Option<u64>,
    pub(super) bytes: u64,
    /// As much of it left the page cache.
    dropped: u64,
    /// Its damage was located because of what the disk could not read.
    pub(super) is_located: bool,
    /// The damage in which there are zeros here, since the disk could not read it.
    pub(super) left_out: Vec<Damage>,
    pub(super) from: Option<Arc<dyn FileHandle>>,
    pub(super) to: Option<Arc<dyn FileHandle>>,
    /// All of one that takes no more batches, with its indexes, synced.
    pub(super) whole: Option<Arc<Segment>>,
}

impl Copied {
    pub(super) fn of(source: &Arc<Segment>) -> Self {
        let source = Arc::clone(source);
        let edits = source.edits();
        let left_out = Vec::new();
        Self {
            edits,
            source,
            bytes: 0,
            dropped: 0,
            is_located: false,
            left_out,
            from: None,
            to: None,
            whole: None,
        }
    }

    /// Whether the source was cut, cleaned or mended since, or is just now.
    pub(super) fn was_changed(&self) -> bool {
        self.edits.is_none() || self.source.edits() != self.edits
    }

    /// Whether something was left out that is damage no more, or another one: the disk may have read it since.
    pub(super) fn can_be_read_by_now(&self) -> bool {
        let is_known = |damage: &Damage| {
            let known = self.source.damage_starting_at(damage.position);
            known.is_some_and(|known| known.next == damage.next)
        };
        !self.left_out.iter().all(is_known)
    }

    pub(super) fn open(
        &mut self,
        source: &dyn FileSystem,
        storage: &Storage,
        directory: &Path,
    ) -> Result<(), LogError> {
        let path = self.source.log.path();
        let from = source.open(&path, OpenMode::Read).during("read", &path)?;
        self.from = Some(Arc::new(ReadablePart::new(Arc::new(UnseenFile::new(from)))));
        let path = self.path(directory);
        let to = storage.file_system.open(&path, OpenMode::Create).and_then(|to| to.set_len(0).map(|()| to));
        self.to = Some(to.during("create", &path).map_err(|error| storage.write_failed(error))?);
        Ok(())
    }

    /// Copies at most `left` bytes; answers how many.
    pub(super) fn copy_chunk(
        &mut self,
        source: &dyn FileSystem,
        storage: &Storage,
        directory: &Path,
        left: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, LogError> {
        if self.to.is_none() {
            self.open(source, storage, directory)?;
        }
        let (Some(from), Some(to)) = (self.from.clone(), self.to.clone()) else { return Ok(0) };
        let length = left.min(CHUNK_BYTES as u64);
        buffer.resize(CHUNK_BYTES, 0);
        let chunk = buffer.get_mut(..length as usize).unwrap_or_default();
        read_exact_at(&*from, chunk, self.bytes).during("read", self.source.log.path())?;
        self.check_unreadable(&*from, self.bytes + length)?;
        write_all_at(&*to, &mut [IoSlice::new(chunk)], self.bytes)
            .during("write", self.path(directory))
            .map_err(|error| storage.write_failed(error))?;
        self.bytes += length;
        Ok(length)
    }

    /// What the disk cannot read may be left out where it is known for damage: that moves too, and can be mended there.
    fn check_unreadable(&mut self, from: &dyn FileHandle, end: u64) -> Result<(), LogError> {
        let mut at = self.bytes;
        while at < end
            && let Some(bad) = from.unreadable_in(at..end)
        {
            at = (bad + 1).next_multiple_of(PAGE_BYTES).min(end);
            let mut known_to = bad;
            while known_to < at {
                let around = self.source.damage_after(known_to).filter(|it| it.position <= known_to);
                let Some(damage) = around else {
                    let error = std::io::Error::from_raw_os_error(EIO);
                    return Err(LogError::io("read", self.source.log.path(), error));
                };
                known_to = damage.next.map_or(u64::MAX, |(next, _)| next);
                if self.left_out.iter().all(|it| it.position != damage.position) {
                    self.left_out.push(damage);
                }
            }
        }
        Ok(())
    }

    pub(super) fn sync(&self, storage: &Storage, directory: &Path) -> Result<(), LogError> {
        let Some(to) = &self.to else { return Ok(()) };
        to.sync_data().during("sync", self.path(directory)).map_err(|error| storage.write_failed(error))
    }

    /// Others need the memory more than who may come to read what was copied. To be called when it is synced.
    pub(super) fn drop_from_memory(&mut self) {
        if let Some(descriptor) = self.to.as_ref().and_then(|to| to.descriptor()) {
            let length = self.bytes.saturating_sub(self.dropped);
            let _hint = fastlog_sys::page_cache::drop_passed(descriptor, self.dropped, length);
        }
        self.dropped = self.bytes;
    }

    pub(super) fn name(&self) -> String {
        file_name::of_offset(self.source.base_offset, file_name::LOG)
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.name())
    }
}
