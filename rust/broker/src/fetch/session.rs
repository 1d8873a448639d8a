//! A fetch session (KIP-227): the partitions that a client fetches again and again, and what it was last told.

use super::read::{Isolation, Replica, Served};
use super::watch::{Signal, Slot, Watch};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::fetch::{FetchRequest, FetchTopic, ForgottenTopic};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The first version that names topics by their ids.
pub(crate) const TOPIC_IDS_VERSION: i16 = 13;
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
    /// There is more for the client than the answer has.
    pub(crate) has_more: bool,
}

/// What a fetch is to read: the partitions, and where they are or why there is nothing to read.
#[derive(Default)]
pub(crate) struct Look {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) partitions: Vec<Result<Served, ErrorCode>>,
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

impl Look {
    /// All that is `wanted`.
    pub(crate) fn of(wanted: Vec<Wanted>, find: impl FnMut(&Wanted) -> Result<Served, ErrorCode>) -> Self {
        let partitions = wanted.iter().map(find).collect();
        Self { wanted, partitions }
    }
}

/// How a request looks at the partitions of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) version: i16,
    pub(crate) isolation: Isolation,
    pub(crate) replica: Option<Replica>,
    /// Who is better to read from changes without a partition's doing.
    pub(crate) prefers_nearer: bool,
}

impl View {
    /// Whether it names topics by their ids.
    pub(crate) fn has_ids(self) -> bool {
        self.version >= TOPIC_IDS_VERSION
    }
}

struct Cached {
    wanted: Wanted,
    told: Told,
    place: Place,
    /// To be looked at by the next fetch: it changed, was asked for, or had something that the answer before left over.
    is_due: bool,
    /// As it was found the last time.
    served: Option<Served>,
    /// Of the partition in `served`.
    watch: Option<Arc<Watch>>,
}

/// The order of service.
type Place = u64;

/// The state of one session.
///
/// A fetch looks only at partitions that are due. Those that are not had nothing for the client when they were looked at
/// last, and each is watched since before that.
pub(crate) struct Session {
    /// The epoch that the next request must have.
    pub(crate) epoch: i32,
    /// Whether its topics are named by their ids.
    pub(crate) has_ids: bool,
    cached: Vec<Option<Cached>>,
    free: Vec<Slot>,
    slots: HashMap<Key, Slot>,
    /// Those that are due.
    due: Vec<Slot>,
    /// Partitions that brought records go to the end, so that one that always has some does not starve the others.
    next_place: Place,
    signal: Arc<Signal>,
    view: Option<View>,
    looked_at_all: Option<Instant>,
    /// When the request that is under way was made, and the last one that brought records.
    looked: Option<Instant>,
    brought: Option<Instant>,
    /// The time between the last two that brought some.
    between: Option<Duration>,
}

impl Session {
    /// A session of `wanted`, with what their first answer says.
    pub(crate) fn new(wanted: Vec<Wanted>, found: &[Found], has_ids: bool) -> Self {
        let mut session = Self {
            epoch: next_epoch(INITIAL_EPOCH),
            has_ids,
            cached: Vec::with_capacity(wanted.len()),
            free: Vec::new(),
            slots: HashMap::with_capacity(wanted.len()),
            due: Vec::with_capacity(wanted.len()),
            next_place: 0,
            signal: Arc::default(),
            view: None,
            looked_at_all: None,
            looked: None,
            brought: None,
            between: None,
        };
        for (wanted, found) in wanted.into_iter().zip(found) {
            let told = if found.is_special { Told::NOTHING } else { found.told };
            let high_watermark = wanted.high_watermark.max(told.high_watermark);
            session.put(Wanted { high_watermark, ..wanted }, told);
        }
        session
    }

    /// Number of partitions.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What its partitions tell.
    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    fn put(&mut self, wanted: Wanted, told: Told) {
        let key = wanted.key();
        if let Some(slot) = self.slots.get(&key) {
            self.remove(*slot);
        }
        let place = self.new_place();
        let cached = Some(Cached { wanted, told, place, is_due: true, served: None, watch: None });
        let slot = self.free.pop().unwrap_or(self.cached.len());
        match self.cached.get_mut(slot) {
            Some(free) => *free = cached,
            None => self.cached.push(cached),
        }
        self.slots.insert(key, slot);
        self.due.push(slot);
    }

    fn remove(&mut self, slot: Slot) {
        if let Some(cached) = self.cached.get_mut(slot).and_then(Option::take) {
            self.slots.remove(&cached.wanted.key());
            self.due.retain(|it| *it != slot);
            self.free.push(slot);
        }
    }

    fn new_place(&mut self) -> Place {
        self.next_place += 1;
        self.next_place
    }

    fn at(&mut self, slot: Slot) -> Option<&mut Cached> {
        self.cached.get_mut(slot).and_then(Option::as_mut)
    }

    fn slot(&self, wanted: &Wanted) -> Option<Slot> {
        self.slots.get(&wanted.key()).copied()
    }

    /// Has the next fetch look at a partition; false where it does already.
    fn make_due(&mut self, slot: Slot) -> bool {
        let is_new = self.at(slot).is_some_and(|it| !std::mem::replace(&mut it.is_due, true));
        if is_new {
            self.due.push(slot);
        }
        is_new
    }

    /// Applies an incremental request: partitions it names are added or changed, forgotten ones removed.
    pub(crate) fn update(&mut self, request: &FetchRequest<'_>, intern: impl FnMut(&str) -> Arc<str>) {
        for wanted in wanted_of(&request.topics, intern) {
            let slot = self.slot(&wanted);
            match slot.and_then(|slot| self.at(slot)) {
                Some(cached) => cached.wanted = wanted,
                None => self.put(wanted, Told::NOTHING),
            }
            slot.map(|slot| self.make_due(slot));
        }
        for ForgottenTopic { topic, topic_id, partitions } in &request.forgotten_topics_data {
            let topic: Arc<str> = (*topic).into();
            for index in partitions {
                if let Some(slot) = self.slots.get(&(topic.clone(), *topic_id, *index)) {
                    self.remove(*slot);
                }
            }
        }
    }

    /// What is to be read, in the order of service. All partitions are due to one who looks at them otherwise than the
    /// request before, and after `all_after` again, since time alone changes what is known of a follower.
    pub(crate) fn look(
        &mut self,
        view: View,
        now: Instant,
        all_after: Duration,
        mut find: impl FnMut(&Wanted) -> Result<Served, ErrorCode>,
    ) -> Look {
        let is_recent = self.looked_at_all.is_some_and(|then| now.duration_since(then) < all_after);
        if self.view != Some(view) || view.prefers_nearer || !is_recent {
            (self.view, self.looked_at_all) = (Some(view), Some(now));
            for slot in 0..self.cached.len() {
                self.make_due(slot);
            }
        }
        self.looked = Some(now);
        self.take_changed();
        let cached = &self.cached;
        let place = |slot: &Slot| cached.get(*slot).and_then(Option::as_ref).map(|it| it.place);
        self.due.sort_unstable_by_key(place);
        let mut look = Look::default();
        for slot in &self.due {
            let Some(cached) = self.cached.get_mut(*slot).and_then(Option::as_mut) else { continue };
            let found = find(&cached.wanted);
            cached.watch(&found, *slot, &self.signal);
            look.wanted.push(cached.wanted.clone());
            look.partitions.push(found);
        }
        look
    }

    /// What has become due since, as it was found the last time; nothing for a request of an earlier `epoch`.
    pub(crate) fn look_again(&mut self, epoch: i32) -> Look {
        let mut look = Look::default();
        if self.epoch == epoch {
            for slot in self.take_changed() {
                if let Some(Cached { wanted, served: Some(served), .. }) = self.at(slot) {
                    look.wanted.push(wanted.clone());
                    look.partitions.push(Ok(served.clone()));
                }
            }
        }
        look
    }

    /// Partitions that changed are due; which of them were not already.
    fn take_changed(&mut self) -> Vec<Slot> {
        let mut changed = self.signal.take();
        changed.retain(|slot| {
            if let Some(watch) = self.at(*slot).and_then(|it| it.watch.as_ref()) {
                watch.rearm();
            }
            self.make_due(*slot)
        });
        changed
    }

    /// Notes what was found for `wanted`; of each whether an incremental answer has to name it.
    pub(crate) fn note(&mut self, wanted: &[Wanted], found: impl Iterator<Item = Found>) -> Vec<bool> {
        let mut has_records = false;
        let each = wanted.iter().zip(found).map(|(wanted, found)| {
            has_records |= found.has_records;
            self.note_one(wanted, &found)
        });
        let named = each.collect();
        if has_records {
            self.between = self.looked.zip(self.brought).map(|(now, then)| now.duration_since(then));
            self.brought = self.looked;
        }
        let cached = &self.cached;
        self.due.retain(|slot| cached.get(*slot).and_then(Option::as_ref).is_some_and(|it| it.is_due));
        named
    }

    /// Whether more records are likely within that time, as the last ones came so.
    pub(crate) fn expects_records(&self, within: Duration) -> bool {
        self.between.is_some_and(|it| it <= within)
    }

    fn note_one(&mut self, wanted: &Wanted, found: &Found) -> bool {
        let end = self.new_place();
        let Some(cached) = self.slot(wanted).and_then(|slot| self.at(slot)) else {
            // forgotten by a later request; the client that asked for it hears of it once more
            return true;
        };
        let changed = cached.told != found.told;
        cached.told = if found.is_special { Told::NOTHING } else { found.told };
        // a request that does not name the partition again was told this
        cached.wanted.high_watermark = cached.wanted.high_watermark.max(cached.told.high_watermark);
        cached.is_due = found.has_records || found.is_special || found.has_more;
        if found.has_records {
            cached.place = end;
        }
        changed || found.has_records || found.is_special
    }
}

impl Cached {
    /// Watches the partition that was found, from before it is read.
    fn watch(&mut self, found: &Result<Served, ErrorCode>, slot: Slot, signal: &Arc<Signal>) {
        let Ok(found) = found else {
            // special, and so due until there is one
            (self.served, self.watch) = (None, None);
            return;
        };
        let is_watched = self.served.as_ref().is_some_and(|it| Arc::ptr_eq(&it.partition, &found.partition));
        self.served = Some(found.clone());
        if !is_watched {
            let watch = Watch::new(slot, signal.clone());
            found.partition.watches().add(&watch);
            self.watch = Some(watch);
        }
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
        Found { told, has_records: false, is_special: false, has_more: false }
    }

    const VIEW: View =
        View { version: 18, isolation: Isolation::LogEnd, replica: None, prefers_nearer: false };

    /// The partitions that a fetch looks at; none is open here, so each stays due.
    fn look(session: &mut Session, view: View, now: Instant) -> Vec<Wanted> {
        let none = |_: &Wanted| Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        session.look(view, now, Duration::from_secs(5), none).wanted
    }

    fn order(session: &mut Session) -> Vec<i32> {
        look(session, VIEW, Instant::now()).iter().map(|wanted| wanted.index).collect()
    }

    fn note(session: &mut Session, wanted: Wanted, found: Found) -> bool {
        session.note(&[wanted], [found].into_iter())[0]
    }

    #[test]
    fn only_what_changed_is_named() {
        let mut session = Session::new(vec![wanted(0), wanted(1)], &[found(5), found(5)], false);
        assert!(!note(&mut session, wanted(0), found(5)));
        assert!(note(&mut session, wanted(1), found(6)), "the high watermark alone moved");
        assert!(!note(&mut session, wanted(1), found(6)));
        let stable = Told { last_stable_offset: 4, ..found(6).told };
        assert!(note(&mut session, wanted(1), Found { told: stable, ..found(6) }));
    }

    #[test]
    fn an_error_is_named_each_time_and_so_is_its_end() {
        let mut session = Session::new(vec![wanted(0)], &[found(5)], false);
        let error = Found { is_special: true, ..found(-1) };
        assert!(note(&mut session, wanted(0), error));
        assert!(note(&mut session, wanted(0), error));
        assert!(note(&mut session, wanted(0), found(5)));
        assert!(!note(&mut session, wanted(0), found(5)));
    }

    #[test]
    fn a_partition_that_brought_records_goes_to_the_end() {
        let mut session = Session::new(vec![wanted(0), wanted(1), wanted(2)], &[found(5); 3], false);
        note(&mut session, wanted(0), Found { has_records: true, ..found(9) });
        assert_eq!(order(&mut session), [1, 2, 0]);
    }

    #[test]
    fn a_request_adds_changes_and_forgets() {
        let mut session = Session::new(vec![wanted(0), wanted(1)], &[found(5); 2], false);
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
        assert_eq!(order(&mut session), [0, 2]);
        assert_eq!(look(&mut session, VIEW, Instant::now()).first().unwrap().fetch_offset, 7);
    }

    #[test]
    fn only_what_is_due_is_looked_at() {
        let now = Instant::now();
        let mut session = Session::new(vec![wanted(0), wanted(1), wanted(2)], &[found(5); 3], false);
        let due =
            |session: &mut Session| look(session, VIEW, now).iter().map(|it| it.index).collect::<Vec<i32>>();
        assert_eq!(due(&mut session), [0, 1, 2], "what changed before they were watched is not known");
        let all = [wanted(0), wanted(1), wanted(2)];
        let more = Found { has_more: true, ..found(5) };
        session.note(&all, [found(5), more, found(5)].into_iter());
        assert_eq!(due(&mut session), [1], "it had more than went into the answer");
        session.note(&[wanted(1)], [found(5)].into_iter());
        assert_eq!(due(&mut session), [0_i32; 0]);
        session.signal().change(2);
        assert_eq!(due(&mut session), [2]);
        assert_eq!(due(&mut session), [2], "until there was an answer");
    }

    #[test]
    fn all_are_looked_at_by_another_kind_of_request_and_from_time_to_time() {
        let now = Instant::now();
        let mut session = Session::new(vec![wanted(0), wanted(1)], &[found(5); 2], false);
        let mut count = |view: View, now: Instant| {
            let count = look(&mut session, view, now).len();
            session.note(&[wanted(0), wanted(1)], [found(5); 2].into_iter());
            count
        };
        assert_eq!([count(VIEW, now), count(VIEW, now)], [2, 0]);
        let replica = Some(Replica { id: 2, epoch: 7 });
        assert_eq!([count(View { replica, ..VIEW }, now), count(View { replica, ..VIEW }, now)], [2, 0]);
        assert_eq!(count(View { replica, ..VIEW }, now + Duration::from_secs(5)), 2);
        let nearer = View { prefers_nearer: true, ..VIEW };
        assert_eq!([count(nearer, now), count(nearer, now)], [2, 2]);
    }

    #[test]
    fn records_are_expected_while_they_come_one_after_the_other() {
        let start = Instant::now();
        let mut session = Session::new(vec![wanted(0)], &[found(5)], false);
        let mut expects = |after_ms: u64, has_records: bool| {
            look(&mut session, VIEW, start + Duration::from_millis(after_ms));
            session.note(&[wanted(0)], [Found { has_records, ..found(5) }].into_iter());
            session.expects_records(Duration::from_millis(20))
        };
        assert!(!expects(0, true), "the first ones");
        assert!(!expects(100, true));
        assert!(expects(110, true));
        assert!(expects(115, false) && expects(125, true));
        assert!(!expects(200, true));
    }

    #[test]
    fn a_partition_that_was_forgotten_is_not_looked_at() {
        let mut session = Session::new(vec![wanted(0), wanted(1)], &[found(5); 2], false);
        let forgotten = ForgottenTopic { topic: "t", partitions: vec![0], ..ForgottenTopic::default() };
        let request = FetchRequest { forgotten_topics_data: vec![forgotten], ..FetchRequest::default() };
        session.update(&request, |topic| topic.into());
        session.signal().change(0);
        assert_eq!((order(&mut session), session.len()), (vec![1], 1));
    }

    #[test]
    fn epochs_wrap_past_the_special_ones() {
        assert_eq!(next_epoch(0), 1);
        assert_eq!(next_epoch(i32::MAX), 1);
        assert_eq!(next_epoch(-1), -1);
    }
}
