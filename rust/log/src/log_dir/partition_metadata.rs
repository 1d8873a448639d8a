//! `partition.metadata`: which topic a partition's directory belongs to.

use std::path::Path;

use uuid::Uuid;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};
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

/// Written without a sync: it counts from the first flush of the log on, as all that lies beside it.
pub(crate) fn write(file_system: &dyn FileSystem, directory: &Path, topic_id: Uuid) -> Result<(), LogError> {
    let path = directory.join(FILE_NAME);
    let text = format!("version: 0\ntopic_id: {}", identity::to_base64(topic_id));
    atomic_file::replace_unsynced(file_system, &path, text.as_bytes()).during("write", path)
}

fn parse(text: &str) -> Option<Uuid> {
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version:")?.trim();
    let topic_id = lines.next()?.strip_prefix("topic_id:")?.trim();
    (version == "0").then(|| identity::from_base64(topic_id))?
}
