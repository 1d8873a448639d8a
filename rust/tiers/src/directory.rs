//! A directory as the store, which may be a mount point without its mount: it is opened when it is there, and made only
//! for somebody who never used it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use crate::requests::with_causes;

/// Opens it; `NotFound` where there is none.
pub(crate) fn open(directory: &Path) -> io::Result<Arc<dyn ObjectStore>> {
    fs::metadata(directory)?;
    let local = LocalFileSystem::new_with_prefix(directory);
    let local = local.map_err(|error| io::Error::other(with_causes(&error)))?;
    // a manifest must be on the disk before the segments that it names go from the log; and directories of topics that are
    // gone are not to stay
    Ok(Arc::new(local.with_fsync(true).with_automatic_cleanup(true)))
}

/// Makes it and what it lies in, durably.
pub(crate) fn make(directory: &Path) -> io::Result<()> {
    let missing: Vec<_> = directory.ancestors().take_while(|it| !it.exists()).collect();
    fs::create_dir_all(directory)?;
    for made in missing {
        made.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
    }
    Ok(())
}
