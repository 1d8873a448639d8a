//! `partition.metadata`: which topic a partition's directory belongs to.

use std::io::IoSlice;
use std::path::Path;

use uuid::Uuid;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, OpenMode, atomic_file, write_all_at};
use crate::identity;

/// Its name in the partition's directory.
pub(crate) const FILE_NAME: &str = "partition.metadata";

/// The topic id; `None` when there is no file, or the zero id that old brokers wrote.
pub(crate) fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<Option<Uuid>, LogError> {
    let path = directory.join(FILE_NAME);
    let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let topic_id = parse(&text)
        .ok_or_else(|| LogError::BadFile { path, reason: format!("{text:?} names no topic id") })?;
    Ok(Some(topic_id).filter(|topic_id| !topic_id.is_nil()))
}

/// `is_synced`: beside records that are on disk, where a torn file would keep the log from being opened. Without, it
/// counts from the first flush of the log on, as all that lies beside it.
pub(crate) fn write(
    file_system: &dyn FileSystem,
    directory: &Path,
    topic_id: Uuid,
    is_synced: bool,
) -> Result<(), LogError> {
    let path = directory.join(FILE_NAME);
    let text = text_of(topic_id);
    let replace = if is_synced { atomic_file::replace } else { atomic_file::replace_unsynced };
    replace(file_system, &path, text.as_bytes()).during("write", path)
}

/// Written without a sync in a directory that was just made. A crash may leave a torn file, beside which nothing was
/// written yet: it counts as none.
pub(crate) fn write_first(
    file_system: &dyn FileSystem,
    directory: &Path,
    topic_id: Uuid,
) -> Result<(), LogError> {
    let path = directory.join(FILE_NAME);
    let text = text_of(topic_id);
    let file = file_system.open(&path, OpenMode::Create).during("create", &path)?;
    write_all_at(&*file, &mut [IoSlice::new(text.as_bytes())], 0).during("write", path)
}

fn text_of(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {}", identity::to_base64(topic_id))
}

fn parse(text: &str) -> Option<Uuid> {
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version:")?.trim();
    let topic_id = lines.next()?.strip_prefix("topic_id:")?.trim();
    (version == "0").then(|| identity::from_base64(topic_id))?
}
