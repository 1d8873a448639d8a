//! What a user of the data plane's messages relies on; layouts are judged in tests/messages.rs.

use super::{api_versions, fetch, metadata, produce};
use crate::primitives::{ProtocolError, Reader, Writer};

fn written(write: impl FnOnce(&mut Writer) -> Result<(), ProtocolError>) -> Vec<u8> {
    let mut w = Writer::new();
    write(&mut w).unwrap();
    w.into_bytes()
}

fn response(records: &[u8]) -> fetch::FetchResponse<'_> {
    let partition = fetch::PartitionData {
        partition_index: 3,
        high_watermark: 8,
        diverging_epoch: fetch::EpochEndOffset { epoch: 1, end_offset: 2 },
        records: Some(records),
        ..Default::default()
    };
    let topic =
        fetch::FetchableTopicResponse { topic: "t", partitions: vec![partition], ..Default::default() };
    fetch::FetchResponse { session_id: 9, responses: vec![topic], ..Default::default() }
}

#[test]
fn a_fetch_response_in_parts_is_the_same_bytes_as_whole() {
    let whole = response(b"records");
    for version in 4..=18 {
        let parts = written(|w| {
            whole.encode_head(w, version, 1)?;
            let topic = &whole.responses[0];
            topic.encode_head(w, version, 1)?;
            topic.partitions[0].encode_head(w, version, Some(7))?;
            w.raw(b"records");
            topic.partitions[0].encode_tail(w, version)?;
            topic.encode_tail(w, version)?;
            whole.encode_tail(w, version)
        });
        assert_eq!(parts, written(|w| whole.encode(w, version)), "version {version}");
    }
}

#[test]
fn fields_that_a_version_lacks_get_their_defaults() {
    let bytes = written(|w| response(b"").encode(w, 4));
    let read = fetch::FetchResponse::decode(&mut Reader::new(&bytes), 4).unwrap();
    let partition = &read.responses[0].partitions[0];
    assert_eq!((read.session_id, partition.log_start_offset, partition.preferred_read_replica), (0, -1, -1));
    assert_eq!(partition.diverging_epoch, fetch::EpochEndOffset { epoch: -1, end_offset: -1 });
}

#[test]
fn our_metadata_tag_comes_back_and_costs_nothing_when_absent() {
    let mut broker =
        metadata::MetadataResponseBroker { node_id: 1, host: "h", port: 2, ..Default::default() };
    let plain = written(|w| broker.encode(w, 12));
    assert_eq!(plain.last(), Some(&0));
    broker.zmq_endpoint = Some("h:9192");
    let tagged = written(|w| broker.encode(w, 12));
    let read = metadata::MetadataResponseBroker::decode(&mut Reader::new(&tagged), 12);
    assert_eq!(read, Ok(broker.clone()));
    assert_eq!(written(|w| broker.encode(w, 8)).len(), 4 + 3 + 4 + 2);
}

#[test]
fn a_null_topic_array_asks_for_all_topics_and_version_0_cannot_say_it() {
    let all = metadata::MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(written(|w| all.encode(w, 1)), b"\xff\xff\xff\xff");
    assert_eq!(all.encode(&mut Writer::new(), 0), Err(ProtocolError::NullField { field: "topics" }));
    let none = metadata::MetadataRequest::decode(&mut Reader::new(b"\0\0\0\0"), 1);
    assert_eq!(none.map(|request| request.topics), Ok(Some(Vec::new())));
}

#[test]
fn versions_outside_the_table_are_refused() {
    let refused = produce::ProduceRequest::decode(&mut Reader::new(b""), 2);
    assert_eq!(refused, Err(ProtocolError::UnsupportedVersion { message: "ProduceRequest", version: 2 }));
    assert!(api_versions::ApiVersionsRequest::decode(&mut Reader::new(b""), 99).is_err());
    assert_eq!(api_versions::ApiVersionsRequest::decode(&mut Reader::new(b""), 0), Ok(Default::default()));
}
