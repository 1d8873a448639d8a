//! A store in memory for tests: it lies, denies, is unreachable, and dies in the middle of things.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::store::{Listed, Store, unread};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every call fails.
    Unreachable,
    /// Of an object that is put only the first half is kept, and all is said to be well.
    HalvesPuts,
    /// One bit of what is read is another.
    FlipsBits,
    /// Fewer bytes come than were asked for.
    ShortensReads,
    /// What was to be made, as manifests are, is made, and the answer is a failure.
    LosesAnswers,
    /// Nothing is removed.
    DeniesDeletes,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    fault: Option<Fault>,
    /// Calls that change something until it dies in the middle of one.
    changes_left: Option<usize>,
    requests: usize,
}

/// The store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    /// From now on it does this wrong, or nothing.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// After so many more changes whoever calls dies: the next change happens or not, by `changes` being odd, and nothing
    /// after it. `None` = it lives again.
    pub fn die_after(&self, changes: Option<usize>) {
        self.state.lock().changes_left = changes;
    }

    /// Whether that came.
    pub fn is_dead(&self) -> bool {
        self.state.lock().changes_left == Some(0)
    }

    /// The keys there are.
    pub fn keys(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.state.lock().requests
    }

    /// Changes an object behind everybody's back.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let mut bytes = state.objects.get(key).map(|it| it.to_vec()).unwrap_or_default();
        change(&mut bytes);
        state.objects.insert(key.to_owned(), bytes.into());
    }

    /// Removes an object behind everybody's back.
    pub fn lose(&self, key: &str) {
        self.state.lock().objects.remove(key);
    }

    fn changed(
        &self,
        what: &'static str,
        key: &str,
        change: impl FnOnce(&mut State) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed =
            |reason: &str| Err(StoreError::Failed { what, key: key.to_owned(), reason: reason.to_owned() });
        let mut state = self.state.lock();
        state.requests += 1;
        match state.changes_left {
            Some(0) => return failed("dead"),
            Some(1) => {
                // the last one may come through, or not; nobody hears of it
                state.changes_left = Some(0);
                if key.len() % 2 == state.requests % 2 {
                    let _unheard = change(&mut state);
                }
                return failed("dead");
            }
            Some(left) => state.changes_left = Some(left - 1),
            None => {}
        }
        match state.fault {
            Some(Fault::Unreachable) => failed("unreachable"),
            Some(Fault::DeniesDeletes) if what == "delete" => failed("denied"),
            Some(Fault::LosesAnswers) if what == "create" => {
                change(&mut state)?;
                failed("the answer was lost")
            }
            _ => change(&mut state),
        }
    }
}

impl Store for MemoryStore {
    fn put(
        &self,
        key: &str,
        length: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError::Failed { what: "put", key: key.to_owned(), reason };
        let mut whole = Vec::new();
        for part in parts {
            whole.extend_from_slice(&part.map_err(|error| unread(key, &error))?);
        }
        if whole.len() as u64 != length {
            return Err(failed(format!("{} bytes, not {length}", whole.len())));
        }
        self.changed("put", key, |state| {
            if state.fault == Some(Fault::HalvesPuts) {
                whole.truncate(whole.len() / 2);
            }
            state.objects.insert(key.to_owned(), whole.into());
            Ok(())
        })
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.changed("create", key, |state| {
            if state.objects.contains_key(key) {
                return Err(StoreError::Exists { key: key.to_owned() });
            }
            let kept = if state.fault == Some(Fault::HalvesPuts) { bytes.len() / 2 } else { bytes.len() };
            state.objects.insert(key.to_owned(), bytes.slice(..kept));
            Ok(())
        })
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut state = self.state.lock();
        state.requests += 1;
        let failed =
            |reason: &str| StoreError::Failed { what: "get", key: key.to_owned(), reason: reason.to_owned() };
        if state.fault == Some(Fault::Unreachable) || state.changes_left == Some(0) {
            return Err(failed("unreachable"));
        }
        let object = state.objects.get(key).ok_or_else(|| StoreError::NotFound { key: key.to_owned() })?;
        let wanted = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let found = wanted.and_then(|(start, end)| object.get(start..end));
        let mut bytes = found.ok_or_else(|| failed("the range is not in the object"))?.to_vec();
        match state.fault {
            Some(Fault::FlipsBits) => {
                let middle = bytes.len() / 2;
                bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 4);
            }
            Some(Fault::ShortensReads) => bytes.truncate(bytes.len() / 2),
            _ => {}
        }
        Ok(bytes.into())
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        let mut state = self.state.lock();
        state.requests += 1;
        if state.fault == Some(Fault::Unreachable) || state.changes_left == Some(0) {
            let reason = "unreachable".to_owned();
            return Err(StoreError::Failed { what: "look at", key: key.to_owned(), reason });
        }
        let found = state.objects.get(key).map(|it| it.len() as u64);
        found.ok_or_else(|| StoreError::NotFound { key: key.to_owned() })
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.changed("delete", key, |state| {
            state.objects.remove(key);
            Ok(())
        })
    }

    fn remove_unfinished(&self, _prefix: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError> {
        Ok(self.list(prefix)?.into_iter().filter(|it| *it.key > *key).collect())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut state = self.state.lock();
        state.requests += 1;
        if state.fault == Some(Fault::Unreachable) || state.changes_left == Some(0) {
            let reason = "unreachable".to_owned();
            return Err(StoreError::Failed { what: "list", key: prefix.to_owned(), reason });
        }
        let below = format!("{prefix}/");
        let listed = state.objects.iter().filter(|(key, _)| key.starts_with(&below));
        Ok(listed.map(|(key, bytes)| Listed { key: key.clone(), size_bytes: bytes.len() as u64 }).collect())
    }
}
