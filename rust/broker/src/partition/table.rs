//! The partitions that are open here, by topic and number.

use super::Partition;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// The partitions of one topic that are open here, by number.
#[derive(Default)]
struct TopicPartitions {
    partitions: HashMap<i32, Arc<Partition>>,
}

/// All open partitions.
#[derive(Default)]
pub struct PartitionTable {
    topics: RwLock<HashMap<Arc<str>, TopicPartitions>>,
    names: RwLock<HashMap<Uuid, Arc<str>>>,
}

impl PartitionTable {
    /// The partition, if it is open here.
    pub fn get(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.topics.read().get(topic)?.partitions.get(&index).cloned()
    }

    /// The topic's name as a shared string: that of the open topic, if there is one.
    pub fn intern(&self, topic: &str) -> Arc<str> {
        self.topics.read().get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| name.clone())
    }

    /// The name of a topic of which partitions are open here.
    pub fn name(&self, topic_id: Uuid) -> Option<Arc<str>> {
        self.names.read().get(&topic_id).cloned()
    }

    /// Adds a partition; false when there is one of that name and number.
    pub fn insert(&self, partition: Arc<Partition>) -> bool {
        let mut topics = self.topics.write();
        let topic = topics.entry(partition.topic().clone()).or_default();
        match topic.partitions.entry(partition.index()) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                self.names.write().insert(partition.topic_id(), partition.topic().clone());
                place.insert(partition);
                true
            }
        }
    }

    /// Takes a partition out.
    pub fn remove(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        let mut topics = self.topics.write();
        let of_topic = topics.get_mut(topic)?;
        let removed = of_topic.partitions.remove(&index);
        if of_topic.partitions.is_empty() {
            self.names.write().retain(|_, name| &**name != topic);
            topics.remove(topic);
        }
        removed
    }

    /// The open partitions of a topic, ascending by number.
    pub fn of_topic(&self, topic: &str) -> Vec<Arc<Partition>> {
        let topics = self.topics.read();
        let mut found: Vec<_> =
            topics.get(topic).map(|it| it.partitions.values().cloned().collect()).unwrap_or_default();
        found.sort_by_key(|partition: &Arc<Partition>| partition.index());
        found
    }

    /// All open partitions, by topic and number.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.read();
        let mut all: Vec<_> = topics.values().flat_map(|it| it.partitions.values().cloned()).collect();
        all.sort_by(|a, b| (a.topic(), a.index()).cmp(&(b.topic(), b.index())));
        all
    }
}
