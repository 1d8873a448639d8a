//! `ApiVersions` (key 18), versions 0-4.
//!
//! An unknown version is answered with version 0's body, error 35 and the whole list (KIP-511). From version 3
//! on the client's software name and version are checked. `group.version` 1 is announced where groups of the consumer
//! protocol are served (KIP-584, KIP-848): admin clients look there whether a cluster has them.

use super::respond;
use crate::broker::Broker;
use crate::dispatch::{Incoming, SERVED};
use crate::request::response::Outcome;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use fastlog_protocol::primitives::ProtocolError;

const GROUP_VERSION: &str = "group.version";

pub(crate) fn handle(broker: &Broker, incoming: &Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let is_served = SERVED.iter().any(|it| it.key == api_key::API_VERSIONS && it.contains(version));
    let (error, body_version) = if is_served {
        let request = ApiVersionsRequest::decode(&mut incoming.body(), version)?;
        (check_client(&request, version), version)
    } else {
        (ErrorCode::UNSUPPORTED_VERSION, 0)
    };
    let api_keys = if error == ErrorCode::INVALID_REQUEST { Vec::new() } else { api_keys(broker) };
    let has_consumer_groups = api_keys.iter().any(|it| it.api_key == api_key::CONSUMER_GROUP_HEARTBEAT);
    let mut response =
        ApiVersionsResponse { error_code: error.0, api_keys, ..ApiVersionsResponse::default() };
    if has_consumer_groups {
        announce_group_version(&mut response, body_version);
    }
    Ok(Outcome::Now(respond(incoming, |writer, _| response.encode(writer, body_version))?))
}

/// Before version 4 a feature whose least version is 0 is left out of those that are supported (KAFKA-17011).
fn announce_group_version(response: &mut ApiVersionsResponse<'_>, version: i16) {
    if version >= 4 {
        response.supported_features =
            vec![SupportedFeatureKey { name: GROUP_VERSION, min_version: 0, max_version: 1 }];
    }
    response.finalized_features_epoch = 0;
    response.finalized_features =
        vec![FinalizedFeatureKey { name: GROUP_VERSION, max_version_level: 1, min_version_level: 1 }];
}

fn check_client(request: &ApiVersionsRequest<'_>, version: i16) -> ErrorCode {
    let is_named = || {
        is_software_name(request.client_software_name) && is_software_name(request.client_software_version)
    };
    if version < 3 || is_named() { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST }
}

/// KIP-511: letters, digits, `-` and `.`, a letter or digit at both ends.
fn is_software_name(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(allowed)
}

/// What is served here and by the control plane, ascending by key.
fn api_keys(broker: &Broker) -> Vec<ApiVersion> {
    let here = SERVED.iter().map(|range| {
        let min_version = if range.key == api_key::PRODUCE { 0 } else { range.min_version };
        ApiVersion { api_key: range.key, min_version, max_version: range.max_version }
    });
    let mut keys: Vec<_> = here.collect();
    let image = broker.image.load();
    for range in image.control_apis.iter().chain(&image.group_apis) {
        if SERVED.iter().all(|it| it.key != range.key) {
            keys.push(ApiVersion {
                api_key: range.key,
                min_version: range.min_version,
                max_version: range.max_version,
            });
        }
    }
    keys.sort_by_key(|it| it.api_key);
    keys
}

#[cfg(test)]
mod tests {
    use super::is_software_name;

    #[test]
    fn software_names_are_checked_as_in_kafka() {
        for good in ["apache-kafka-java", "a", "librdkafka", "4.3.1", "v1.2-rc"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".a", "a b", "a_b", "a\n", "ü"] {
            assert!(!is_software_name(bad), "{bad:?}");
        }
    }
}
