//! Who leads a partition that is not led here, and where that broker is: what a client needs to go on without asking for
//! metadata (KIP-951).

use crate::broker::Broker;
use crate::image::{Image, PublishedImage};
use crate::partition::PartitionTable;
use crate::reachable::Reachable;
use crate::request::context::RequestContext;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// What an answer that comes later keeps to tell leaders.
pub(crate) struct Leaders {
    node_id: i32,
    image: Arc<PublishedImage>,
    partitions: Arc<PartitionTable>,
    context: RequestContext,
}

/// The leaders that one answer tells.
pub(crate) struct LeaderHints<'a> {
    node_id: i32,
    image: Arc<Image>,
    partitions: &'a PartitionTable,
    context: &'a RequestContext,
    told: BTreeSet<i32>,
}

/// Where a leader is, for who asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeaderNode {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
}

impl Leaders {
    pub(crate) fn new(broker: &Broker, context: &RequestContext) -> Self {
        Self {
            node_id: broker.config.node_id,
            image: broker.image.clone(),
            partitions: broker.partitions.clone(),
            context: context.clone(),
        }
    }

    pub(crate) fn hints(&self) -> LeaderHints<'_> {
        LeaderHints {
            node_id: self.node_id,
            image: self.image.load().clone(),
            partitions: &self.partitions,
            context: &self.context,
            told: BTreeSet::new(),
        }
    }
}

impl<'a> LeaderHints<'a> {
    pub(crate) fn new(broker: &'a Broker, context: &'a RequestContext) -> Self {
        Self {
            node_id: broker.config.node_id,
            image: broker.image.load().clone(),
            partitions: &broker.partitions,
            context,
            told: BTreeSet::new(),
        }
    }

    /// Leader and leader epoch of a partition, of a topic named by its name or, where that is empty, its id; (-1, -1) where
    /// they are not known. The replica here may know of an election before the image does, or after it.
    pub(crate) fn leader(&mut self, topic: &str, topic_id: Uuid, index: i32) -> (i32, i32) {
        let named = if topic.is_empty() { self.name_of(topic_id) } else { Some(topic.into()) };
        let Some(topic) = named else { return (-1, -1) };
        let here = self.partitions.get(&topic, index).map(|it| (it.leader_id(), it.leader_epoch()));
        let described = self.image.topic(&topic).and_then(|it| {
            let partition = it.partitions.iter().find(|it| it.index == index);
            partition.map(|it| (it.leader_id, it.leader_epoch))
        });
        let (leader, epoch) = match (here, described) {
            (Some(here), Some(described)) if described.1 > here.1 => described,
            (here, described) => here.or(described).unwrap_or((-1, -1)),
        };
        if leader >= 0 {
            self.told.insert(leader);
        }
        (leader, epoch)
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        self.partitions.name(id).or_else(|| self.image.topic_by_id(id).map(|it| it.name.clone()))
    }

    /// Where those are that were told; who is not reached by the client's listener is left out.
    pub(crate) fn nodes(&self) -> Vec<LeaderNode> {
        let reachable = Reachable::new(&self.image, self.node_id, self.context);
        let told = self.told.iter().filter_map(|id| self.image.broker(*id));
        let nodes = told.filter_map(|broker| {
            let (host, port) = reachable.endpoint(broker)?;
            Some(LeaderNode { id: broker.id, host: host.to_owned(), port, rack: broker.rack.clone() })
        });
        nodes.collect()
    }
}
