//! The partitions that are open here, by topic and number. A topic is found by its name and by its id; what was deleted
//! and made again under the same name has another id.

use super::Partition;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use uuid::Uuid;

/// The partitions of one topic that are open here, ascending by number: one as a rule, which a map would be large for.
#[derive(Default)]
struct TopicPartitions(Vec<Arc<Partition>>);

impl TopicPartitions {
    fn find(&self, index: i32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&index, |it| it.index())
    }

    fn get(&self, index: i32) -> Option<&Arc<Partition>> {
        self.find(index).ok().and_then(|place| self.0.get(place))
    }
}

#[derive(Default)]
struct Open {
    by_name: HashMap<Arc<str>, TopicPartitions>,
    by_id: HashMap<(Uuid, i32), Arc<Partition>, BuildHasherDefault<IdHasher>>,
    /// How many of the partitions have the id, and what their topic is called.
    names: HashMap<Uuid, (usize, Arc<str>), BuildHasherDefault<IdHasher>>,
}

/// Hashes what begins with a random number, by that: brokers draw topic ids, and no client can choose which are here.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // a table looks at the upper bits too
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut number = [0; 8];
            number.iter_mut().zip(eight).for_each(|(to, from)| *to = *from);
            self.0 = self.0.rotate_left(5) ^ u64::from_be_bytes(number);
        }
    }

    fn write_i32(&mut self, number: i32) {
        self.0 = self.0.wrapping_add(u64::from(number.cast_unsigned()));
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// All open partitions.
#[derive(Default)]
pub struct PartitionTable {
    open: RwLock<Open>,
    /// How often a partition came or went.
    changes: AtomicU64,
}

impl PartitionTable {
    /// The partition, if it is open here.
    pub fn get(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.open.read().by_name.get(topic)?.get(index).cloned()
    }

    /// The partition of the topic with that id, if it is open here.
    pub fn get_by_id(&self, topic_id: Uuid, index: i32) -> Option<Arc<Partition>> {
        self.open.read().by_id.get(&(topic_id, index)).cloned()
    }

    /// The topic's name as a shared string: that of the open topic, if there is one.
    pub fn intern(&self, topic: &str) -> Arc<str> {
        let open = self.open.read();
        open.by_name.get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| name.clone())
    }

    /// How often a partition came or went; while that is the same, [`PartitionTable::each`] has the same ones in the same
    /// order.
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Shows all open partitions, in no order; for a look that is to cost little. Must not touch this table.
    pub fn each(&self, look: impl FnMut(&Arc<Partition>)) {
        self.open.read().by_name.values().flat_map(|it| it.0.iter()).for_each(look);
    }

    /// The name of a topic of which partitions are open here.
    pub fn name(&self, topic_id: Uuid) -> Option<Arc<str>> {
        self.open.read().names.get(&topic_id).map(|(_, name)| name.clone())
    }

    /// Adds a partition; false when there is one of that name and number.
    pub fn insert(&self, partition: Arc<Partition>) -> bool {
        let open = &mut *self.open.write();
        self.changes.fetch_add(1, AcqRel);
        let topic = open.by_name.entry(partition.topic().clone()).or_default();
        let (id, index) = (partition.topic_id(), partition.index());
        let Err(place) = topic.find(index) else { return false };
        open.names.entry(id).or_insert_with(|| (0, partition.topic().clone())).0 += 1;
        open.by_id.insert((id, index), partition.clone());
        if topic.0.is_empty() {
            topic.0.reserve_exact(1);
        }
        topic.0.insert(place, partition);
        true
    }

    /// Takes a partition out.
    pub fn remove(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        let open = &mut *self.open.write();
        self.changes.fetch_add(1, AcqRel);
        let of_topic = open.by_name.get_mut(topic)?;
        let removed = of_topic.0.remove(of_topic.find(index).ok()?);
        if of_topic.0.is_empty() {
            open.by_name.remove(topic);
        }
        let id = removed.topic_id();
        open.by_id.remove(&(id, index));
        if let Some((count, _)) = open.names.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                open.names.remove(&id);
            }
        }
        Some(removed)
    }

    /// The open partitions of a topic, ascending by number.
    pub fn of_topic(&self, topic: &str) -> Vec<Arc<Partition>> {
        let open = self.open.read();
        open.by_name.get(topic).map(|it| it.0.clone()).unwrap_or_default()
    }

    /// All open partitions, by topic and number.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.those(|_| true)
    }

    /// The open partitions that are meant, by topic and number: of ten thousand that nobody uses few are, as a rule, and
    /// the others cost a look. Must not touch this table.
    pub fn those(&self, is_meant: impl Fn(&Partition) -> bool) -> Vec<Arc<Partition>> {
        let open = self.open.read();
        let each = open.by_name.values().flat_map(|it| it.0.iter());
        let mut found: Vec<_> = each.filter(|it| is_meant(it)).cloned().collect();
        drop(open);
        found.sort_by(|a, b| (a.topic(), a.index()).cmp(&(b.topic(), b.index())));
        found
    }
}
