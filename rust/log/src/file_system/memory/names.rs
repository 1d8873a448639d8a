//! Names of files, as the process sees them and as they are on disk.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Numbers of files by path. Paths are compared as text, so those of one directory lie together.
pub(super) type Names = BTreeMap<String, usize>;

/// What a call does to names.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Add(String, usize),
    Remove(String),
    /// A file, or a directory and all in it.
    Rename(String, String),
}

impl NameChange {
    pub(super) fn apply(self, names: &mut Names) {
        match self {
            Self::Add(path, inode) => {
                names.insert(path, inode);
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
            Self::Rename(from, to) => {
                for path in of(names, &from) {
                    if let (Some(inode), Some(rest)) = (names.remove(&path), path.strip_prefix(&from)) {
                        names.insert(format!("{to}{rest}"), inode);
                    }
                }
            }
        }
    }
}

/// The file of that name, or the files in the directory of that name and below it.
pub(super) fn of(names: &Names, path: &str) -> Vec<String> {
    match names.get_key_value(path) {
        Some((file, _)) => vec![file.clone()],
        None => below(names, path).map(|(name, _)| name.to_owned()).collect(),
    }
}

/// Path and path below the directory of all files in a directory and below it.
pub(super) fn below<'n>(names: &'n Names, directory: &str) -> impl Iterator<Item = (&'n str, &'n str)> {
    let prefix = format!("{directory}/");
    let range = names.range::<str, _>((Bound::Excluded(prefix.as_str()), Bound::Unbounded));
    // the iterator owns the prefix, the names are borrowed
    range.map_while(move |(name, _)| Some((name.as_str(), name.strip_prefix(&prefix)?)))
}
