//! A partition that is in two data directories of a broker: nobody but a person can say which of the two counts.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::claim::Claim;
use super::moves::Note;
use super::partition_metadata;
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{FileSystem, OpenMode};

/// Refuses directories that have the same partition; only reads. What is of the topics `deleted` is about to be put away.
pub(super) fn refuse(claims: &[Claim], deleted: &BTreeSet<Uuid>) -> Result<(), LogError> {
    if claims.len() < 2 {
        return Ok(());
    }
    let mut found: HashMap<String, &Claim> = HashMap::new();
    for claim in claims {
        let directory = claim.storage.directory();
        let entries = claim.storage.file_system.list(directory).during("list", directory)?;
        let partitions = entries.into_iter().filter(|it| file_name::parse_partition(&it.name).is_some());
        for name in partitions.filter(|it| it.is_directory).map(|it| it.name) {
            if !deleted.is_empty() && is_of(claim, &name, deleted) {
                continue;
            }
            match found.get(&name) {
                // the start will put one of them away
                Some(other) if gives_away(other, claim, &name) || gives_away(claim, other, &name) => {}
                Some(other) => return Err(refusal(other, claim, &name)),
                None => drop(found.insert(name, claim)),
            }
        }
    }
    Ok(())
}

/// Whether a partition's directory is of one of the topics.
fn is_of(claim: &Claim, name: &str, topics: &BTreeSet<Uuid>) -> bool {
    let topic_id =
        partition_metadata::read(&*claim.storage.file_system, &claim.storage.directory().join(name));
    topic_id.ok().flatten().is_some_and(|id| topics.contains(&id))
}

/// Whether `from` says which of the two counts.
fn gives_away(from: &Claim, to: &Claim, name: &str) -> bool {
    let note = to.id.as_ref().and_then(|id| from.moves.get(&(name.to_owned(), id.clone())));
    // where it does not read neither is opened
    let is_of_topic = |note: &Note, it: &Claim| {
        let path = it.storage.directory().join(name);
        note.is_about(&*it.storage.file_system, &path).unwrap_or(true)
    };
    note.is_some_and(|note| is_of_topic(note, from) && is_of_topic(note, to))
}

fn refusal(first: &Claim, second: &Claim, name: &str) -> LogError {
    let told = |claim: &Claim| {
        let path = claim.storage.directory().join(name);
        let what = describe(&*claim.storage.file_system, &path);
        (path, what.unwrap_or_else(|error| format!("it does not read: {error}")))
    };
    let ((first_path, first_what), (second_path, second_what)) = (told(first), told(second));
    let reason = format!(
        "partition {name} is in two data directories, {} ({first_what}) and {} ({second_what}), as when one was copied or \
         its disk came back after a failure: keep the one that goes further, or in a cluster the one that did not fail, \
         and move the other away",
        first_path.display(),
        second_path.display()
    );
    LogError::Refused { path: second.storage.directory().to_owned(), reason }
}

/// How far the log goes and how large it is, as its files say.
fn describe(file_system: &dyn FileSystem, path: &Path) -> Result<String, LogError> {
    let names = file_system.list(path).during("list", path)?.into_iter().map(|it| it.name);
    let mut segments: Vec<(i64, PathBuf)> = names
        .filter_map(|name| {
            let (offset, _) = file_name::parse(&name).filter(|(_, suffix)| *suffix == file_name::LOG)?;
            Some((offset, path.join(&name)))
        })
        .collect();
    segments.sort_unstable();
    let mut bytes = 0;
    for (_, segment) in &segments {
        let file = file_system.open(segment, OpenMode::Read).during("open", segment)?;
        bytes += file.length().during("ask for the size of", segment)?;
    }
    let last = segments.last().map_or(0, |(offset, _)| *offset);
    Ok(format!("{bytes} bytes, the last segment begins at offset {last}"))
}
