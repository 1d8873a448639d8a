//! The data plane's generated messages by API key.

use crate::common::Direction;
use fastlog_protocol::api_key;
use fastlog_protocol::messages::{
    api_versions as v, fetch as f, list_offsets as l, metadata as m, offset_for_leader_epoch as e,
    produce as p,
};
use fastlog_protocol::primitives::{ProtocolError, Reader, Writer};

/// The APIs that have generated messages.
pub(crate) const KEYS: [i16; 6] = [
    api_key::PRODUCE,
    api_key::FETCH,
    api_key::LIST_OFFSETS,
    api_key::METADATA,
    api_key::API_VERSIONS,
    api_key::OFFSET_FOR_LEADER_EPOCH,
];

macro_rules! again {
    ($message:ty, $bytes:expr, $version:expr) => {{
        let mut r = Reader::new($bytes);
        let message = <$message>::decode(&mut r, $version)?;
        r.expect_end()?;
        let mut w = Writer::new();
        message.encode(&mut w, $version)?;
        Ok(w.into_bytes())
    }};
}

/// Reads a message to its last byte and writes it again.
pub(crate) fn again(
    key: i16,
    direction: Direction,
    version: i16,
    bytes: &[u8],
) -> Result<Vec<u8>, ProtocolError> {
    match (key, direction) {
        (api_key::PRODUCE, Direction::Request) => again!(p::ProduceRequest<'_>, bytes, version),
        (api_key::PRODUCE, Direction::Response) => again!(p::ProduceResponse<'_>, bytes, version),
        (api_key::FETCH, Direction::Request) => again!(f::FetchRequest<'_>, bytes, version),
        (api_key::FETCH, Direction::Response) => again!(f::FetchResponse<'_>, bytes, version),
        (api_key::LIST_OFFSETS, Direction::Request) => again!(l::ListOffsetsRequest<'_>, bytes, version),
        (api_key::LIST_OFFSETS, Direction::Response) => again!(l::ListOffsetsResponse<'_>, bytes, version),
        (api_key::METADATA, Direction::Request) => again!(m::MetadataRequest<'_>, bytes, version),
        (api_key::METADATA, Direction::Response) => again!(m::MetadataResponse<'_>, bytes, version),
        (api_key::API_VERSIONS, Direction::Request) => again!(v::ApiVersionsRequest<'_>, bytes, version),
        (api_key::API_VERSIONS, Direction::Response) => again!(v::ApiVersionsResponse<'_>, bytes, version),
        (_, Direction::Request) => again!(e::OffsetForLeaderEpochRequest<'_>, bytes, version),
        (_, Direction::Response) => again!(e::OffsetForLeaderEpochResponse<'_>, bytes, version),
    }
}
