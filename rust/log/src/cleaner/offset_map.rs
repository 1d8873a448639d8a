//! The last offset of each key, in memory of a fixed size (Kafka's `SkimpyOffsetMap`).
//!
//! Keys are told apart by 128 bits of keyed hash: by accident two of a billion keys are the same once in 10^20 passes, and
//! nobody who chooses keys can bring it about, since the hash's own keys are new for each map.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hash 16, offset + 1 8.
const SLOT_BYTES: usize = 24;

/// Two halves of a hash.
pub(crate) type KeyHash = (u64, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    high: u64,
    low: u64,
    /// 0 = nobody's.
    next_offset: u64,
}

/// Keys and offsets. Open addressing, linear probing.
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    count_max: usize,
    count: usize,
    hashers: (RandomState, RandomState),
    last_offset: Option<i64>,
}

impl OffsetMap {
    /// Room for `key_count` keys, as far as `bytes_max` at `load_factor` allows.
    pub(crate) fn new(key_count: u64, bytes_max: usize, load_factor: f64) -> Self {
        let load_factor = load_factor.clamp(0.01, 0.99);
        let wanted = (key_count as f64 / load_factor) as usize + 2;
        let slot_count = wanted.min(bytes_max / SLOT_BYTES).max(2);
        let count_max = ((slot_count as f64 * load_factor) as usize).clamp(1, slot_count - 1);
        Self {
            slots: vec![Slot::default(); slot_count],
            count_max,
            count: 0,
            hashers: (RandomState::new(), RandomState::new()),
            last_offset: None,
        }
    }

    /// Notes the offsets of keys, each larger than those before, and empties `entries`; false = there was no room for
    /// another key. It may come in the midst of a batch: then the map reaches to the record before, or one batch of many
    /// keys would end all passes where they begin.
    pub(crate) fn put_all(&mut self, entries: &mut Vec<(KeyHash, i64)>) -> bool {
        self.warm(entries.iter().map(|(hash, _)| *hash));
        entries.drain(..).all(|(hash, offset)| self.put(hash, offset))
    }

    fn put(&mut self, (high, low): KeyHash, offset: i64) -> bool {
        let Some(place) = self.find(high, low) else { return false };
        let is_full = self.count >= self.count_max;
        let Some(slot) = self.slots.get_mut(place) else { return false };
        if slot.next_offset == 0 {
            if is_full {
                return false;
            }
            self.count += 1;
        }
        *slot = Slot { high, low, next_offset: offset as u64 + 1 };
        self.reached(offset);
        true
    }

    /// Brings the slots of keys near. Each is far from the last one in memory: asked for one after the other without a use
    /// in between, they come at the same time. (Cleaning is half as fast again as without.)
    pub(crate) fn warm(&self, hashes: impl Iterator<Item = KeyHash>) {
        let slots = hashes.filter_map(|(high, _)| self.slots.get(self.home(high)));
        std::hint::black_box(slots.fold(0, |sum, slot| sum | slot.next_offset));
    }

    /// The key's last offset.
    pub(crate) fn get(&self, (high, low): KeyHash) -> Option<i64> {
        let slot = self.slots.get(self.find(high, low)?)?;
        slot.next_offset.checked_sub(1).map(|offset| offset as i64)
    }

    /// Up to where the log was looked at, inclusive; `None` = nowhere.
    pub(crate) fn last_offset(&self) -> Option<i64> {
        self.last_offset
    }

    /// The log was looked at up to `offset`, inclusive.
    pub(crate) fn reached(&mut self, offset: i64) {
        self.last_offset = self.last_offset.max(Some(offset));
    }

    /// What a key is known by.
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            hasher.finish()
        };
        (half(&self.hashers.0), half(&self.hashers.1))
    }

    /// The high bits of the product: evenly spread over any number of slots.
    fn home(&self, high: u64) -> usize {
        ((u128::from(high) * self.slots.len() as u128) >> 64) as usize
    }

    /// The key's slot, or the free one where it belongs; there is always a free one.
    fn find(&self, high: u64, low: u64) -> Option<usize> {
        let count = self.slots.len();
        let mut place = self.home(high);
        loop {
            let slot = self.slots.get(place)?;
            if slot.next_offset == 0 || (slot.high == high && slot.low == low) {
                return Some(place);
            }
            place = if place + 1 == count { 0 } else { place + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_counts_and_memory_is_bounded() {
        let mut map = OffsetMap::new(u64::from(u32::MAX), 24 * 100, 0.9);
        let put = |map: &mut OffsetMap, key: i64| map.put(map.hash(&key.to_be_bytes()), key);
        for key in 0..90 {
            assert!(put(&mut map, key));
        }
        assert!(!put(&mut map, 90), "a 91st key has no place in 100 slots at 0.9");
        assert_eq!(map.last_offset(), Some(89));
        assert!(map.put(map.hash(&5i64.to_be_bytes()), 1000), "one that is there has");
        assert_eq!(map.slots.len(), 100);
        for key in 0..90i64 {
            let expected = if key == 5 { 1000 } else { key };
            assert_eq!(map.get(map.hash(&key.to_be_bytes())), Some(expected));
        }
        assert_eq!(map.get(map.hash(&90i64.to_be_bytes())), None);
    }

    #[test]
    fn a_small_log_needs_little_memory() {
        assert!(OffsetMap::new(10, 128 << 20, 0.9).slots.len() < 20);
        let mut map = OffsetMap::new(0, 0, 0.9);
        assert!(
            map.put(map.hash(b""), 0)
                && map.get(map.hash(b"")) == Some(0)
                && map.get(map.hash(b"x")).is_none()
        );
    }
}
