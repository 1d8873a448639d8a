//! Finding the partition that a request names, while topics come and go.
//!
//! A topic's partitions are open before the image has it, and the image has lost it before they are taken out. The two
//! are read one after the other, so that a topic may come or go in between.

use crate::image::ImageTopic;
use fastlog_protocol::ErrorCode;
use std::sync::Arc;

/// The partition if it is open here. Else why not: there is none, it is led elsewhere, or the image says that it is led
/// here and it is not open. `open` looks into the table and `described` into the image in force.
///
/// That last one is `KAFKA_STORAGE_ERROR` where this broker is alone. In a cluster it is `NOT_LEADER_OR_FOLLOWER`: the
/// image may mean a process of this broker before this one, which leads it as soon as it is registered; or its log could
/// not be opened, and is tried again. Both end by themselves, and the clients of each ask anew.
pub(crate) fn find_led<P>(
    node_id: i32,
    is_alone: bool,
    index: i32,
    open: impl Fn() -> Option<P>,
    described: impl Fn() -> Option<Arc<ImageTopic>>,
) -> Result<P, ErrorCode> {
    if let Some(partition) = open() {
        return Ok(partition);
    }
    let topic = led_topic(node_id, index, described())?;
    // it may have come since it was looked for
    if let Some(partition) = open() {
        return Ok(partition);
    }
    // or gone since the image had it, and come anew
    let now = led_topic(node_id, index, described())?;
    Err(match (Arc::ptr_eq(&topic, &now), is_alone) {
        (true, true) => ErrorCode::KAFKA_STORAGE_ERROR,
        (true, false) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        (false, _) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    })
}

/// The topic where the image says that this node leads its partition.
fn led_topic(node_id: i32, index: i32, topic: Option<Arc<ImageTopic>>) -> Result<Arc<ImageTopic>, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let leader = topic.partitions.iter().find(|it| it.index == index).map(|it| it.leader_id);
    match leader {
        Some(leader) if leader == node_id => Ok(topic),
        Some(_) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImagePartition;
    use std::cell::RefCell;

    const NODE: i32 = 1;

    fn topic(leader_id: i32) -> Option<Arc<ImageTopic>> {
        let partitions = vec![ImagePartition { leader_id, ..ImagePartition::default() }];
        Some(Arc::new(ImageTopic { name: "t".into(), id: uuid::Uuid::nil(), is_internal: false, partitions }))
    }

    /// What is found where each look sees the next of what it is given, and the last one over and over.
    fn found(
        open: &[Option<&'static str>],
        described: &[Option<Arc<ImageTopic>>],
    ) -> Result<&'static str, i16> {
        fn next<T: Clone>(left: &RefCell<Vec<T>>) -> T {
            let mut left = left.borrow_mut();
            if left.len() > 1 { left.remove(0) } else { left[0].clone() }
        }
        let (open, described) = (RefCell::new(open.to_vec()), RefCell::new(described.to_vec()));
        find_led(NODE, true, 0, || next(&open), || next(&described)).map_err(|error| error.0)
    }

    #[test]
    fn a_partition_that_stays_or_is_absent_is_told_as_it_is() {
        assert_eq!(found(&[Some("p")], &[None]), Ok("p"));
        assert_eq!(found(&[None], &[None]), Err(3));
        assert_eq!(found(&[None], &[topic(2)]), Err(6));
        assert_eq!(found(&[None], &[topic(NODE)]), Err(56), "it could not be opened");
        let other = find_led(NODE, true, 1, || None::<()>, || topic(NODE));
        assert_eq!(other.unwrap_err(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    /// It may mean the process before this one: nothing is wrong with the disk.
    #[test]
    fn in_a_cluster_a_partition_that_is_not_led_yet_is_asked_for_again() {
        let described = topic(NODE);
        let found = find_led(NODE, false, 0, || None::<()>, || described.clone());
        assert_eq!(found.unwrap_err(), ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }

    #[test]
    fn a_topic_that_comes_between_two_looks_is_found() {
        assert_eq!(found(&[None, Some("p")], &[topic(NODE)]), Ok("p"));
    }

    #[test]
    fn a_topic_that_goes_between_two_looks_is_unknown() {
        assert_eq!(found(&[None], &[topic(NODE), None]), Err(3));
        assert_eq!(found(&[None], &[topic(NODE), topic(NODE)]), Err(3), "another one of that name");
    }
}
