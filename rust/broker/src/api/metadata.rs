//! `Metadata` (key 3), versions 0-13, answered from the published image.
//!
//! A request that may create topics goes to the control plane whole: the broker creates topics
//! (`auto.create.topics.enable`), the client allows it, and a topic that it names by a valid name is missing.
//! Brokers are named by the address of the listener that the client asked on; those without it are left out. A partition
//! whose leader is none, or not among them, has error 5 (from version 6 on 72 where the leader lives), and its replicas
//! there are offline. From version 9 on each broker's ZeroMQ endpoint rides along in tag 10000, which other clients skip. Topic ids are for version 12 and up: before it
//! a request with one, or with a null name, is `INVALID_REQUEST` as a whole, as in Kafka. Differs from Apache Kafka:
//! names beside ids are answered too, and a null name without an id fails alone.
//! KIPs: 430 (authorized operations, v8), 516 (topic ids, v10), 1102 (an error of the whole answer, v13, which no broker
//! has a reason for yet).

use super::respond;
use crate::broker::Broker;
use crate::dispatch::{Incoming, enqueue};
use crate::image::{Image, ImageBroker, ImagePartition, ImageTopic, Lane, is_valid_topic_name};
use crate::reachable::Reachable;
use crate::request::context::{ListenerProtocol, Operation, RequestContext, Resource};
use crate::request::response::Outcome;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use fastlog_protocol::primitives::ProtocolError;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// The first version whose requests may name topics by their ids.
const TOPIC_IDS_VERSION: i16 = 12;
/// The first version whose clients know `LISTENER_NOT_FOUND`.
const LISTENER_NOT_FOUND_VERSION: i16 = 6;
/// "The client did not ask for authorized operations."
const NOT_ASKED: i32 = i32::MIN;

pub(crate) fn handle(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let request = MetadataRequest::decode(&mut incoming.body(), version)?;
    if may_create_topics(&request, version, &broker.image.load()) {
        return Ok(enqueue(broker, incoming, Lane::Control));
    }
    answer(broker, incoming)
}

/// Answers from the image, whatever is missing in it.
pub(crate) fn answer(broker: &Broker, incoming: &Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let request = MetadataRequest::decode(&mut incoming.body(), version)?;
    if version < TOPIC_IDS_VERSION && named_topics(&request, version).is_some_and(|it| it.iter().any(has_id))
    {
        return refuse(incoming, &request);
    }
    let image = broker.image.load();
    let own_zmq = image
        .broker(broker.config.node_id)
        .and_then(|it| it.zmq_endpoint.as_deref())
        .map(|endpoint| complete(endpoint, incoming.context));
    let reachable = Reachable::new(&image, broker.config.node_id, incoming.context);
    let asked = Asked { broker, context: incoming.context, image: &image, reachable, own_zmq, version };
    let response = MetadataResponse {
        brokers: image.brokers.iter().filter_map(|it| asked.describe_broker(it)).collect(),
        cluster_id: Some(&image.cluster_id),
        controller_id: image.controller_id,
        topics: asked.topics(&request),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            asked.operations(&Operation::OF_CLUSTER, Resource::Cluster)
        } else {
            NOT_ASKED
        },
        ..MetadataResponse::default()
    };
    Ok(Outcome::Now(respond(incoming, |writer, version| response.encode(writer, version))?))
}

fn has_id(topic: &MetadataRequestTopic<'_>) -> bool {
    !topic.topic_id.is_nil() || topic.name.is_none()
}

/// The answer in which every topic failed.
fn refuse(incoming: &Incoming<'_, '_>, request: &MetadataRequest<'_>) -> Result<Outcome, ProtocolError> {
    let topics = request.topics.iter().flatten();
    let refused = topics
        .map(|topic| missing(ErrorCode::INVALID_REQUEST, Some(topic.name.unwrap_or("")), topic.topic_id));
    let response =
        MetadataResponse { topics: refused.collect(), controller_id: -1, ..MetadataResponse::default() };
    Ok(Outcome::Now(respond(incoming, |writer, version| response.encode(writer, version))?))
}

/// Null asks for all topics; before version 1 there is no null, and an empty list means that.
fn named_topics<'r, 'a>(
    request: &'r MetadataRequest<'a>,
    version: i16,
) -> Option<&'r Vec<MetadataRequestTopic<'a>>> {
    request.topics.as_ref().filter(|topics| version > 0 || !topics.is_empty())
}

/// An endpoint without a host is reached at the host that the client is connected to.
fn complete(endpoint: &str, context: &RequestContext) -> String {
    match context.local_address.map(|it| it.ip().to_canonical()) {
        Some(IpAddr::V4(host)) if endpoint.starts_with(':') => format!("{host}{endpoint}"),
        Some(IpAddr::V6(host)) if endpoint.starts_with(':') => format!("[{host}]{endpoint}"),
        _ => endpoint.to_owned(),
    }
}

fn may_create_topics(request: &MetadataRequest<'_>, version: i16, image: &Image) -> bool {
    // the flag came with version 4; older clients always allow it
    let client_allows = version < 4 || request.allow_auto_topic_creation;
    let is_missing = |topic: &MetadataRequestTopic<'_>| {
        topic.topic_id.is_nil()
            && topic.name.is_some_and(|name| image.topic(name).is_none() && is_valid_topic_name(name))
    };
    client_allows
        && image.auto_create_topics
        && named_topics(request, version).is_some_and(|topics| topics.iter().any(is_missing))
}

/// Who asked, and what is known.
struct Asked<'a> {
    broker: &'a Broker,
    context: &'a RequestContext,
    image: &'a Image,
    reachable: Reachable<'a>,
    own_zmq: Option<String>,
    version: i16,
}

impl<'a> Asked<'a> {
    /// The broker with its address on the listener that was asked; None when it has no such listener.
    fn describe_broker(&'a self, broker: &'a ImageBroker) -> Option<MetadataResponseBroker<'a>> {
        let (host, port) = self.reachable.endpoint(broker)?;
        let is_own = broker.id == self.broker.config.node_id;
        let wants_zmq = self.context.listener.protocol != ListenerProtocol::Zmq && self.version >= 9;
        Some(MetadataResponseBroker {
            node_id: broker.id,
            host,
            port: port.into(),
            rack: broker.rack.as_deref(),
            zmq_endpoint: if is_own { &self.own_zmq } else { &broker.zmq_endpoint }
                .as_deref()
                .filter(|_| wants_zmq),
        })
    }

    fn topics<'r>(&'r self, request: &'r MetadataRequest<'r>) -> Vec<MetadataResponseTopic<'r>> {
        let mut found: Vec<_> = match named_topics(request, self.version) {
            Some(topics) => {
                // one that is named twice has one answer
                let mut seen = HashSet::with_capacity(topics.len());
                let once = topics.iter().filter(|topic| seen.insert((topic.name, topic.topic_id)));
                once.map(|topic| self.named_topic(topic)).collect()
            }
            None => {
                let mut all: Vec<_> = self.image.topics().collect();
                all.sort_by(|a, b| a.name.cmp(&b.name));
                all.retain(|topic| self.may_describe(&topic.name));
                all.into_iter().map(|topic| self.describe_topic(topic)).collect()
            }
        };
        if request.include_topic_authorized_operations {
            found = found.into_iter().map(|topic| self.with_operations(topic)).collect();
        }
        found
    }

    fn named_topic<'r>(&'r self, asked: &MetadataRequestTopic<'r>) -> MetadataResponseTopic<'r> {
        if !asked.topic_id.is_nil() {
            return self.topic_by_id(asked.topic_id);
        }
        // Kafka refuses the whole request here; a topic of its own code says more
        let Some(name) = asked.name else {
            return missing(ErrorCode::INVALID_REQUEST, Some(""), Uuid::nil());
        };
        if !is_valid_topic_name(name) {
            return missing(ErrorCode::INVALID_TOPIC_EXCEPTION, Some(name), Uuid::nil());
        }
        if !self.may_describe(name) {
            return missing(ErrorCode::TOPIC_AUTHORIZATION_FAILED, Some(name), Uuid::nil());
        }
        match self.image.topic(name) {
            Some(topic) => self.describe_topic(topic),
            None => missing(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(name), Uuid::nil()),
        }
    }

    fn topic_by_id<'r>(&'r self, id: Uuid) -> MetadataResponseTopic<'r> {
        match self.image.topic_by_id(id).filter(|topic| self.may_describe(&topic.name)) {
            Some(topic) => self.describe_topic(topic),
            None => missing(ErrorCode::UNKNOWN_TOPIC_ID, None, id),
        }
    }

    /// The topic with what the client may do to it, whether it is there or not.
    fn with_operations<'r>(&self, mut topic: MetadataResponseTopic<'r>) -> MetadataResponseTopic<'r> {
        if let Some(name) = topic.name
            && topic.error_code != ErrorCode::TOPIC_AUTHORIZATION_FAILED.0
        {
            topic.topic_authorized_operations = self.operations(&Operation::OF_TOPIC, Resource::Topic(name));
        }
        topic
    }

    /// One bit for each of `operations` that the client may do.
    fn operations(&self, operations: &[Operation], resource: Resource<'_>) -> i32 {
        let allowed = operations.iter().filter(|it| self.broker.allows(self.context, **it, resource));
        allowed.fold(0, |bits, operation| bits | 1 << *operation as i32)
    }

    fn describe_topic<'r>(&self, topic: &'r Arc<ImageTopic>) -> MetadataResponseTopic<'r> {
        MetadataResponseTopic {
            name: Some(&topic.name),
            topic_id: topic.id,
            is_internal: topic.is_internal,
            partitions: topic.partitions.iter().map(|it| self.describe_partition(it)).collect(),
            ..MetadataResponseTopic::default()
        }
    }

    /// As Kafka's `MetadataCache`: who cannot be reached by this listener leads nothing and is offline, for this client.
    fn describe_partition(&self, partition: &ImagePartition) -> MetadataResponsePartition {
        let reached = |ids: &[i32]| ids.iter().copied().filter(|it| self.reachable.has(*it)).collect();
        let (replicas, isr): (Vec<i32>, Vec<i32>) = if self.version == 0 {
            // there was no field for those that are offline
            (reached(&partition.replicas), reached(&partition.isr))
        } else {
            (partition.replicas.to_vec(), partition.isr.to_vec())
        };
        let leader = partition.leader_id;
        let is_led = leader >= 0 && self.reachable.has(leader);
        let error = if is_led {
            let is_whole = (replicas.len(), isr.len()) == (partition.replicas.len(), partition.isr.len());
            if is_whole { ErrorCode::NONE } else { ErrorCode::REPLICA_NOT_AVAILABLE }
        } else if self.version >= LISTENER_NOT_FOUND_VERSION && self.reachable.is_live(leader) {
            ErrorCode::LISTENER_NOT_FOUND
        } else {
            ErrorCode::LEADER_NOT_AVAILABLE
        };
        MetadataResponsePartition {
            error_code: error.0,
            partition_index: partition.index,
            leader_id: if is_led { leader } else { -1 },
            leader_epoch: partition.leader_epoch,
            offline_replicas: partition
                .replicas
                .iter()
                .copied()
                .filter(|it| !self.reachable.has(*it))
                .collect(),
            replica_nodes: replicas,
            isr_nodes: isr,
        }
    }

    fn may_describe(&self, name: &str) -> bool {
        self.broker.allows(self.context, Operation::Describe, Resource::Topic(name))
    }
}

fn missing(error: ErrorCode, name: Option<&str>, topic_id: Uuid) -> MetadataResponseTopic<'_> {
    MetadataResponseTopic { error_code: error.0, name, topic_id, ..MetadataResponseTopic::default() }
}
