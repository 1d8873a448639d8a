//! `meta.properties`: whose data directory it is, in Kafka's format (a Java properties file, version 1).

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};
use crate::identity;

/// Its name in the data directory.
pub(crate) const FILE_NAME: &str = "meta.properties";
/// The newest layout that this version reads.
const VERSION: &str = "1";

/// Who owns a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: String,
    /// The broker in it.
    pub node_id: i32,
}

/// The owner in the file, without judging it; `None` when there is no file. A new broker takes its cluster's id from
/// here, where nothing else tells it.
pub fn read_identity(file_system: &dyn FileSystem, directory: &Path) -> Result<Option<Identity>, LogError> {
    let Some(properties) = read(file_system, directory)? else { return Ok(None) };
    let cluster_id = properties.get("cluster.id").cloned();
    let node_id = properties.get("node.id").or_else(|| properties.get("broker.id"));
    match (cluster_id, node_id.and_then(|text| text.parse().ok())) {
        (Some(cluster_id), Some(node_id)) => Ok(Some(Identity { cluster_id, node_id })),
        _ => Err(LogError::BadFile {
            path: directory.join(FILE_NAME),
            reason: "it has no cluster.id or no node.id".to_owned(),
        }),
    }
}

/// Makes sure that the directory is this broker's; nothing is changed.
pub(crate) fn check(
    file_system: &dyn FileSystem,
    directory: &Path,
    identity: &Identity,
) -> Result<bool, LogError> {
    let refuse = |reason: String| Err(LogError::Refused { path: directory.to_owned(), reason });
    let Some(properties) = read(file_system, directory)? else { return Ok(false) };
    let version = properties.get("version").map_or("", String::as_str);
    if version != VERSION && version != "0" {
        return refuse(format!(
            "its meta.properties has version {version:?}, this fastlog reads up to {VERSION}; use the release that wrote it"
        ));
    }
    let found = read_identity(file_system, directory)?;
    match found {
        Some(found) if found.cluster_id != identity.cluster_id => refuse(format!(
            "it belongs to cluster {}, not {}; name another directory",
            found.cluster_id, identity.cluster_id
        )),
        Some(found) if found.node_id != identity.node_id => refuse(format!(
            "it belongs to node {}, not {}; name another directory or set node.id",
            found.node_id, identity.node_id
        )),
        found => Ok(found.is_some()),
    }
}

/// The directory's own id, by which it is known again under another path; `None` where the file has none, as those of old
/// Kafka brokers.
pub(crate) fn directory_id(
    file_system: &dyn FileSystem,
    directory: &Path,
) -> Result<Option<String>, LogError> {
    let properties = read(file_system, directory)?.unwrap_or_default();
    Ok(properties.get("directory.id").filter(|id| !id.is_empty()).cloned())
}

pub(crate) fn write(
    file_system: &dyn FileSystem,
    directory: &Path,
    identity: &Identity,
) -> Result<(), LogError> {
    let text = format!(
        "#\n#fastlog\nversion={VERSION}\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
        identity.cluster_id,
        identity.node_id,
        identity::to_base64(file_system.random_uuid()),
    );
    let path = directory.join(FILE_NAME);
    atomic_file::replace(file_system, &path, text.as_bytes()).during("write", path)
}

fn read(
    file_system: &dyn FileSystem,
    directory: &Path,
) -> Result<Option<BTreeMap<String, String>>, LogError> {
    let path = directory.join(FILE_NAME);
    let bytes = atomic_file::read(file_system, &path).during("read", path)?;
    Ok(bytes.map(|bytes| parse(&String::from_utf8_lossy(&bytes))))
}

/// `key=value` lines; Java escapes `:` and `=` in values by a backslash.
fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().replace('\\', "")))
        .collect()
}
