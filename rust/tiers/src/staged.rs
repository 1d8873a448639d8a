//! Files of a directory that are being written, and what the death of their process left of them.

use std::io;
use std::path::Path;

/// In the names of files that are being written, of which nothing is listed; in no key of ours.
const STAGED: char = '#';

/// Removes those in `directory`. None may be under way there.
pub(crate) fn remove_staged(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().contains(STAGED)) {
            continue;
        }
        match std::fs::remove_file(&path) {
            // it has its name by now, or another one removed it
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}
