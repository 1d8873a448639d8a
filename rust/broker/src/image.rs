//! The metadata image: brokers and topics as the control plane publishes them.
//!
//! Requests read the current image without a lock; the control plane replaces it whole or by a change to a copy. A copy
//! shares all topics but those that change, so that the ten thousandth topic costs what the first one did.

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use rpds::HashTrieMapSync;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Kafka's own topics, which clients read and do not write.
const INTERNAL_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// Whether a topic of that name is one of Kafka's own.
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// What Metadata answers from.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The cluster's id.
    pub cluster_id: String,
    /// Which broker to send controller requests to; -1 when none is known.
    pub controller_id: i32,
    /// Live brokers, ascending by id.
    pub brokers: Vec<ImageBroker>,
    /// `auto.create.topics.enable`: a Metadata request that may create topics goes to the control plane.
    pub auto_create_topics: bool,
    /// The APIs that the control plane serves.
    pub control_apis: Vec<ApiRange>,
    /// Those of groups, which the control plane serves on a thread of their own.
    pub group_apis: Vec<ApiRange>,
    topics: HashTrieMapSync<Arc<str>, Arc<ImageTopic>>,
    names: HashTrieMapSync<Uuid, Arc<str>>,
}

/// A broker of the cluster.
#[derive(Clone, Debug, Default)]
pub struct ImageBroker {
    /// `node.id`
    pub id: i32,
    /// `broker.rack`
    pub rack: Option<String>,
    /// Host and port by listener name: those of `advertised.listeners`, and all listeners of other brokers. This
    /// broker's own listeners that are not named here are answered with the address that the client connected to.
    pub endpoints: HashMap<String, (String, u16)>,
    /// `host:port` of the ZeroMQ listener that clients may use; `:port`, of this broker only, is at the host that
    /// the client is connected to.
    pub zmq_endpoint: Option<String>,
}

/// A topic of the cluster.
#[derive(Clone, Debug)]
pub struct ImageTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id.
    pub id: Uuid,
    /// Whether it is one of Kafka's own (`__consumer_offsets`).
    pub is_internal: bool,
    /// Its partitions, ascending by index.
    pub partitions: Vec<ImagePartition>,
}

/// A partition of a topic.
#[derive(Clone, Debug, Default)]
pub struct ImagePartition {
    /// The partition's number.
    pub index: i32,
    /// The leader's node id, -1 without one.
    pub leader_id: i32,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Node ids, the preferred leader first.
    pub replicas: Arc<[i32]>,
    /// Node ids of the in-sync replicas: the same list, as a rule.
    pub isr: Arc<[i32]>,
}

/// An API and the versions served, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// The API's key.
    pub key: i16,
    /// The first version.
    pub min_version: i16,
    /// The last version.
    pub max_version: i16,
}

/// Which of the control plane's queues a request waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Topics, settings, and whatever has no queue of its own.
    Control,
    /// Groups and their offsets.
    Groups,
}

impl ApiRange {
    /// Whether the version is one of them.
    pub fn contains(&self, version: i16) -> bool {
        (self.min_version..=self.max_version).contains(&version)
    }
}

impl Image {
    /// The live broker of that id.
    pub fn broker(&self, id: i32) -> Option<&ImageBroker> {
        self.brokers.iter().find(|it| it.id == id)
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<ImageTopic>> {
        self.topics.get(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<ImageTopic>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// All topics, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<ImageTopic>> {
        self.topics.values()
    }

    /// Adds a topic, in the place of one of the same name.
    pub fn put_topic(&mut self, topic: ImageTopic) {
        self.remove_topic(&topic.name.clone());
        self.names.insert_mut(topic.id, topic.name.clone());
        self.topics.insert_mut(topic.name.clone(), Arc::new(topic));
    }

    /// Removes a topic; false when there is none of that name.
    pub fn remove_topic(&mut self, name: &str) -> bool {
        let Some(id) = self.topics.get(name).map(|topic| topic.id) else { return false };
        self.topics.remove_mut(name);
        self.names.remove_mut(&id);
        true
    }

    /// The queue of an API that the control plane serves in that version.
    pub fn lane(&self, key: i16, version: i16) -> Option<Lane> {
        let serves = |apis: &[ApiRange]| apis.iter().any(|it| it.key == key && it.contains(version));
        if serves(&self.group_apis) {
            Some(Lane::Groups)
        } else {
            serves(&self.control_apis).then_some(Lane::Control)
        }
    }
}

/// The image in force.
pub struct PublishedImage {
    current: ArcSwap<Image>,
    /// One change at a time; readers do not take it.
    writer: Mutex<()>,
}

impl PublishedImage {
    pub(crate) fn new() -> Self {
        let image = Image { controller_id: -1, ..Image::default() };
        Self { current: ArcSwap::from_pointee(image), writer: Mutex::new(()) }
    }

    /// The image in force; hold it only for the length of a request.
    pub fn load(&self) -> Guard<Arc<Image>> {
        self.current.load()
    }

    /// Puts another image in force.
    pub fn publish(&self, image: Image) {
        let _one_at_a_time = self.writer.lock();
        self.current.store(Arc::new(image));
    }

    /// Changes a copy of the image and puts it in force. The copy costs the same however many topics there are, a
    /// change of one a few microseconds.
    pub fn update(&self, change: impl FnOnce(&mut Image)) {
        let _one_at_a_time = self.writer.lock();
        let mut image = Image::clone(&self.current.load());
        change(&mut image);
        self.current.store(Arc::new(image));
    }
}

/// Whether Kafka allows the topic name: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
pub fn is_valid_topic_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, id: u128) -> ImageTopic {
        ImageTopic { name: name.into(), id: Uuid::from_u128(id), is_internal: false, partitions: Vec::new() }
    }

    #[test]
    fn a_recreated_topic_is_known_by_its_new_id_only() {
        let image = PublishedImage::new();
        image.update(|image| image.put_topic(topic("t", 1)));
        image.update(|image| image.put_topic(topic("t", 2)));
        let now = image.load();
        assert!(now.topic_by_id(Uuid::from_u128(1)).is_none());
        assert_eq!(&*now.topic_by_id(Uuid::from_u128(2)).unwrap().name, "t");
        image.update(|image| assert!(image.remove_topic("t")));
        assert!(now.topic("t").is_some(), "a reader keeps the image that it loaded");
        assert!(image.load().topic("t").is_none());
    }

    #[test]
    fn topic_names_are_checked_as_in_kafka() {
        assert!(is_valid_topic_name("a.b_c-1"));
        assert!(is_valid_topic_name(&"x".repeat(249)));
        for bad in ["", ".", "..", "../x", "a b", "ü", &"x".repeat(250)] {
            assert!(!is_valid_topic_name(bad), "{bad}");
        }
    }
}
