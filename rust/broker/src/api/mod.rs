//! One file per API of the data plane.

pub(crate) mod api_versions;
pub(crate) mod fetch;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;

use crate::broker::Broker;
use crate::dispatch::Incoming;
use crate::request::context::{Operation, Resource};
use crate::request::response::Response;
use fastlog_protocol::header::write_response_header;
use fastlog_protocol::primitives::{ProtocolError, Writer};

/// A writer that has the header of the response to `incoming`.
pub(crate) fn response_writer(incoming: &Incoming<'_, '_>, capacity: usize) -> Writer {
    let header = &incoming.header;
    let mut writer = Writer::with_capacity(capacity);
    write_response_header(&mut writer, header.api_key, header.api_version, header.correlation_id);
    writer
}

/// The response to `incoming` whose body `encode` writes.
pub(crate) fn respond(
    incoming: &Incoming<'_, '_>,
    encode: impl FnOnce(&mut Writer, i16) -> Result<(), ProtocolError>,
) -> Result<Response, ProtocolError> {
    let mut writer = response_writer(incoming, 256);
    encode(&mut writer, incoming.header.api_version)?;
    Ok(writer.into_bytes().into())
}

/// Whether who asks may act as a replica: only on a listener for brokers.
pub(crate) fn may_replicate(broker: &Broker, incoming: &Incoming<'_, '_>) -> bool {
    let context = incoming.context;
    context.listener.inter_broker && broker.allows(context, Operation::ClusterAction, Resource::Cluster)
}
