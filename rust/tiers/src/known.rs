//! Which store it is: an object at its root names it, and a broker that used it notes that name.
//!
//! A mount point without its mount looks like an empty store, and what would be uploaded there is gone from every disk
//! before anybody sees that it went to the wrong place. So whoever changes something, and whoever asks what the store has,
//! sees first that it is still the same one; bytes that are read have checksums of their own.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastlog_protocol::crc::crc32c;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::StoreError;
use crate::requests::failed;
use crate::store::{Listed, Store};

/// The object that names the store.
pub const IDENTITY: &str = "fastlog-store";
const VERSION: &str = "version: 0";
/// How long the object is, in every version.
const IDENTITY_BYTES: usize = 64;

/// What the object holds: the store's name, and a checksum of all before it.
fn encode(id: Uuid) -> Bytes {
    let named = format!("{VERSION}\n{}\n", id.simple());
    let crc = crc32c(named.as_bytes());
    let text = format!("{named}{crc:08x}");
    format!("{text:<width$}\n", width = IDENTITY_BYTES - 1).into()
}

fn decode(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    let id = text.lines().nth(1).and_then(|line| Uuid::try_parse(line).ok())?;
    (encode(id) == bytes).then_some(id)
}

/// The store that a broker used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its name.
    pub id: Uuid,
    /// The file that says so, for those who replace the store on purpose.
    pub note: PathBuf,
}

/// A store that is used only while it is the expected one.
#[derive(Debug)]
pub struct KnownStore {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    expected: Option<Expected>,
    /// When it was seen to be that one.
    seen_at: Option<Instant>,
}

impl KnownStore {
    /// `inner`, of which nothing is expected yet: until then it is not changed.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// From now on it has to be this one; `None` = nobody knows yet which.
    pub fn use_only(&self, expected: Option<Expected>) {
        let mut state = self.state.lock();
        if state.expected != expected {
            *state = State { expected, seen_at: None };
        }
    }

    /// The name of the store that is there; `None` = it has none, or there is no store. Asks it.
    pub fn id(&self) -> Result<Option<Uuid>, StoreError> {
        match self.inner.get(IDENTITY, 0..IDENTITY_BYTES as u64) {
            Ok(bytes) => decode(&bytes).map(Some).ok_or_else(|| {
                failed(
                    "read",
                    IDENTITY,
                    "it does not name a store: put it back from a copy of the store, or remove it if no broker has noted one",
                )
            }),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names the store, and makes it where there is none. Of several brokers that do so at once one succeeds; all are
    /// answered what it is called.
    pub fn name(&self, id: Uuid) -> Result<Uuid, StoreError> {
        self.inner.prepare()?;
        match self.inner.create(IDENTITY, encode(id)) {
            Ok(()) => self.see_whole()?,
            Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        // what was kept counts, not what was sent
        self.id()?.ok_or_else(|| failed("create", IDENTITY, "the store took it, and has not got it"))
    }

    /// What was not kept whole goes again, by the one who made it: nobody could read a name in it.
    fn see_whole(&self) -> Result<(), StoreError> {
        let kept = self.inner.size(IDENTITY)?;
        if kept == IDENTITY_BYTES as u64 {
            return Ok(());
        }
        self.inner.delete(IDENTITY)?;
        Err(failed("create", IDENTITY, format!("the store took {IDENTITY_BYTES} bytes, and has {kept}")))
    }

    /// An error where it is not the expected store, or cannot be asked. Nothing is asked where that was seen just before.
    pub fn check(&self) -> Result<(), StoreError> {
        let (expected, seen_at) = {
            let state = self.state.lock();
            (state.expected.clone(), state.seen_at)
        };
        let Some(expected) = expected else { return Ok(()) };
        if seen_at.is_some_and(|at| at.elapsed() < self.inner.stays()) {
            return Ok(());
        }
        let found = match self.id()? {
            Some(id) if id == expected.id => {
                let mut state = self.state.lock();
                if state.expected.as_ref() == Some(&expected) {
                    state.seen_at = Some(Instant::now());
                }
                return Ok(());
            }
            Some(id) => format!("it is store {}", id.simple()),
            None => format!("it has no object {IDENTITY}"),
        };
        Err(StoreError::Foreign { found, id: expected.id.simple().to_string(), note: expected.note })
    }

    fn check_before(&self, what: &'static str, key: &str) -> Result<(), StoreError> {
        if self.state.lock().expected.is_none() {
            return Err(failed(what, key, "which store it is was not seen yet"));
        }
        self.check()
    }
}

impl Store for KnownStore {
    fn put(
        &self,
        key: &str,
        length: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(), StoreError> {
        self.check_before("put", key)?;
        self.inner.put(key, length, parts)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.check_before("create", key)?;
        self.inner.create(key, bytes)
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let got = self.inner.get(key, range);
        if matches!(got, Err(StoreError::NotFound { .. })) {
            // which says more
            self.check()?;
        }
        got
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.check()?;
        self.inner.size(key)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check_before("delete", key)?;
        self.inner.delete(key)
    }

    fn remove_unfinished(&self, prefix: &str) -> Result<(), StoreError> {
        self.check_before("remove unfinished files in", prefix)?;
        self.inner.remove_unfinished(prefix)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.check()?;
        self.inner.list(prefix)
    }

    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError> {
        self.check()?;
        self.inner.list_after(prefix, key)
    }

    fn stays(&self) -> Duration {
        self.inner.stays()
    }
}

#[cfg(test)]
mod tests {
    use super::{IDENTITY_BYTES, decode, encode};
    use uuid::Uuid;

    #[test]
    fn a_name_with_any_other_bit_is_none() {
        let id = Uuid::from_u128(0x1234_5678_9abc_def0);
        let bytes = encode(id);
        assert_eq!((bytes.len(), decode(&bytes)), (IDENTITY_BYTES, Some(id)));
        for bit in 0..8 * bytes.len() {
            let mut other = bytes.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&other), None, "bit {bit}");
        }
    }
}
