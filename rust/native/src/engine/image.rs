//! The metadata image, from Python's topics.

use fastlog_broker::{ApiRange, Image, ImageBroker, ImagePartition, ImageTopic, is_internal_topic};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Host and port by listener name.
pub(super) type Endpoints = HashMap<String, (String, u16)>;

/// A live broker: id, rack, endpoints.
pub(super) type Other = (i32, Option<String>, Endpoints);

/// The name of listeners that speak ZeroMQ with clients.
const ZMQ: &str = "ZMQ";

/// An API that Python serves: key, first and last version, whether it is one of groups.
pub(super) type Api = (i16, i16, i16, bool);

/// `fastlog.ports.Topic`.
#[derive(FromPyObject)]
pub(crate) struct Topic {
    name: String,
    #[pyo3(attribute("topic_id"), from_py_with = uuid)]
    topic_id: Uuid,
    partitions: Vec<Partition>,
}

/// `fastlog.ports.PartitionState`.
#[derive(FromPyObject)]
struct Partition {
    replicas: Vec<i32>,
    leader: i32,
    leader_epoch: i32,
    isr: Vec<i32>,
}

/// A `uuid.UUID`.
fn uuid(value: &Bound<'_, PyAny>) -> PyResult<Uuid> {
    Ok(Uuid::from_bytes(value.getattr("bytes")?.extract()?))
}

pub(super) fn change_topics(image: &mut Image, put: Vec<Topic>, removed: &[String]) {
    for name in removed {
        image.remove_topic(name);
    }
    for topic in put {
        image.put_topic(topic.into());
    }
}

impl From<Topic> for ImageTopic {
    fn from(topic: Topic) -> Self {
        let partitions = (0..).zip(topic.partitions).map(|(index, it)| {
            let replicas: Arc<[i32]> = it.replicas.into();
            let isr = if *it.isr == *replicas { replicas.clone() } else { it.isr.into() };
            ImagePartition { index, leader_id: it.leader, leader_epoch: it.leader_epoch, replicas, isr }
        });
        Self {
            is_internal: is_internal_topic(&topic.name),
            id: topic.topic_id,
            partitions: partitions.collect(),
            name: topic.name.into(),
        }
    }
}

/// The live brokers, ascending by id: this one, which `zmq` says how to reach by ZeroMQ, and the others.
pub(super) fn brokers(own: Other, zmq: Option<(String, u16)>, others: Vec<Other>) -> Vec<ImageBroker> {
    let (own_id, rack, endpoints) = own;
    let mut all = vec![ImageBroker { id: own_id, rack, endpoints, zmq_endpoint: zmq.map(joined) }];
    let others = others.into_iter().filter(|(id, ..)| *id != own_id);
    all.extend(others.map(|(id, rack, endpoints)| {
        let zmq_endpoint = endpoints.get(ZMQ).cloned().map(joined);
        ImageBroker { id, rack, endpoints, zmq_endpoint }
    }));
    all.sort_by_key(|it| it.id);
    all
}

fn joined((host, port): (String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Those of groups, and the others.
pub(super) fn apis(rows: Vec<Api>) -> (Vec<ApiRange>, Vec<ApiRange>) {
    let (groups, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|&(.., is_of_groups)| is_of_groups);
    let range = |(key, min_version, max_version, _)| ApiRange { key, min_version, max_version };
    (groups.into_iter().map(range).collect(), others.into_iter().map(range).collect())
}
