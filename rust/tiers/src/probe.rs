//! Whether a store makes an object that is there no second time.
//!
//! Of those who make a manifest of one number one must succeed. A store that takes no notice of the condition would let a
//! former leader replace what the next one wrote, so it is not used: it is tried once, on an object of its own.

use fastlog_log::{FileSystem, RealFileSystem};

use crate::error::StoreError;
use crate::requests::failed;

/// What the objects are called by which a store is tried.
const PROBE: &str = "fastlog-probe-";

/// Makes an object twice, and removes it. An error where that succeeds, or where the store does not answer.
pub(crate) fn check_creates(
    make: impl Fn(&str, &'static [u8]) -> Result<(), StoreError>,
    remove: impl Fn(&str) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let key = format!("{PROBE}{}", RealFileSystem.random_uuid().simple());
    match make(&key, b"first") {
        // by this very call, whose answer was lost
        Ok(()) | Err(StoreError::Exists { .. }) => {}
        Err(error) => return Err(error),
    }
    let again = make(&key, b"second");
    // what is left of it is in nobody's way
    let _removed = remove(&key);
    match again {
        Err(StoreError::Exists { .. }) => Ok(()),
        Ok(()) => Err(failed(
            "create",
            &key,
            "the store replaces what is to be made only if it is not there: it takes no notice of `If-None-Match: *`, \
             without which leaders cannot be kept apart. Use another store",
        )),
        Err(error) => Err(error),
    }
}
