use std::sync::Arc;

use uuid::Uuid;

use super::Session;
use crate::table::{Target, Wanted};

fn target(partition: i32, offset: i64) -> Wanted {
    let target = Target {
        slot: partition as u64,
        generation: 1,
        topic: Arc::from("t"),
        topic_id: Uuid::from_u128(7),
        partition,
        broker_id: 1,
        leader_epoch: 0,
        offset,
    };
    Wanted { target, ticket: 1, fetched_epoch: -1 }
}

#[test]
fn the_first_request_names_all_and_the_next_only_what_changed() {
    let mut session = Session::default();
    let first = session.plan(&[target(0, 0), target(1, 0)], false);
    assert_eq!((first.session_id, first.session_epoch, first.send), (0, 0, vec![0, 1]));
    session.answered(99);
    let second = session.plan(&[target(0, 5), target(1, 0)], false);
    assert_eq!((second.session_id, second.session_epoch, second.send), (99, 1, vec![0]));
    session.answered(99);
    let third = session.plan(&[target(0, 5), target(1, 0)], false);
    assert_eq!((third.session_epoch, third.send), (2, vec![]));
}

#[test]
fn partitions_no_longer_wanted_are_forgotten() {
    for by_id in [false, true] {
        let mut session = Session::default();
        session.plan(&[target(0, 0), target(1, 0)], by_id);
        session.answered(99);
        let plan = session.plan(&[target(0, 0)], by_id);
        assert_eq!(plan.send, Vec::<usize>::new());
        assert_eq!(plan.forgotten.iter().map(|gone| gone.2).collect::<Vec<_>>(), [1]);
        assert!(session.find("t", Uuid::from_u128(7), 1).is_none());
        assert!(session.find("t", Uuid::from_u128(7), 0).is_some());
        session.answered(99);
        assert_eq!(session.plan(&[target(0, 0), target(1, 3)], by_id).send, [1]);
    }
}

#[test]
fn a_broker_without_room_for_sessions_is_told_everything_every_time() {
    let mut session = Session::default();
    for _ in 0..3 {
        let plan = session.plan(&[target(0, 0), target(1, 0)], false);
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (0, 0, 2));
        assert!(plan.forgotten.is_empty());
        session.answered(0);
    }
}

#[test]
fn a_lost_session_begins_again_with_everything() {
    let mut session = Session::default();
    session.plan(&[target(0, 0)], false);
    session.answered(99);
    session.lost();
    let plan = session.plan(&[target(0, 0)], false);
    assert_eq!((plan.session_id, plan.session_epoch, plan.send), (0, 0, vec![0]));
    session.answered(100);
    session.restart();
    let plan = session.plan(&[target(0, 0)], false);
    assert_eq!((plan.session_id, plan.session_epoch, plan.send), (100, 0, vec![0]));
}

#[test]
fn names_and_ids_are_never_mixed_in_one_session() {
    let mut session = Session::default();
    session.plan(&[target(0, 0)], false);
    session.answered(99);
    let plan = session.plan(&[target(0, 0)], true);
    assert_eq!((plan.session_epoch, plan.send), (0, vec![0]));
}

#[test]
fn the_epoch_wraps_to_one() {
    let mut session = Session { id: 9, epoch: i32::MAX, ..Session::default() };
    session.answered(9);
    assert_eq!(session.epoch, 1);
}
