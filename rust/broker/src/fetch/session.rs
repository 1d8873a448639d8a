//! A fetch session (KIP-227): the partitions that a client fetches again and again, and what it was last told.

use fastlog_protocol::messages::fetch::{FetchRequest, FetchTopic, ForgottenTopic};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// The epoch of a request that begins a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request without a session, which also ends the one it names.
pub(crate) const FINAL_EPOCH: i32 = -1;

/// The epoch after `epoch`; it never becomes one of the special ones.
pub(crate) fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        negative if negative < 0 => FINAL_EPOCH,
        epoch => epoch + 1,
    }
}

/// A partition that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Empty where the request names topics by their ids (v13).
    pub(crate) topic: Arc<str>,
    /// Nil where it names them by their names.
    pub(crate) topic_id: Uuid,
    pub(crate) index: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: i32,
    /// Where a follower's log starts.
    pub(crate) log_start_offset: i64,
    /// What the client knows of the high watermark (KIP-1166); the largest number where it does not say.
    pub(crate) high_watermark: i64,
}

impl Wanted {
    fn key(&self) -> Key {
        (self.topic.clone(), self.topic_id, self.index)
    }
}

/// Topic by name or by id, and partition.
type Key = (Arc<str>, Uuid, i32);

/// What a response says about a partition, apart from records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
}

impl Told {
    /// Nothing, so that the next answer names the partition whatever it says.
    pub(crate) const NOTHING: Self =
        Self { high_watermark: -1, last_stable_offset: -1, log_start_offset: -1 };
}

/// What was found for a partition, as far as it decides about naming it in an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) told: Told,
    pub(crate) has_records: bool,
    /// An error or a diverging epoch: always named, also the next time.
    pub(crate) is_special: bool,
}

/// All partitions that a request names, in its order.
pub(crate) fn wanted_of(topics: &[FetchTopic<'_>], mut intern: impl FnMut(&str) -> Arc<str>) -> Vec<Wanted> {
    let mut wanted = Vec::with_capacity(topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in topics {
        let name = intern(topic.topic);
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: name.clone(),
            topic_id: topic.topic_id,
            index: partition.partition,
            // in a fetch any negative epoch is none, as in Kafka
            current_leader_epoch: partition.current_leader_epoch.max(-1),
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: partition.partition_max_bytes,
            log_start_offset: partition.log_start_offset,
            high_watermark: partition.high_watermark,
        }));
    }
    wanted
}

struct Cached {
    wanted: Wanted,
    told: Told,
}

type Place = u64;

/// The state of one session.
pub(crate) struct Session {
    /// The epoch that the next request must have.
    pub(crate) epoch: i32,
    /// In the order of service: partitions that brought records go to the end, so that one that always has
    /// some does not starve the others.
    partitions: BTreeMap<Place, Cached>,
    places: HashMap<Key, Place>,
    next_place: Place,
}

impl Session {
    /// A session of `wanted`, with what their first answer says.
    pub(crate) fn new(wanted: Vec<Wanted>, found: &[Found]) -> Self {
        let mut session = Self {
            epoch: next_epoch(INITIAL_EPOCH),
            partitions: BTreeMap::new(),
            places: HashMap::with_capacity(wanted.len()),
            next_place: 0,
        };
        for (wanted, found) in wanted.into_iter().zip(found) {
            let told = if found.is_special { Told::NOTHING } else { found.told };
            let high_watermark = wanted.high_watermark.max(told.high_watermark);
            session.put(Cached { wanted: Wanted { high_watermark, ..wanted }, told });
        }
        session
    }

    /// Number of partitions.
    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether its topics are named by their ids.
    pub(crate) fn has_ids(&self) -> bool {
        self.partitions.values().next().is_some_and(|it| !it.wanted.topic_id.is_nil())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    fn put(&mut self, cached: Cached) {
        let key = cached.wanted.key();
        if let Some(old) = self.places.insert(key, self.next_place) {
            self.partitions.remove(&old);
        }
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    /// Applies an incremental request: partitions it names are added or changed, forgotten ones removed.
    pub(crate) fn update(&mut self, request: &FetchRequest<'_>, intern: impl FnMut(&str) -> Arc<str>) {
        for wanted in wanted_of(&request.topics, intern) {
            let place = self.places.get(&wanted.key());
            match place.and_then(|place| self.partitions.get_mut(place)) {
                Some(cached) => cached.wanted = wanted,
                None => self.put(Cached { wanted, told: Told::NOTHING }),
            }
        }
        for ForgottenTopic { topic, topic_id, partitions } in &request.forgotten_topics_data {
            let topic: Arc<str> = (*topic).into();
            for index in partitions {
                if let Some(place) = self.places.remove(&(topic.clone(), *topic_id, *index)) {
                    self.partitions.remove(&place);
                }
            }
        }
    }

    /// What is to be read, in the order of service.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        self.partitions.values().map(|cached| cached.wanted.clone()).collect()
    }

    /// Notes what was found for `wanted`; whether an incremental answer has to name the partition.
    pub(crate) fn note(&mut self, wanted: &Wanted, found: &Found) -> bool {
        let key = wanted.key();
        let Some(place) = self.places.get(&key).copied() else {
            // forgotten by a later request; the client that asked for it hears of it once more
            return true;
        };
        let Some(cached) = self.partitions.get_mut(&place) else { return true };
        let changed = cached.told != found.told;
        cached.told = if found.is_special { Told::NOTHING } else { found.told };
        // a request that does not name the partition again was told this
        cached.wanted.high_watermark = cached.wanted.high_watermark.max(cached.told.high_watermark);
        if found.has_records
            && let Some(cached) = self.partitions.remove(&place)
        {
            self.put(cached);
        }
        changed || found.has_records || found.is_special
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastlog_protocol::messages::fetch::FetchPartition;

    fn wanted(index: i32) -> Wanted {
        Wanted {
            topic: "t".into(),
            topic_id: Uuid::nil(),
            index,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            max_bytes: 100,
            log_start_offset: -1,
            high_watermark: i64::MAX,
        }
    }

    fn found(high_watermark: i64) -> Found {
        let told = Told { high_watermark, last_stable_offset: high_watermark, log_start_offset: 0 };
        Found { told, has_records: false, is_special: false }
    }

    fn order(session: &Session) -> Vec<i32> {
        session.wanted().iter().map(|wanted| wanted.index).collect()
    }

    #[test]
    fn only_what_changed_is_named() {
        let mut session = Session::new(vec![wanted(0), wanted(1)], &[found(5), found(5)]);
        assert!(!session.note(&wanted(0), &found(5)));
        assert!(session.note(&wanted(1), &found(6)), "the high watermark alone moved");
        assert!(!session.note(&wanted(1), &found(6)));
        let stable = Told { last_stable_offset: 4, ..found(6).told };
        assert!(session.note(&wanted(1), &Found { told: stable, ..found(6) }));
    }

    #[test]
    fn an_error_is_named_each_time_and_so_is_its_end() {
        let mut session = Session::new(vec![wanted(0)], &[found(5)]);
        let error = Found { told: Told::NOTHING, has_records: false, is_special: true };
        assert!(session.note(&wanted(0), &error));
        assert!(session.note(&wanted(0), &error));
        assert!(session.note(&wanted(0), &found(5)));
        assert!(!session.note(&wanted(0), &found(5)));
    }

    #[test]
    fn a_partition_that_brought_records_goes_to_the_end() {
        let mut session = Session::new(vec![wanted(0), wanted(1), wanted(2)], &[found(5); 3]);
        session.note(&wanted(0), &Found { has_records: true, ..found(9) });
        assert_eq!(order(&session), [1, 2, 0]);
    }

    #[test]
    fn a_request_adds_changes_and_forgets() {
        let mut session = Session::new(vec![wanted(0), wanted(1)], &[found(5); 2]);
        let request = FetchRequest {
            topics: vec![FetchTopic {
                topic: "t",
                partitions: vec![
                    FetchPartition { partition: 0, fetch_offset: 7, ..FetchPartition::default() },
                    FetchPartition { partition: 2, ..FetchPartition::default() },
                ],
                ..FetchTopic::default()
            }],
            forgotten_topics_data: vec![ForgottenTopic {
                topic: "t",
                partitions: vec![1],
                ..ForgottenTopic::default()
            }],
            ..FetchRequest::default()
        };
        session.update(&request, |topic| topic.into());
        assert_eq!(order(&session), [0, 2]);
        assert_eq!(session.wanted().first().unwrap().fetch_offset, 7);
    }

    #[test]
    fn epochs_wrap_past_the_special_ones() {
        assert_eq!(next_epoch(0), 1);
        assert_eq!(next_epoch(i32::MAX), 1);
        assert_eq!(next_epoch(-1), -1);
    }
}
