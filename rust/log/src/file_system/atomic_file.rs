//! Small files that are replaced as a whole: a reader sees the old or the new contents, whatever crashes when.

use std::io::{self, IoSlice};
use std::path::Path;

use super::{FileHandle, FileSystem, OpenMode, read_up_to_at, write_all_at};

/// The largest small file that is read into memory: a checkpoint of some 100,000 partitions.
const BYTES_MAX: u64 = 64 << 20;

/// A file that ends before is read by one call: a part of a page, which is read whole or not at all.
const FIRST_BYTES: usize = 1 << 10;

/// Replaces `path` by `contents`: a temporary file beside it is written and synced, renamed over it, and the
/// directory synced. A crash before the rename leaves the old contents and a `.tmp` file, which the next replacement
/// overwrites. Without a descriptor ([`super::is_out_of_descriptors`]) the old contents stay, and are what the disk has.
pub fn replace(file_system: &dyn FileSystem, path: &Path, contents: &[u8]) -> io::Result<()> {
    let parent = path.parent().map(|parent| file_system.open_directory(parent)).transpose()?;
    write_and_rename(file_system, path, contents, true)?;
    parent.map_or(Ok(()), |parent| parent.sync())
}

/// The same without waiting for the disk: whole after the death of the process, not of the machine.
pub fn replace_unsynced(file_system: &dyn FileSystem, path: &Path, contents: &[u8]) -> io::Result<()> {
    write_and_rename(file_system, path, contents, false)
}

fn write_and_rename(
    file_system: &dyn FileSystem,
    path: &Path,
    contents: &[u8],
    synced: bool,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let file = file_system.open(&temporary, OpenMode::Create)?;
    file.set_len(0)?;
    write_all_at(&*file, &mut [IoSlice::new(contents)], 0)?;
    if synced {
        file.sync_data()?;
    }
    drop(file);
    file_system.rename(&temporary, path)
}

/// All of a small file; `None` when there is none.
pub fn read(file_system: &dyn FileSystem, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match file_system.open(path, OpenMode::Read) {
        Ok(file) => read_all(&*file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_all(file: &dyn FileHandle) -> io::Result<Vec<u8>> {
    // of ten thousand logs each has three such files
    let mut first = [0; FIRST_BYTES];
    let read = loop {
        match file.read_at(&mut first, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    // no page that cannot be read comes between
    if read < FIRST_BYTES {
        return Ok(first.get(..read).unwrap_or_default().to_vec());
    }
    let length = file.length()?;
    if length > BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes are too many for such a file"),
        ));
    }
    let mut contents = vec![0; usize::try_from(length).unwrap_or_default()];
    let read = read_up_to_at(file, &mut contents, 0)?;
    contents.truncate(read);
    Ok(contents)
}
