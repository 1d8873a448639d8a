//! Old leaders, old epochs, strangers, and leases that are over.

use crate::node::*;
use fastlog_broker::Clock;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::fetch::FetchPartition;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn older_epochs_are_refused_and_an_equal_one_takes_newer_replicas_only() {
    let trio = Trio::start();
    let leader = &trio.nodes[0];
    leader.change(1, 5, &[1, 2]).unwrap();
    assert_eq!(leader.change(2, 4, &[2]), Err(ErrorCode::FENCED_LEADER_EPOCH));
    leader.change(1, 5, &[1]).unwrap();
    assert!(leader.partition().has_enough_in_sync(), "of the same partition epoch");
    assert_eq!(leader.partition().role().leader_epoch, 5);
}

#[test]
fn requests_that_wait_are_answered_when_the_leadership_ends() {
    let trio = Trio::start();
    let [first, second, third] = &trio.nodes;
    let sent = first.produce(ALL, "a");
    let wanted = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let poll = first.fetch(-1, wanted, 60_000, false);
    let follower = first.fetch(2, FetchPartition { fetch_offset: 1, ..second.asks() }, 60_000, true);
    assert!(sent.is_waiting() && poll.is_waiting() && follower.is_waiting());
    first.change(2, 1, &[2, 3]).unwrap();
    assert_eq!(sent.produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(shown(&poll.bytes()).error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(shown(&follower.bytes()).error, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(first.produce(1, "b").produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(first.latest().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let late = first.fetch(3, third.asks(), 0, true);
    assert_eq!(shown(&late.bytes()).error, ErrorCode::FENCED_LEADER_EPOCH);
}

#[test]
fn an_old_leader_gets_no_acknowledgement_from_followers_that_know_better() {
    let trio = Trio::start();
    let [first, second, third] = &trio.nodes;
    let sent = first.produce(ALL, "a");
    second.change(2, 1, &[2, 3]).unwrap();
    third.change(2, 1, &[2, 3]).unwrap();
    for node in [second, third] {
        let fetch = first.fetch(node.id, FetchPartition { fetch_offset: 1, ..node.asks() }, 0, true);
        assert_eq!(shown(&fetch.bytes()).error, ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    assert!(sent.is_waiting());
    assert_eq!(first.offsets().1, 0);
}

#[test]
fn what_the_broker_writes_itself_is_written_in_the_leadership_that_it_names_only() {
    let trio = Trio::start();
    let leader = &trio.nodes[0];
    assert_eq!(leader.produce_in(0, "a", true).produced(), (ErrorCode::NONE, 0));
    leader.change(1, 2, &[1, 2, 3]).unwrap();
    for epoch in [0, 1, 3] {
        let refused = leader.produce_in(epoch, "decided in another leadership", true);
        assert_eq!(refused.produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    assert_eq!(leader.produce_in(2, "b", true).produced(), (ErrorCode::NONE, 1));
    // clients write there what they like
    assert_eq!(leader.produce_in(0, "c", false).produced(), (ErrorCode::NONE, 2));
}

#[test]
fn strangers_and_client_listeners_are_refused() {
    let trio = Trio::start();
    let [leader, second, _] = &trio.nodes;
    leader.write("a");
    let on_clients = leader.fetch(2, second.asks(), 0, false);
    assert_eq!(shown(&on_clients.bytes()).error, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let unassigned = leader.fetch(4, second.asks(), 0, true);
    assert_eq!(shown(&unassigned.bytes()).error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    leader.broker.set_broker_epochs([(2, 21)].into());
    let gone = leader.fetch(2, second.asks(), 0, true);
    assert_eq!(shown(&gone.bytes()).error, ErrorCode::STALE_BROKER_EPOCH);
}

#[test]
fn a_lease_that_is_over_stops_what_rests_on_it_alone() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    leader.broker.set_lease(leader.clock.monotonic_ns() + 1_000_000_000);
    leader.write("a");
    second.catch_up(leader);
    third.catch_up(leader);
    assert_eq!(leader.consume(0).values.len(), 1);
    leader.clock.pass_seconds(2);
    assert_eq!(leader.produce(1, "b").produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let sent = leader.produce(ALL, "c");
    second.catch_up(leader);
    third.catch_up(leader);
    assert_eq!(sent.produced(), (ErrorCode::NONE, 1), "others confirm the leadership");
    assert_eq!(leader.consume(0).values.len(), 1, "what was known before is shown");
    assert_eq!(leader.consume(1).error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(leader.latest().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    leader.broker.set_lease(leader.clock.monotonic_ns() + 1_000_000_000);
    assert_eq!(leader.latest(), (ErrorCode::NONE, 2));
    assert_eq!(leader.write("d"), 2);
}

/// A producer gives up on a sequence error; the broker that leads by now may have what this one lacks.
#[test]
fn who_may_not_lead_any_more_does_not_tell_a_producer_that_its_batches_are_lost() {
    let trio = Trio::start();
    let leader = &trio.nodes[0];
    leader.broker.set_lease(leader.clock.monotonic_ns() + 1_000_000_000);
    assert_eq!(leader.produce_sequence(1, 0).produced().0, ErrorCode::NONE);
    assert_eq!(leader.produce_sequence(ALL, 5).produced().0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    leader.clock.pass_seconds(2);
    assert_eq!(leader.produce_sequence(ALL, 5).produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
}

/// Batches that a producer sent one behind the other to who does not lead yet, and leads before it has judged them all.
fn sent_too_early(trio: &Trio) -> &Node {
    let [first, second, _] = &trio.nodes;
    assert_eq!(first.produce_sequence(1, 0).produced().0, ErrorCode::NONE);
    second.catch_up(first);
    assert_eq!(second.produce_sequence(ALL, 1).produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(second.produce_sequence(ALL, 2).produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    trio.elect(2, 1, &[1, 2, 3]);
    second
}

#[test]
fn what_was_sent_behind_a_refused_batch_waits_until_that_comes_again() {
    let trio = Trio::start();
    let leader = sent_too_early(&trio);
    // out of order, but nothing is lost: librdkafka would go on in another producer epoch
    assert_eq!(leader.produce_sequence(1, 3).produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    for sequence in 1..4 {
        let expected = (ErrorCode::NONE, i64::from(sequence));
        assert_eq!(leader.produce_sequence(1, sequence).produced(), expected);
    }
}

/// The producer is to be told where its first batch lies before it is told that a later one is there.
#[test]
fn what_was_sent_behind_a_refused_batch_waits_for_it_also_where_that_is_in_the_log() {
    let trio = Trio::start();
    let [first, second, _] = &trio.nodes;
    assert_eq!(first.produce_sequence(1, 0).produced().0, ErrorCode::NONE);
    assert!(first.produce_sequence(ALL, 1).is_waiting());
    assert_eq!(second.produce_sequence(ALL, 1).produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    second.catch_up(first);
    trio.elect(2, 1, &[1, 2, 3]);
    assert_eq!(second.produce_sequence(1, 2).produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(second.produce_sequence(1, 1).produced(), (ErrorCode::NONE, 1));
    assert_eq!(second.produce_sequence(1, 2).produced(), (ErrorCode::NONE, 2));
}

#[test]
fn a_refusal_is_forgotten_after_a_while_and_where_another_broker_led_since() {
    let trio = Trio::start();
    let leader = sent_too_early(&trio);
    leader.clock.pass_seconds(2);
    assert_eq!(leader.produce_sequence(1, 3).produced().0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);

    let trio = Trio::start();
    let [first, second, _] = &trio.nodes;
    assert_eq!(second.produce_sequence(ALL, 0).produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    for sequence in 0..6 {
        assert_eq!(first.produce_sequence(1, sequence).produced().0, ErrorCode::NONE);
    }
    second.catch_up(first);
    trio.elect(2, 1, &[1, 2, 3]);
    assert_eq!(second.produce_sequence(1, 6).produced(), (ErrorCode::NONE, 6), "more than are on their way");
}

/// Leaders change while producers write: every acknowledged record is there at the end, on all replicas.
#[test]
fn nothing_acknowledged_is_lost_while_leaders_change() {
    const ROUNDS: i32 = 12;
    // on a busy machine the producers may not have had a turn by then
    const ROUNDS_MAX: i32 = 2_000;
    let trio = Trio::start();
    let (done, is_any_acknowledged) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut acknowledged: Vec<(i64, String)> = Vec::new();
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let (trio, done, is_any_acknowledged) = (&trio, &done, &is_any_acknowledged);
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for number in 0.. {
                        if done.load(Ordering::SeqCst) {
                            return kept;
                        }
                        let value = format!("{producer}-{number}");
                        let node = &trio.nodes[number % 3];
                        if let (ErrorCode::NONE, offset) = node.produce(ALL, &value).produced() {
                            kept.push((offset, value));
                            is_any_acknowledged.store(true, Ordering::SeqCst);
                        }
                    }
                    kept
                })
            })
            .collect();
        let mut round = 0;
        while round < ROUNDS || (round < ROUNDS_MAX && !is_any_acknowledged.load(Ordering::SeqCst)) {
            let leader = &trio.nodes[round as usize % 3];
            trio.elect(leader.id, round + 1, &[1, 2, 3]);
            // nothing is elected that lacks what was acknowledged: all are in sync by positions
            for _ in 0..20 {
                let others = trio.nodes.iter().filter(|it| it.id != leader.id);
                others.for_each(|it| drop(it.follow(leader)));
            }
            round += 1;
        }
        let last = &trio.nodes[(round as usize - 1) % 3];
        done.store(true, Ordering::SeqCst);
        while producers.iter().any(|it| !it.is_finished()) {
            let others = trio.nodes.iter().filter(|it| it.id != last.id);
            others.for_each(|it| drop(it.follow(last)));
        }
        acknowledged = producers.into_iter().flat_map(|it| it.join().unwrap()).collect();
        trio.nodes.iter().filter(|it| it.id != last.id).for_each(|it| it.catch_up(last));
    });
    assert!(!acknowledged.is_empty());
    let found = trio.nodes[0].records();
    for record in &acknowledged {
        assert!(found.contains(record), "{record:?} was acknowledged");
    }
    assert_eq!(trio.nodes[1].records(), found);
    assert_eq!(trio.nodes[2].records(), found);
}
