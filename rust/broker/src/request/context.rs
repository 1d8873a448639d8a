//! Who asks: the context that every request carries through dispatch to the authorizer.

use std::net::SocketAddr;
use std::sync::Arc;

/// How a listener talks to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerProtocol {
    /// TCP, nothing encrypted.
    Plaintext,
    /// TLS over TCP.
    Ssl,
    /// SASL over TCP.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
    /// ZeroMQ: one message is one request.
    Zmq,
}

/// A listener as requests see it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The listener's name in `listeners`, for example `PLAINTEXT`.
    pub name: String,
    /// How it talks.
    pub protocol: ListenerProtocol,
    /// Whether other brokers may act as replicas here (`inter.broker.listener.name`).
    pub inter_broker: bool,
    /// Host and port that it listens at, named in Metadata when neither `advertised.listeners` nor the
    /// connection tells a better one (ZeroMQ does not tell the local address of a connection).
    pub host: String,
    /// The bound port.
    pub port: u16,
}

/// Who asks, and from where. The client id comes with each request's header.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The listener that the request came in by.
    pub listener: Arc<Listener>,
    /// The authenticated principal, `User:ANONYMOUS` without authentication.
    pub principal: Arc<str>,
    /// The peer's address; None where the transport does not tell (ZeroMQ).
    pub client_address: Option<SocketAddr>,
    /// The address that the client connected to; None where the transport does not tell.
    pub local_address: Option<SocketAddr>,
    /// The connection's number, unique in this process.
    pub connection_id: u64,
}

impl RequestContext {
    /// The peer's address for log lines.
    pub fn client(&self) -> String {
        self.client_address.map_or_else(|| format!("connection {}", self.connection_id), |it| it.to_string())
    }
}

/// Kafka's ACL operations, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch, ListOffsets.
    Read = 3,
    /// Produce.
    Write = 4,
    /// CreateTopics.
    Create = 5,
    /// DeleteTopics, DeleteRecords.
    Delete = 6,
    /// CreatePartitions.
    Alter = 7,
    /// Metadata, OffsetForLeaderEpoch.
    Describe = 8,
    /// What only brokers do.
    ClusterAction = 9,
    /// DescribeConfigs.
    DescribeConfigs = 10,
    /// AlterConfigs, IncrementalAlterConfigs.
    AlterConfigs = 11,
    /// InitProducerId.
    IdempotentWrite = 12,
}

impl Operation {
    /// What can be done to a topic.
    pub const OF_TOPIC: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::DescribeConfigs,
        Self::AlterConfigs,
    ];
    /// What can be done to the cluster.
    pub const OF_CLUSTER: [Self; 7] = [
        Self::Create,
        Self::Alter,
        Self::Describe,
        Self::ClusterAction,
        Self::DescribeConfigs,
        Self::AlterConfigs,
        Self::IdempotentWrite,
    ];
}

/// What an operation is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic by its name.
    Topic(&'a str),
    /// The cluster itself.
    Cluster,
}

/// Says who may do what. Called on I/O threads: it must not block.
pub trait Authorizer: Send + Sync {
    /// Whether `context`'s principal may do `operation` on `resource`.
    fn allows(&self, context: &RequestContext, operation: Operation, resource: Resource<'_>) -> bool;
}

/// The authorizer of a broker without ACLs.
#[derive(Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _: &RequestContext, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}
