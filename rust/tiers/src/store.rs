//! The port to an object store.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::error::StoreError;

/// How large the parts of an upload are: S3 wants 5 MiB or more of each but the last, and at most 10,000 of them.
pub const PART_BYTES: usize = 8 << 20;

/// A request a minute, by a broker that uses the store.
pub(crate) const STAYS: Duration = Duration::from_secs(60);

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its whole key.
    pub key: String,
    /// How many bytes it says it has.
    pub size_bytes: u64,
}

/// Objects by key. Every call blocks, and has an end. What it wrote or removed is durable, and seen by every later call.
pub trait Store: Send + Sync + Debug {
    /// Puts an object of `length` bytes, which come in parts of about [`PART_BYTES`]; it replaces what is there, whole or
    /// not at all.
    fn put(
        &self,
        key: &str,
        length: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(), StoreError>;
    /// Makes an object that must not be there: of several who try one succeeds, the others have `Exists`.
    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;
    /// The bytes of a range: exactly so many, or an error.
    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;
    /// How many bytes it has of an object.
    fn size(&self, key: &str) -> Result<u64, StoreError>;
    /// Removes an object; no error where there is none.
    fn delete(&self, key: &str) -> Result<(), StoreError>;
    /// Removes what is left of uploads under `prefix/` that the death of their process ended, where the store keeps that
    /// and nobody else removes it. None may be under way there.
    fn remove_unfinished(&self, prefix: &str) -> Result<(), StoreError>;
    /// All objects whose keys begin with `prefix/`, in no particular order. What was made before it was called is in it.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError>;
    /// The same of keys that are greater than `key`.
    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError>;
    /// Makes the place of the objects, where there has to be one, durably.
    fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// How long it is the same store after it was seen to be: a bucket is not replaced from one moment to the next.
    fn stays(&self) -> Duration {
        STAYS
    }
}

/// What is to be put could not be read.
pub(crate) fn unread(key: &str, error: &io::Error) -> StoreError {
    StoreError::Source { key: key.to_owned(), reason: error.to_string() }
}
