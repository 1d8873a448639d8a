//! Metadata: semantics row 79 f), addresses, ids, and requests that may create topics.

use crate::harness::*;
use fastlog_broker::{ImageBroker, ImagePartition, ImageTopic};
use fastlog_log::LogConfig;
use fastlog_protocol::api_key;
use fastlog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use uuid::Uuid;

fn named<'a>(names: &[&'a str]) -> MetadataRequest<'a> {
    let topics = names.iter().map(|name| MetadataRequestTopic { name: Some(name), topic_id: Uuid::nil() });
    let allow_auto_topic_creation = false;
    MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation,
        ..MetadataRequest::default()
    }
}

fn ask<T>(
    client: &mut Client,
    version: i16,
    request: &MetadataRequest<'_>,
    look: impl FnOnce(MetadataResponse<'_>) -> T,
) -> T {
    let body = client.call(api_key::METADATA, version, |w| request.encode(w, version).unwrap());
    decode(&body, version, MetadataResponse::decode, look)
}

/// Names and errors of the topics answered.
fn topics(client: &mut Client, version: i16, request: &MetadataRequest<'_>) -> Vec<(String, i16)> {
    ask(client, version, request, |response| {
        let topics = response.topics.iter();
        topics.map(|it| (it.name.unwrap_or("-").to_owned(), it.error_code)).collect()
    })
}

#[test]
fn every_version_describes_the_cluster() {
    let node = Node::start();
    node.topic_with("t", 2, LogConfig::default());
    let mut client = node.client();
    for version in 0..=12 {
        ask(&mut client, version, &named(&["t"]), |response| {
            let broker = &response.brokers[0];
            assert_eq!(
                (broker.node_id, broker.host, broker.port),
                (1, "127.0.0.1", node.address.port().into())
            );
            assert_eq!(response.controller_id, if version >= 1 { 1 } else { -1 });
            assert_eq!(response.cluster_id, (version >= 2).then_some("test-cluster"));
            let topic = &response.topics[0];
            assert_eq!((topic.error_code, topic.name, topic.partitions.len()), (0, Some("t"), 2));
            assert_eq!(topic.topic_id.is_nil(), version < 10);
            assert_eq!(topic.topic_authorized_operations, i32::MIN);
            let partition = &topic.partitions[1];
            assert_eq!((partition.partition_index, partition.leader_id, partition.error_code), (1, 1, 0));
            assert_eq!((&partition.replica_nodes[..], &partition.isr_nodes[..]), (&[1][..], &[1][..]));
        });
    }
}

#[test]
fn null_asks_for_all_topics_and_an_empty_list_for_none() {
    let node = Node::start();
    for name in ["b", "a", "c"] {
        node.topic(name);
    }
    let mut client = node.client();
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let names: Vec<_> = topics(&mut client, 12, &all).into_iter().map(|it| it.0).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(topics(&mut client, 1, &named(&[])), []);
    assert_eq!(topics(&mut client, 0, &named(&[])).len(), 3, "version 0 has no null");
}

#[test]
fn unknown_and_bad_names_are_answered_one_by_one() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let long = "x".repeat(250);
    let found = topics(&mut client, 12, &named(&["absent", "../x", "t", ".", &long]));
    let errors: Vec<_> = found.iter().map(|it| it.1).collect();
    assert_eq!(errors, [3, 17, 0, 17, 17]);
}

#[test]
fn a_topic_is_found_by_its_id_from_version_12_on() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    let by_id = |topic_id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: None }]),
        ..MetadataRequest::default()
    };
    assert_eq!(topics(&mut client, 12, &by_id(partition.topic_id())), [("t".to_owned(), 0)]);
    assert_eq!(topics(&mut client, 12, &by_id(Uuid::from_u128(77))), [("-".to_owned(), 100)]);
}

#[test]
fn a_partition_without_a_leader_says_so() {
    let node = Node::start();
    node.broker.image().update(|image| {
        image.put_topic(ImageTopic {
            name: "t".into(),
            id: Uuid::from_u128(3),
            is_internal: false,
            partitions: vec![ImagePartition { leader_id: -1, replicas: [2].into(), ..Default::default() }],
        });
    });
    ask(&mut node.client(), 12, &named(&["t"]), |response| {
        assert_eq!(response.topics[0].partitions[0].error_code, 5);
    });
}

#[test]
fn advertised_addresses_go_before_the_one_connected_to_and_zmq_rides_along() {
    let node = Node::start();
    let advertised =
        |host: &str, port| [("PLAINTEXT".to_owned(), (host.to_owned(), port))].into_iter().collect();
    node.broker.image().update(|image| {
        image.brokers = vec![
            ImageBroker { id: 1, zmq_endpoint: Some("127.0.0.1:9192".to_owned()), ..Default::default() },
            ImageBroker { id: 2, endpoints: advertised("far.example", 9093), ..Default::default() },
            ImageBroker { id: 3, ..Default::default() },
        ];
    });
    let mut client = node.client();
    for (version, zmq) in [(8, None), (9, Some("127.0.0.1:9192")), (12, Some("127.0.0.1:9192"))] {
        ask(&mut client, version, &named(&[]), |response| {
            let brokers: Vec<_> = response.brokers.iter().map(|it| (it.node_id, it.host, it.port)).collect();
            let own = (1, "127.0.0.1", i32::from(node.address.port()));
            assert_eq!(brokers, [own, (2, "far.example", 9093)], "3 has no such listener");
            assert_eq!(response.brokers[0].zmq_endpoint, zmq);
        });
    }
    node.broker.image().update(|image| image.brokers[0].endpoints = advertised("near.example", 19092));
    ask(&mut client, 12, &named(&[]), |response| assert_eq!(response.brokers[0].host, "near.example"));
}

/// Error, leader, replicas, in-sync and offline replicas of the only partition.
type Described = (i16, i32, Vec<i32>, Vec<i32>, Vec<i32>);

fn described(client: &mut Client, version: i16) -> Described {
    ask(client, version, &named(&["t"]), |mut response| {
        let partition = response.topics[0].partitions.remove(0);
        let (replicas, isr) = (partition.replica_nodes, partition.isr_nodes);
        (partition.error_code, partition.leader_id, replicas, isr, partition.offline_replicas)
    })
}

#[test]
fn a_partition_is_described_by_the_brokers_that_the_client_can_reach() {
    let node = Node::start();
    let at = |listener: &str, id: i32| ImageBroker {
        id,
        rack: Some(format!("rack-{id}")),
        endpoints: [(listener.to_owned(), ("far.example".to_owned(), 9000 + id as u16))].into(),
        zmq_endpoint: Some(format!("far.example:{id}")),
    };
    let led_by = |leader_id| {
        node.broker.image().update(|image| {
            // 3 has no listener for this client, 4 does not live
            image.brokers =
                vec![ImageBroker { id: 1, ..Default::default() }, at("PLAINTEXT", 2), at("INSIDE", 3)];
            let (replicas, isr) = (vec![2, 1, 3, 4], vec![2, 3]);
            let partition = ImagePartition {
                leader_id,
                leader_epoch: 5,
                replicas: replicas.into(),
                isr: isr.into(),
                ..Default::default()
            };
            let (name, id, partitions) = ("t".into(), Uuid::from_u128(3), vec![partition]);
            image.put_topic(ImageTopic { name, id, is_internal: false, partitions });
        });
    };
    let mut client = node.client();
    led_by(2);
    assert_eq!(described(&mut client, 12), (0, 2, vec![2, 1, 3, 4], vec![2, 3], vec![3, 4]));
    assert_eq!(described(&mut client, 1), (0, 2, vec![2, 1, 3, 4], vec![2, 3], vec![]));
    assert_eq!(described(&mut client, 0), (9, 2, vec![2, 1], vec![2], vec![]), "only those that live");
    led_by(3);
    assert_eq!(described(&mut client, 12).0, 72, "LISTENER_NOT_FOUND");
    assert_eq!((described(&mut client, 5).0, described(&mut client, 5).1), (5, -1));
    led_by(4);
    assert_eq!((described(&mut client, 12).0, described(&mut client, 12).1), (5, -1));
    led_by(-1);
    assert_eq!((described(&mut client, 12).0, described(&mut client, 12).1), (5, -1));
    ask(&mut client, 12, &named(&[]), |response| {
        let brokers: Vec<_> =
            response.brokers.iter().map(|it| (it.node_id, it.rack, it.zmq_endpoint)).collect();
        assert_eq!(brokers, [(1, None, None), (2, Some("rack-2"), Some("far.example:2"))]);
    });
}

#[test]
fn only_a_request_that_may_create_topics_goes_to_the_control_plane() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let allowing =
        |names: &[&'static str]| MetadataRequest { allow_auto_topic_creation: true, ..named(names) };
    // the broker does not create topics
    assert_eq!(topics(&mut client, 12, &allowing(&["absent"]))[0].1, 3);
    node.broker.image().update(|image| image.auto_create_topics = true);
    // nothing to create
    assert_eq!(topics(&mut client, 12, &allowing(&["t"]))[0].1, 0);
    assert_eq!(topics(&mut client, 12, &allowing(&["../x"]))[0].1, 17);
    assert_eq!(topics(&mut client, 12, &named(&["absent"]))[0].1, 3);
    assert_eq!(topics(&mut client, 12, &MetadataRequest { topics: None, ..allowing(&[]) }).len(), 1);
    assert!(node.broker.control().is_empty());
    for version in [0, 3, 4, 12] {
        let request = allowing(&["absent", "t"]);
        client.send(api_key::METADATA, version, |w| request.encode(w, version).unwrap());
        eventually("the request is queued", || node.broker.control().len() == 1);
        let queued = node.broker.control().drain(10).remove(0);
        assert_eq!((queued.api_key, queued.api_version), (api_key::METADATA, version));
        queued.reply.send(vec![0, 0, 0, 1].into());
        assert_eq!(client.receive(), [0, 0, 0, 1]);
    }
}
